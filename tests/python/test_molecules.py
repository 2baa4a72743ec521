"""Hydrogen molecules among the candidates of method mix: every second one is replaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms

from test_inpaint import CONFIG, make_batch
from test_mix import sites, sources
from test_orbits import checked
from xtalfill.core.errors import ConfigError
from xtalfill.inputs.batching import build_batch
from xtalfill.models.graphs import Host
from xtalfill.models.hostnet import HostNet
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.methods import PROPOSERS, Method
from xtalfill.proposals.molecules import has_molecule
from xtalfill.proposals.orders import Numbers
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.stage import inpaint_batch
from xtalfill.registry.mix import MIX, Mix, read_mix

MODELS = ScoreModels({"host": HostNet(CONFIG).eval()})
APART = {"molecule": 0.75, "pair": 1.6}  # Angstrom


@pytest.fixture(params=["molecule"])
def proposed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`host` puts hydrogens in a row, so far apart."""

    def row(
        _method: Method, hosts: Sequence[Host], _generators: Sequence[np.random.Generator]
    ) -> list[np.ndarray]:
        step = np.array([APART[request.param], 0.0, 0.0])
        return [host.cell.sum(axis=0) / 2 + np.outer(range(host.n_sites), step) for host in hosts]

    monkeypatch.setitem(PROPOSERS, "host", row)


def test_a_molecule_is_one_also_across_the_border_of_the_cell() -> None:
    cell = np.diag([4.0, 4.0, 4.0])
    assert has_molecule(np.array([[0.1, 0, 0], [3.4, 0, 0]]), cell)
    assert not has_molecule(np.array([[0.1, 0, 0], [1.2, 0, 0]]), cell)
    assert not has_molecule(np.array([[0.1, 0, 0]]), np.diag([0.9, 4.0, 4.0]))  # its own image
    assert not has_molecule(np.full((2, 3), np.nan), cell)


@pytest.mark.usefixtures("proposed")
def test_odd_candidates_become_orbits(brucite: Atoms) -> None:
    rows = [("brucite", MIX, k) for k in range(6)]
    rows += [("brucite", "host", k) for k in range(2)]
    rows += [("brucite", "symmetric", k) for k in range(3)]
    batch = make_batch({"brucite": brucite}, rows, 42)
    inpaint_batch(batch, MODELS, SamplerSettings())
    assert sources(batch)[:6] == ["host", "symmetric"] * 3
    assert sources(batch)[6:8] == ["host"] * 2  # asked for by name, so it is kept
    for sample in (1, 3, 5):
        assert sites(batch, MIX, sample) == sites(batch, "symmetric", sample // 2)
    alone = make_batch({"brucite": brucite}, [("brucite", MIX, 3)], 42)
    inpaint_batch(alone, MODELS, SamplerSettings())
    assert sites(alone, MIX, 3) == sites(batch, MIX, 3)


@pytest.mark.usefixtures("proposed")
@pytest.mark.parametrize("proposed", ["pair"], indirect=True)
def test_other_candidates_stay(brucite: Atoms) -> None:
    batch = make_batch({"brucite": brucite}, [("brucite", MIX, k) for k in range(4)], 42)
    inpaint_batch(batch, MODELS, SamplerSettings())
    assert set(sources(batch)) == {"host"}


@pytest.mark.usefixtures("proposed")
def test_no_orbit_is_proposed_twice_where_it_has_a_share() -> None:
    metal = build_batch([checked("PdH", 2)], {}, methods=(MIX,), samples=10, seed=42)
    inpaint_batch(metal, MODELS, SamplerSettings(), numbers=Numbers(10))
    assert sources(metal)[:10].count("symmetric") == 3


@pytest.mark.usefixtures("proposed")
def test_a_mix_without_a_replacement_keeps_all(brucite: Atoms) -> None:
    batch = make_batch({"brucite": brucite}, [("brucite", MIX, k) for k in range(2)], 42)
    bundled = read_mix()
    inpaint_batch(batch, MODELS, SamplerSettings(), mix=Mix(bundled.sources, bundled.entries))
    assert set(sources(batch)) == {"host"}
    with pytest.raises(ConfigError, match="the source other is unknown"):
        Mix(bundled.sources, bundled.entries, "other")
