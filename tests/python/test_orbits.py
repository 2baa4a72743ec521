"""Method symmetric: whole orbits, sites of textbook hydrides, nothing but seed, id and sample."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal
from xtalfill.inputs.batching import build_batch
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.orbits import TOLERANCE, Way, symmetric_ways
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.sites import distances
from xtalfill.proposals.space_group import generated, space_group
from xtalfill.proposals.stage import STAGE, inpaint_batch

SAME = 0.3  # Angstrom
# Free parameters come from radii alone; the relaxation does the rest.
LARGEST = {"CaH2": 0.4, "tilted NaMgH3": 0.4}
CUBIC, ORTHOGONAL = [90, 90, 90], [90, 90, 90]
# Crystals with their hydrogens, from diffraction; the primitive cell where one is enough.
CRYSTALS: dict[str, dict[str, Any]] = {
    "PdH": {
        "symbols": ("Pd", "H"),
        "basis": [(0, 0, 0), (0.5, 0.5, 0.5)],
        "spacegroup": 225,
        "cellpar": [4.09] * 3 + CUBIC,
        "primitive_cell": True,
    },
    "TiH2": {
        "symbols": ("Ti", "H"),
        "basis": [(0, 0, 0), (0.25, 0.25, 0.25)],
        "spacegroup": 225,
        "cellpar": [4.45] * 3 + CUBIC,
        "primitive_cell": True,
    },
    "MgH2": {
        "symbols": ("Mg", "H"),
        "basis": [(0, 0, 0), (0.304, 0.304, 0)],
        "spacegroup": 136,
        "cellpar": [4.517, 4.517, 3.021, *ORTHOGONAL],
    },
    "CaH2": {
        "symbols": ("Ca", "H", "H"),
        "basis": [(0.240, 0.25, 0.110), (0.355, 0.25, 0.427), (0.974, 0.25, 0.678)],
        "spacegroup": 62,
        "cellpar": [5.925, 3.581, 6.776, *ORTHOGONAL],
    },
    "NaMgH3": {  # the cubic perovskite
        "symbols": ("Na", "Mg", "H"),
        "basis": [(0.5, 0.5, 0.5), (0, 0, 0), (0.5, 0, 0)],
        "spacegroup": 221,
        "cellpar": [3.86] * 3 + CUBIC,
    },
    "tilted NaMgH3": {
        "symbols": ("Na", "Mg", "H", "H"),
        "basis": [
            (0.0209, 0.25, 0.006),
            (0, 0, 0.5),
            (0.503, 0.25, 0.093),
            (0.304, 0.065, 0.761),
        ],
        "spacegroup": 62,
        "cellpar": [5.463, 7.703, 5.411, *ORTHOGONAL],
    },
    "brucite": {
        "symbols": ("Mg", "O", "H"),
        "basis": [(0, 0, 0), (1 / 3, 2 / 3, 0.2203), (1 / 3, 2 / 3, 0.4130)],
        "spacegroup": 164,
        "cellpar": [3.15, 3.15, 4.77, 90, 90, 120],
    },
}


def generator(sample: int, seed: int = 1) -> np.random.Generator:
    return np.random.default_rng([seed, sample])


def split(name: str) -> tuple[Crystal, np.ndarray]:
    """Return the host of a crystal and its hydrogens, fractional."""
    atoms = crystal(**CRYSTALS[name])
    hydrogen = atoms.numbers == 1
    host = Crystal(atoms.numbers[~hydrogen], atoms.positions[~hydrogen], atoms.cell.array)
    return host, atoms.get_scaled_positions()[hydrogen]


@cache
def ways_of(name: str, count: int = 6) -> list[Way]:
    host, sites = split(name)
    return list(islice(symmetric_ways(host, 1, len(sites), generator=generator), count))


def farthest(host: Crystal, found: np.ndarray, true: np.ndarray) -> float:
    """Return the largest distance of a site to the true ones, by the best operation of the host."""
    cell = (host.cell, host.positions @ np.linalg.inv(host.cell), host.numbers)
    operations = spglib.get_symmetry(cell, symprec=TOLERANCE)
    best = np.inf
    for rotation, move in zip(operations["rotations"], operations["translations"], strict=True):
        away = distances(found @ rotation.T + move, true, host.cell)
        best = min(best, max(away.min(axis=0).max(), away.min(axis=1).max()))
    return float(best)


@pytest.mark.parametrize("name", CRYSTALS)
def test_textbook_sites_are_among_the_first_six(name: str) -> None:
    host, true = split(name)
    assert min(farthest(host, way.scaled, true) for way in ways_of(name)) < LARGEST.get(name, SAME)


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_candidate_has_the_symmetry_of_its_group(name: str) -> None:
    """An independent check: spglib finds every operation of the group in the filled crystal."""
    host, sites = split(name)
    for way in ways_of(name):
        assert sum(len(orbit) for orbit in way.orbits) == len(way.scaled) == len(sites)
        scaled = np.concatenate([host.positions @ np.linalg.inv(host.cell), way.scaled])
        numbers = np.append(host.numbers, [1] * len(sites))
        found = spglib.get_symmetry((host.cell, scaled, numbers), symprec=0.02)
        for rotation, move in zip(way.group.rotations, way.group.translations, strict=True):
            away = found["translations"] - move
            away -= np.round(away)
            near = np.linalg.norm(away @ host.cell, axis=1) < 0.05
            assert (near & (found["rotations"] == rotation).all(axis=(1, 2))).any()


@pytest.mark.parametrize("name", CRYSTALS)
def test_sites_keep_their_distances_and_are_all_new(name: str) -> None:
    host, _ = split(name)
    ways = ways_of(name)
    for number, way in enumerate(ways):
        atoms = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
        atoms += Atoms("H" * len(way.scaled), way.scaled @ host.cell)
        away = atoms.get_all_distances(mic=True)
        np.fill_diagonal(away, np.inf)
        n = len(way.scaled)
        assert away[-n:, -n:].min() >= 1.2
        assert away[-n:, :-n].min() > 0.65
        for other in ways[:number]:
            assert farthest(host, way.scaled, other.scaled) >= SAME


def test_the_order_of_protons_breaks_the_symmetry() -> None:
    orders = {len(way.group) for way in ways_of("CaH2")}
    assert max(orders) == 8
    assert len(orders) > 1


def test_a_way_depends_on_nothing_but_its_generator() -> None:
    first, again = ways_of("MgH2")[:3], ways_of.__wrapped__("MgH2", 3)
    for one, other in zip(first, again, strict=True):
        assert one.scaled.tobytes() == other.scaled.tobytes()
    host, _ = split("CaH2")
    other = symmetric_ways(host, 1, 8, generator=lambda k: generator(k, seed=2))
    assert any(
        one.scaled.tobytes() != two.scaled.tobytes()
        for one, two in zip(ways_of("CaH2"), other, strict=False)
    )


def test_a_host_without_symmetry_is_filled() -> None:
    random = np.random.default_rng(0)
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.positions += random.normal(scale=0.15, size=(8, 3))
    host = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
    assert len(space_group(host, tolerance=TOLERANCE)) == 1
    ways = islice(symmetric_ways(host, 1, 2, generator=generator), 3)
    assert [len(way.group) for way in ways] == [1, 1, 1]


def test_subgroups_are_groups() -> None:
    host, _ = split("MgH2")
    group = space_group(host, tolerance=TOLERANCE)
    assert len(group) == 16 or len(group) == 32
    assert (group.products[0] == np.arange(len(group))).all()
    for one in range(len(group)):
        members = generated(group.products, [one, 3])
        assert len(group) % len(members) == 0
        assert set(group.products[np.ix_(members, members)].ravel()) == set(members)
    assert generated(group.products, [0]) == [0]


def checked(name: str, n_missing: int | None = None) -> CheckedHost:
    host, sites = split(name)
    atoms = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
    return CheckedHost(name, "", atoms, 1, n_missing or len(sites))


def filled(hosts: list[CheckedHost], *, samples: int, methods: tuple[str, ...]) -> Batch:
    batch = build_batch(hosts, {}, methods=methods, samples=samples, seed=42)
    inpaint_batch(batch, ScoreModels(), SamplerSettings())
    batch.validate()
    return batch


def sites_of(batch: Batch, name: str, sample: int) -> np.ndarray:
    rows = (batch.id == name) & (batch.method == "symmetric") & (batch.sample == sample)
    here = batch.atoms_slice(int(np.flatnonzero(rows)[0]))
    return batch.stages[STAGE].arrays["positions"][here][~batch.is_host[here]]


def test_a_batch_gives_the_bits_of_single_structures() -> None:
    hosts = [checked("PdH"), checked("MgH2")]
    batch = filled(hosts, samples=3, methods=("random", "symmetric"))
    for host in hosts:
        alone = filled([host], samples=2, methods=("symmetric",))
        for sample in range(2):
            here = sites_of(batch, host.id, sample)
            assert here.tobytes() == sites_of(alone, host.id, sample).tobytes()
    proposed = batch.stages[STAGE].arrays["positions"]
    assert proposed[batch.is_host].tobytes() == batch.positions[batch.is_host].tobytes()
    assert batch.stages[STAGE].attrs["symmetry_tolerance"] == TOLERANCE
    assert set(batch.status) <= {"ok", "absent"}


def test_what_does_not_fit_is_told() -> None:
    """Palladium holds few distinct ways for one atom, and none for twenty."""
    batch = filled([checked("PdH")], samples=20, methods=("symmetric",))
    n_ways = int((batch.status == "ok").sum())
    assert 1 < n_ways < 20
    message = f"inpaint: the host has {n_ways} distinct way(s) to fill orbits"
    assert batch.message[n_ways:].tolist() == [message] * (20 - n_ways)
    batch = filled([checked("PdH", n_missing=20)], samples=2, methods=("symmetric",))
    assert batch.status.tolist() == ["failed"] * 2
    assert set(batch.message) == {"inpaint: the host has no room for the missing sites"}
