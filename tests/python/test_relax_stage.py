"""RELAX on a batch: results, unchanged data, failures."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analytic_potential import MorsePotential, WiderMorse, crystals, morse
from xtalfill.core.batch import Batch, Stage, content_sha256
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError, InputError
from xtalfill.core.geometry import nearest_distance
from xtalfill.relax.interface import Evaluation, Potential
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch

SETTINGS = RelaxSettings(
    sites_fmax=0.05, sites_max_steps=300, fmax=0.05, max_steps=400, max_atoms_per_batch=60
)


def make_batch(n: int = 5) -> Batch:
    """Return a batch of n proposals and a reference with the id of the first."""
    some = crystals(n, seed=1)
    some.append(some[0])
    counts = [len(crystal.numbers) for crystal, _ in some]
    filled = np.concatenate([free for _, free in some])
    proposed = np.concatenate([crystal.positions for crystal, _ in some])
    known = np.repeat([*[False] * n, True], counts)
    return Batch(
        positions=np.where((filled & ~known)[:, None], np.nan, proposed),
        atomic_numbers=np.concatenate([crystal.numbers for crystal, _ in some]),
        system_idx=np.repeat(np.arange(n + 1), counts),
        is_host=~filled,
        cell=np.stack([crystal.cell for crystal, _ in some]),
        id=[f"c{k}" for k in range(n)] + ["c0"],
        method=["host"] * n + ["reference"],
        sample=[0] * (n + 1),
        seed=[42] * (n + 1),
        status=["ok"] * (n + 1),
        message=[""] * (n + 1),
        stages={"inpaint": Stage({"positions": proposed}, {"model": "none"})},
    )


def relax(
    batch: Batch,
    settings: RelaxSettings = SETTINGS,
    potential: Potential | None = None,
    **more: Any,
) -> Batch:
    relax_batch(batch, potential or MorsePotential(), settings, progress=io.StringIO(), **more)
    batch.validate()
    return batch


def test_absent_candidate_stays_absent() -> None:
    batch = make_batch()
    batch.stages["inpaint"].arrays["positions"][batch.atoms_slice(0)][2:] = np.nan
    batch.mark_absent(0, "inpaint: no more")
    relax(batch)
    assert (batch.status[0], batch.message[0]) == ("absent", "inpaint: no more")
    assert np.isnan(batch.stages["relax_positions"].arrays["energy"][0])
    select_candidates(batch)
    assert batch.stages["select"].arrays["rank"][0] == -1
    assert (batch.status[1:] == "ok").all()


def test_both_steps_converge() -> None:
    batch = relax(make_batch())
    assert list(batch.stages) == ["inpaint", "relax_sites", "relax_positions"]
    for name in ("relax_sites", "relax_positions"):
        arrays = batch.stages[name].arrays
        found = set(arrays) - {"host_shift", "note"}
        assert found == {"positions", "energy", "forces", "fmax", "n_steps", "converged"}
        assert arrays["converged"].all()
        assert (arrays["fmax"] < 0.05).all()
        for index in range(batch.n_systems):
            here = batch.atoms_slice(index)
            at_the_end = Crystal(
                batch.atomic_numbers[here], arrays["positions"][here], batch.cell[index]
            )
            assert arrays["energy"][index] == pytest.approx(morse(at_the_end).energy, abs=1e-9)
            np.testing.assert_allclose(arrays["forces"][here], morse(at_the_end).forces, atol=1e-9)
    assert (batch.status == "ok").all()
    assert (batch.message == "").all()


def test_host_moves_only_in_the_second_step() -> None:
    batch = relax(make_batch())
    before = batch.stages["inpaint"].arrays["positions"]
    sites = batch.stages["relax_sites"].arrays["positions"]
    full = batch.stages["relax_positions"].arrays["positions"]
    host = batch.is_host
    assert sites[host].tobytes() == before[host].tobytes()
    assert (np.linalg.norm(sites - before, axis=1)[~host] > 0).all()
    assert np.abs(full[host] - before[host]).max() > 1e-3


def test_second_step_continues_and_lowers_the_energy() -> None:
    batch = relax(make_batch())
    sites = batch.stages["relax_sites"].arrays["energy"]
    assert (batch.stages["relax_positions"].arrays["energy"] <= sites + 1e-9).all()
    only_sites = relax(make_batch(), replace(SETTINGS, max_steps=0))
    assert only_sites.stages["relax_positions"].arrays["energy"].tolist() == sites.tolist()


def test_reference_is_relaxed_like_a_candidate() -> None:
    batch = make_batch()
    reference = batch.reference_of("c0")
    relax(batch)
    energy = batch.stages["relax_positions"].arrays["energy"]
    assert energy[reference] == energy[0]  # its positions are those of candidate 0


def test_result_is_independent_of_the_batch_size() -> None:
    first, second = relax(make_batch()), relax(make_batch())
    assert content_sha256(first) == content_sha256(second)
    packed = relax(make_batch(), replace(SETTINGS, max_atoms_per_batch=1, threads=2))
    for name in ("relax_sites", "relax_positions"):
        one, other = first.stages[name].arrays, packed.stages[name].arrays
        assert one["positions"].tobytes() == other["positions"].tobytes()


def test_parameters_are_plain_json() -> None:
    batch = relax(make_batch())
    attrs = batch.stages["relax_positions"].attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert (attrs["fmax"], attrs["max_steps"]) == (0.05, 400)
    assert attrs["weights"] == {"morse": "0" * 64}
    assert attrs["versions"]["numpy"] == np.__version__


def test_failed_systems_are_skipped() -> None:
    batch = make_batch()
    batch.fail(1, "inpaint: it rained")
    relax(batch)
    here = batch.atoms_slice(1)
    for name in ("relax_sites", "relax_positions"):
        arrays = batch.stages[name].arrays
        assert np.isnan(arrays["positions"][here]).all()
        assert np.isnan(arrays["energy"][1])
        assert np.isnan(arrays["fmax"][1])
        assert (arrays["n_steps"][1], arrays["converged"][1]) == (0, False)
    assert (batch.status[1], batch.message[1]) == ("failed", "inpaint: it rained")
    assert batch.status.tolist().count("ok") == batch.n_systems - 1


def test_unsupported_elements_and_invalid_proposals_fail() -> None:
    batch = make_batch()
    batch.atomic_numbers[batch.atoms_slice(2)] = 92
    batch.stages["inpaint"].arrays["positions"][batch.atoms_slice(3).start] = np.nan
    relax(batch)
    assert batch.message[2] == "relax_sites: morse does not support U"
    assert batch.message[3] == "relax_sites: the proposed positions are not finite"
    assert batch.status.tolist() == ["ok", "ok", "failed", "failed", "ok", "ok"]


def test_unconverged_system_keeps_its_energy() -> None:
    batch = relax(make_batch(), replace(SETTINGS, max_steps=2))
    late = batch.status == "unconverged"
    assert late.any()
    assert np.isfinite(batch.stages["relax_positions"].arrays["energy"][late]).all()
    assert batch.message[late][0].startswith("relax_positions: not converged in 2 steps, fmax ")
    assert batch.message[late][0].endswith(" eV/Å")


def test_unconverged_first_step_is_not_a_failure() -> None:
    batch = relax(make_batch(), replace(SETTINGS, sites_max_steps=1))
    assert not batch.stages["relax_sites"].arrays["converged"].all()
    assert (batch.status == "ok").all()


def test_batch_without_usable_systems_has_both_stages() -> None:
    batch = make_batch()
    batch.status[:] = "failed"
    relax(batch)
    assert np.isnan(batch.stages["relax_positions"].arrays["energy"]).all()


def test_second_potential_continues_from_the_first() -> None:
    plain, ranked = relax(make_batch()), relax(make_batch(), ranking=WiderMorse())
    assert list(ranked.stages) == [*plain.stages, "relax_rank"]
    assert content_sha256(plain) == content_sha256(without(ranked, "relax_rank"))
    before = ranked.stages["relax_positions"].arrays
    after = ranked.stages["relax_rank"].arrays
    assert set(after) - set(before) == {"merged_with"}
    assert (after["merged_with"] == -1).all()
    assert after["converged"].all()
    for index in range(ranked.n_systems):
        here = ranked.atoms_slice(index)
        at_the_end = Crystal(
            ranked.atomic_numbers[here], after["positions"][here], ranked.cell[index]
        )
        (expected,) = WiderMorse().evaluate([at_the_end])
        assert after["energy"][index] == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(after["forces"][here], expected.forces, atol=1e-9)
    assert (after["energy"] != before["energy"]).all()
    assert after["energy"][-1] == after["energy"][0]  # the reference is relaxed in the same steps
    assert ranked.stages["relax_rank"].attrs["mlip"] == "wider"
    assert ranked.stages["relax_rank"].attrs["weights"] == {"wider": "1" * 64}


def without(batch: Batch, stage: str) -> Batch:
    return replace(batch, stages={k: v for k, v in batch.stages.items() if k != stage})


def test_same_potential_again_takes_no_steps() -> None:
    batch = relax(make_batch(), ranking=MorsePotential())
    before, after = (batch.stages[name].arrays for name in ("relax_positions", "relax_rank"))
    assert (after["n_steps"] == 0).all()
    assert after["positions"].tobytes() == before["positions"].tobytes()
    assert after["energy"].tolist() == before["energy"].tolist()


def test_ranking_is_independent_of_other_systems() -> None:
    together = relax(make_batch(), ranking=WiderMorse()).stages["relax_rank"].arrays
    for index in range(make_batch().n_systems):
        alone = relax(make_batch().subset([index]), ranking=WiderMorse())
        arrays = alone.stages["relax_rank"].arrays
        assert arrays["energy"][0] == together["energy"][index]
        here = make_batch().atoms_slice(index)
        assert arrays["positions"].tobytes() == together["positions"][here].tobytes()


def test_last_step_determines_the_status() -> None:
    late = relax(make_batch(), replace(SETTINGS, max_steps=2), ranking=WiderMorse())
    assert "unconverged" in late.status
    for status, message in zip(late.status, late.message, strict=True):
        assert status == "ok" or message.startswith("relax_rank: not converged in 2 steps, fmax ")
    steps = late.stages["relax_positions"].arrays["n_steps"]
    most = int(relax(make_batch()).stages["relax_positions"].arrays["n_steps"].max())
    assert steps.max() == 2 < most
    again = replace(SETTINGS, max_steps=most - 1)
    batch = relax(make_batch(), again, ranking=MorsePotential())
    assert not batch.stages["relax_positions"].arrays["converged"].all()
    assert (batch.status == "ok").all()


def test_element_unsupported_by_the_second_potential_fails_first() -> None:
    class Few(WiderMorse):
        elements = frozenset(range(1, 8))

    batch, potential = make_batch(), MorsePotential()
    batch.atomic_numbers[batch.atoms_slice(1)] = 8
    relax(batch, potential=potential, ranking=Few())
    assert batch.message[1] == "relax_rank: wider does not support O"
    assert np.isnan(batch.stages["relax_sites"].arrays["energy"][1])


class Hole(MorsePotential):
    """Has no repulsion, so that crystals collapse."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energies and zero forces."""
        return [replace(one, forces=one.forces * 0.0) for one in super().evaluate(crystals)]


def test_collapsed_crystal_fails() -> None:
    batch = make_batch()
    positions = batch.stages["inpaint"].arrays["positions"]
    here = batch.atoms_slice(0)
    positions[here.stop - 1] = positions[here.start] + [0.2, 0.0, 0.0]
    relax(batch, potential=Hole())
    assert batch.status[0] == "failed"
    assert batch.message[0].startswith("relax_positions: two atoms are 0.20 Å apart")
    assert np.isfinite(batch.stages["relax_positions"].arrays["energy"][0])


def test_nearest_distance_is_periodic() -> None:
    cell = np.eye(3) * 5.0
    assert nearest_distance(np.array([[0.1, 0, 0], [4.8, 0, 0]]), cell) == pytest.approx(0.3)
    assert nearest_distance(np.array([[0.1, 0, 0], [2.5, 0, 0]]), cell) == np.inf
    assert nearest_distance(np.zeros((1, 3)), np.diag([5.0, 5.0, 0.4])) == pytest.approx(0.4)


def test_progress_lines() -> None:
    text = io.StringIO()
    batch = make_batch()
    batch.atomic_numbers[batch.atoms_slice(2)] = 92
    relax_batch(batch, MorsePotential(), SETTINGS, progress=text, progress_seconds=0.0)
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("relax_sites: 1/5 done, 0 failed, ETA ")
    assert any(line.startswith("relax_positions: 5/5 done, 0 failed, ") for line in lines)
    quiet = io.StringIO()
    relax_batch(make_batch(), MorsePotential(), SETTINGS, progress=quiet, progress_seconds=1e6)
    assert len(quiet.getvalue().splitlines()) == 2


def test_batch_without_proposals_is_refused() -> None:
    batch = make_batch()
    del batch.stages["inpaint"]
    with pytest.raises(InputError, match="no stage 'inpaint'"):
        relax(batch)


@pytest.mark.parametrize(
    ("name", "value"),
    [("fmax", 0.0), ("sites_fmax", float("nan")), ("max_steps", -1), ("max_atoms_per_batch", 0)],
)
def test_invalid_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is "):
        replace(SETTINGS, **{name: value})
