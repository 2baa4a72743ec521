"""Method mix: sources in turn, by seed, id and sample alone; each candidate tells its source."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from test_inpaint import CONFIG, make_batch
from test_orbits import checked
from xtalfill.core.batch import Batch, read_batch, write_batch
from xtalfill.core.errors import ConfigError
from xtalfill.core.files import WEIGHTS
from xtalfill.inputs.batching import build_batch
from xtalfill.interactive.settings import make_all_settings
from xtalfill.models.hostnet import HostNet
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.orders import Numbers
from xtalfill.proposals.score_models import ScoreModels, load_models
from xtalfill.proposals.stage import STAGE, inpaint_batch
from xtalfill.registry.mix import (
    CLASSES,
    MIX,
    Mix,
    Share,
    Source,
    host_class,
    read_mix,
    schedule,
    schedule_within,
)

SETTINGS = SamplerSettings(steps=3, predictor="x0_renoise", renoise=0.7, corrector_steps=0)
SHARES = {"host": 5, "host_warm": 2, "symmetric": 2, "voids": 1}
FEW = {"voids": 2, "symmetric": 1, "random": 1}
ALL_SOURCES = Mix(read_mix().sources, [Share(name, None, SHARES) for name in CLASSES])


@pytest.fixture(scope="module")
def models() -> ScoreModels:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return ScoreModels({"host": HostNet(CONFIG).eval()})


def sources(batch: Batch) -> list[str]:
    return list(batch.stages[STAGE].arrays["source"])


def sites(batch: Batch, method: str, sample: int, name: str = "brucite") -> bytes:
    rows = (batch.id == name) & (batch.method == method) & (batch.sample == sample)
    here = batch.atoms_slice(int(np.flatnonzero(rows)[0]))
    return bytes(batch.stages[STAGE].arrays["positions"][here].tobytes())


def test_shares_are_kept_by_every_prefix() -> None:
    found = schedule(SHARES, 40)
    assert Counter(name for name, _ in found) == {name: 4 * n for name, n in SHARES.items()}
    for k in range(1, 41):
        assert schedule(SHARES, k) == found[:k]
        for name, share in SHARES.items():
            assert abs(sum(one == name for one, _ in found[:k]) - k * share / 10) < 1.0
    numbers = [number for name, number in found if name == "host"]
    assert numbers == list(range(20))


def test_a_source_without_further_candidates_leaves_its_places() -> None:
    asked: list[tuple[str, int]] = []

    def available(name: str, wanted: int) -> int:
        asked.append((name, wanted))
        return min(wanted, {"voids": 1, "symmetric": 0}.get(name, wanted))

    found = schedule_within(SHARES, 20, available)
    assert Counter(name for name, _ in found) == {"host": 14, "host_warm": 5, "voids": 1}
    assert found[:10] == schedule_within(SHARES, 10, available)
    assert schedule_within({"voids": 1}, 3, available) == [("voids", 0)]


def test_the_class_of_a_host_follows_from_its_elements() -> None:
    hosts = {"PdTi2": "metal", "B4": "metal", "Si": "metal", "NaMg": "metal", "LiH": "metal"}
    hosts |= {"MgO2": "salt", "KPO4": "salt", "NaN": "salt", "BaSO5": "salt"}
    hosts |= {"NCl": "molecule", "CON2": "molecule", "BO3": "molecule", "O": "molecule"}
    assert {name: host_class(Atoms(name).numbers.tolist()) for name in hosts} == hosts


def test_the_number_of_sites_decides_within_a_class() -> None:
    entries = [
        Share("metal", 4, {"voids": 1}),
        *(Share(one, None, {"random": 1}) for one in CLASSES),
    ]
    mix = Mix(read_mix().sources, entries)
    assert [dict(mix.shares("metal", n)) for n in (4, 5)] == [{"voids": 1}, {"random": 1}]


@pytest.mark.parametrize(
    "entries",
    [
        [Share(name, None, {"host": 1}) for name in CLASSES[:2]],
        [Share(name, 3, {"host": 1}) for name in CLASSES],
        [Share(name, None, {"other": 1}) for name in CLASSES],
        [Share(name, None, {"host": 0}) for name in CLASSES],
        [Share("glass", None, {"host": 1})],
    ],
)
def test_shares_that_do_not_fit_are_refused(entries: list[Share]) -> None:
    with pytest.raises(ConfigError, match="mix: "):
        Mix({"host": Source("host", "host")}, entries)


def test_a_source_looks_at_a_proposal_at_least() -> None:
    entries = [Share(name, None, {"host": 1}) for name in CLASSES]
    with pytest.raises(ConfigError, match="the source host must look at 1 proposal or more"):
        Mix({"host": Source("host", "host", looks=0)}, entries)


def test_only_hosts_of_metals_have_several_sources_by_default(
    brucite: Atoms, models: ScoreModels
) -> None:
    rows = [("brucite", method, k) for method in (MIX, "host") for k in range(3)]
    batch = make_batch({"brucite": brucite}, rows, 42)
    inpaint_batch(batch, models, SETTINGS)
    assert set(sources(batch)) == {"host"}
    for sample in range(3):
        assert sites(batch, MIX, sample) == sites(batch, "host", sample)
    metal = build_batch([checked("PdH", 2)], {}, methods=(MIX,), samples=10, seed=42)
    inpaint_batch(metal, models, SETTINGS, numbers=Numbers(10))
    assert Counter(sources(metal)[:10]) == {"host": 6, "symmetric": 3, "voids": 1}


def test_sources_without_a_network_look_at_more_proposals(models: ScoreModels) -> None:
    """RELAX keeps as many of a source as it has among the candidates."""
    hosts = [checked("NaMgH3"), checked("brucite")]
    batch = build_batch(hosts, {}, methods=(MIX,), samples=10, seed=42)
    assert Counter(batch.id.tolist()) == {"NaMgH3": 6 + 4 * (3 + 1), "brucite": 10}
    inpaint_batch(batch, models, SETTINGS, numbers=Numbers(10))
    metal = [name for name, own in zip(sources(batch), batch.id == "NaMgH3", strict=True) if own]
    assert Counter(metal) == {"host": 6, "symmetric": 12, "voids": 4}
    assert Counter(metal[:10]) == {"host": 6, "symmetric": 3, "voids": 1}
    orbits = {sites(batch, MIX, k, "NaMgH3") for k, name in enumerate(metal) if name == "symmetric"}
    assert len(orbits) == 12
    twice = build_batch(hosts[:1], {}, methods=(MIX,), samples=5, oversample=2, seed=42)
    inpaint_batch(twice, models, SETTINGS, numbers=Numbers(5, 2))
    assert Counter(sources(twice)) == {"host": 6, "symmetric": 8}


def test_proposals_that_a_source_does_not_have_are_absent(models: ScoreModels) -> None:
    batch = build_batch([checked("PdH")], {}, methods=(MIX,), samples=10, seed=42)
    inpaint_batch(batch, models, SETTINGS, numbers=Numbers(10))
    counts = Counter(sources(batch))
    assert counts["voids"] == 2
    assert counts["host"] >= 6
    assert set(batch.status[:10]) == {"ok"}
    assert "absent" in batch.status


def test_candidates_are_those_of_the_source(brucite: Atoms, models: ScoreModels) -> None:
    rows = [("brucite", MIX, k) for k in range(10)]
    rows += [("brucite", name, k) for name in ("host", "symmetric", "voids") for k in range(3)]
    batch = make_batch({"brucite": brucite}, rows, 42)
    inpaint_batch(batch, models, SETTINGS, mix=ALL_SOURCES)
    assert sources(batch)[10:] == [row[1] for row in rows[10:]]
    plan = schedule_within(SHARES, 10, lambda _, wanted: wanted)
    assert sources(batch)[:10] == [name for name, _ in plan]
    shared = [(k, name, n) for k, (name, n) in enumerate(plan) if name != "host_warm" and n < 3]
    assert {name for _, name, _ in shared} == {"host", "symmetric", "voids"}
    for sample, name, number in shared:
        assert sites(batch, MIX, sample) == sites(batch, name, number)
    assert batch.stages[STAGE].attrs["mix"]["sources"]["host_warm"]["renoise"] == 1.0


def test_the_warm_source_has_other_noise(brucite: Atoms, models: ScoreModels) -> None:
    """Equal noise at another temperature would give much the same crystals."""
    batch = make_batch({"brucite": brucite}, [("brucite", MIX, k) for k in range(10)], 42)
    hot = make_batch({"brucite": brucite}, [("brucite", "host", 0)], 42)
    inpaint_batch(batch, models, SETTINGS, mix=ALL_SOURCES)
    inpaint_batch(hot, models, replace(SETTINGS, renoise=1.0))
    first = sources(batch).index("host_warm")
    assert sites(batch, MIX, first) != sites(hot, "host", 0)


def test_a_candidate_is_bit_identical_alone_and_in_any_batch(
    brucite: Atoms, rocksalt: Atoms, models: ScoreModels
) -> None:
    crystals = {"brucite": brucite, "rocksalt": rocksalt}
    rows = [("rocksalt", MIX, k) for k in range(4)] + [("brucite", MIX, k) for k in range(12)]
    batch = make_batch(crystals, rows, 42)
    inpaint_batch(batch, models, SETTINGS, mix=ALL_SOURCES)
    for sample in (0, 3, 7, 11):
        alone = make_batch(crystals, [("brucite", MIX, sample)], 42)
        inpaint_batch(alone, models, SETTINGS, mix=ALL_SOURCES)
        assert sources(alone)[0] == sources(batch)[4 + sample]
        assert sites(alone, MIX, sample) == sites(batch, MIX, sample)
    after = batch.stages[STAGE].arrays["positions"]
    assert after[batch.is_host].tobytes() == batch.positions[batch.is_host].tobytes()


def test_the_next_source_takes_the_place_of_one_that_is_used_up(
    tmp_path: Path,
) -> None:
    plain = {name: replace(source, looks=1) for name, source in read_mix().sources.items()}
    few = replace(read_mix(), sources=plain, entries=[Share(name, None, FEW) for name in CLASSES])
    batch = build_batch([checked("PdH")], {}, methods=(MIX,), samples=40, seed=42, mix=few)
    inpaint_batch(batch, ScoreModels(), SETTINGS, numbers=Numbers(40), mix=few)
    assert set(batch.status) == {"ok"}
    counts = Counter(sources(batch))
    assert counts["voids"] < 10 < counts["random"]  # of shares of 20 and 10
    write_batch(batch, tmp_path / "b.h5")
    assert sources(read_batch(tmp_path / "b.h5")) == sources(batch)


def test_elements_that_the_network_does_not_know_go_to_other_sources(models: ScoreModels) -> None:
    batch = build_batch([checked("PdH")], {}, methods=(MIX,), samples=5, seed=42)
    batch.atomic_numbers[batch.is_host] = 117
    inpaint_batch(batch, models, SETTINGS, numbers=Numbers(5))
    assert Counter(sources(batch)[:5]) == {"voids": 2, "symmetric": 1, MIX: 2}
    assert batch.status.tolist()[:5] == ["ok"] * 3 + ["absent"] * 2
    assert "have 3 way(s)" in batch.message[-1]


def test_a_host_that_no_source_can_fill_fails_with_the_sources(
    brucite: Atoms, models: ScoreModels
) -> None:
    batch = make_batch({"brucite": brucite}, [("brucite", MIX, 0)], 42)
    batch.atomic_numbers[np.flatnonzero(batch.atomic_numbers == 12)] = 117
    inpaint_batch(batch, models, SETTINGS)
    assert batch.status.tolist() == ["failed"]
    assert "no source of the mix (host) knows all elements" in batch.message[0]


def test_restore_takes_it_as_any_method() -> None:
    assert make_all_settings({"method": "mix,random"}).check.methods == ("mix", "random")
    assert load_models([MIX], given=[], bundled=sorted(WEIGHTS.glob("*.pt"))).networks.keys() == {
        "host"
    }
