"""No proposal lies inside an atom, whatever made it; what is clear keeps its bits."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given
from hypothesis import strategies as st

import xtalfill.proposals.ways as ways_module
from tool_runs import REPOSITORY, tool_module
from xtalfill.core.batch import Batch, Stage, content_sha256
from xtalfill.core.crystal import Crystal
from xtalfill.proposals.clearance import CLEARANCE, ClearedSites, clear_sites, record_arrays
from xtalfill.proposals.dft_potential.gather import gather_potential
from xtalfill.proposals.dft_potential.job import jobs_of
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.methods import PROPOSERS, Method
from xtalfill.proposals.score_models import ScoreModels, load_models
from xtalfill.proposals.stage import STAGE, inpaint_batch
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch

MGO = bulk("MgO", "rocksalt", a=4.212, cubic=True)


def crystal_of(atoms: Atoms) -> Crystal:
    return Crystal(atoms.numbers, atoms.positions, atoms.cell.array)


def cleared(atoms: Atoms, sites: Sequence, *, element: str = "H", seed: int = 0) -> ClearedSites:
    generator = np.random.default_rng(seed)
    given_sites = np.array(sites, dtype=float).reshape(-1, 3)
    return clear_sites(crystal_of(atoms), atomic_numbers[element], given_sites, generator=generator)


def depth(atoms: Atoms, sites: np.ndarray, *, element: int = 1) -> float:
    """Return the shortest distance of a site to anything, in sums of radii; by another code."""
    numbers = np.append(atoms.numbers, [element] * len(sites))
    positions = np.vstack([atoms.positions, sites])
    radii = covalent_radii[numbers]
    i, j, d = primitive_neighbor_list("ijd", (True,) * 3, atoms.cell.array, positions, 4.0)
    here = i >= len(atoms)
    return float((d / (radii[i] + radii[j]))[here].min(initial=np.inf))


def test_a_site_in_an_atom_is_put_at_a_bonds_length() -> None:
    found = cleared(MGO, MGO.positions[3] + [0.1, 0.05, 0.0])
    assert (found.n_moved, found.n_inside) == (1, 0)
    assert depth(MGO, found.sites) >= CLEARANCE
    oxygen = covalent_radii[8] + covalent_radii[1]
    away = MGO.copy()
    away.append("H")
    away.positions[-1] = found.sites[0]
    assert away.get_distance(3, -1, mic=True) == pytest.approx(oxygen, abs=1e-6)
    assert found.largest_shift == pytest.approx(oxygen, abs=0.12)


@pytest.mark.parametrize(
    "sites",
    [
        [[1.05, 1.05, 1.05]],
        [[1.05, 1.05, 1.05], [1.05, 1.05, 1.79]],  # H2
        [MGO.positions[1] + [0.0, 0.6, 0.6]],  # O-H of 0.85 Angstrom
    ],
)
def test_what_is_clear_keeps_its_bits(sites: list) -> None:
    found = cleared(MGO, sites)
    assert found.sites.tobytes() == np.array(sites, dtype=float).tobytes()
    assert (found.n_moved, found.largest_shift, found.n_inside) == (0, 0.0, 0)


@pytest.mark.parametrize(("distance", "moved"), [(0.36, 1), (0.38, 0)])
def test_the_limit_between_two_sites(distance: float, moved: int) -> None:
    found = cleared(MGO, [[1.05, 1.05, 1.05], [1.05, 1.05, 1.05 + distance]])
    assert found.n_moved == moved
    assert depth(MGO, found.sites) >= CLEARANCE


def test_images_count_as_atoms() -> None:
    """The nearest atom lies beyond the face of the cell, the site ends inside the cell."""
    found = cleared(MGO, [4.2, 4.15, 4.2])
    assert found.n_moved == 1
    fractions = found.sites @ np.linalg.inv(MGO.cell.array)
    assert ((fractions >= 0.0) & (fractions < 1.0)).all()
    assert found.largest_shift < 2.0
    assert depth(MGO, found.sites) >= CLEARANCE


def test_sites_in_one_place_part() -> None:
    found = cleared(MGO, [MGO.positions[1]] * 4)
    assert (found.n_moved, found.n_inside) == (4, 0)
    assert depth(MGO, found.sites) >= CLEARANCE


def test_where_there_is_no_room_sites_stay_and_are_counted() -> None:
    narrow = Atoms("Cs", cell=np.eye(3) * 1.8, pbc=True)
    found = cleared(narrow, [[0.1, 0.0, 0.0]])
    assert (found.n_moved, found.n_inside) == (0, 1)
    assert found.sites.tolist() == [[0.1, 0.0, 0.0]]


def test_a_site_in_its_own_image_is_counted_and_left() -> None:
    flat = Atoms("Li", cell=[5.0, 5.0, 2.0], pbc=True)
    found = cleared(flat, [[2.5, 2.5, 1.0]], element="Cs")
    assert (found.n_moved, found.n_inside) == (0, 1)


@given(st.integers(0, 10**6))
def test_it_holds_in_any_crystal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_atoms, n_sites = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    cell = np.eye(3) * (2.6 * (n_atoms + n_sites) ** (1 / 3)) + rng.normal(scale=0.8, size=(3, 3))
    atoms = Atoms(rng.integers(1, 60, n_atoms), cell=cell, pbc=True)
    atoms.set_scaled_positions(rng.random((n_atoms, 3)))
    element = int(rng.choice([1, 3, 9]))
    sites = rng.random((n_sites, 3)) @ cell
    sites[0] = atoms.positions[0] + rng.normal(scale=0.1, size=3)
    host = crystal_of(atoms)
    found = clear_sites(host, element, sites, generator=np.random.default_rng(seed))
    if found.n_inside:
        assert depth(atoms, found.sites, element=element) < CLEARANCE + 1e-6
    else:
        assert depth(atoms, found.sites, element=element) >= CLEARANCE - 1e-6
    unmoved = (found.sites == sites).all(axis=1)
    assert found.n_moved == (~unmoved).sum()


ROWS = [("one", 0), ("one", 1), ("two", 0)]


def batch_of(
    method: str, rows: list[tuple[str, int]] = ROWS, *, seed: int = 42, n_sites: int = 2
) -> Batch:
    """Return MgO with hydrogens missing."""
    n, size = len(rows), len(MGO) + n_sites
    return Batch(
        positions=np.tile(np.vstack([MGO.positions, np.full((n_sites, 3), np.nan)]), (n, 1)),
        atomic_numbers=np.tile([*MGO.numbers, *[1] * n_sites], n),
        system_idx=np.repeat(np.arange(n), size),
        is_host=np.tile(np.arange(size) < len(MGO), n),
        cell=np.repeat(MGO.cell.array[None], n, axis=0),
        id=[row[0] for row in rows],
        method=[method] * n,
        sample=[row[1] for row in rows],
        seed=[seed] * n,
        status=["ok"] * n,
        message=[""] * n,
    )


def sites_of(batch: Batch, index: int) -> np.ndarray:
    return batch.to_ase(index, stage=STAGE).positions[len(MGO) :]


INSIDE = MGO.positions[[1, 2]] + 0.1  # an oxygen and a magnesium
CLEAR = np.array([[1.05, 1.05, 1.05], [3.1, 3.1, 3.1]])


@pytest.fixture
def proposing(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Make every method propose the one array in the list that is returned."""
    chosen = [INSIDE]
    monkeypatch.setattr(Method, "__post_init__", lambda _: None)
    monkeypatch.setattr(Method, "largest_element", 118)
    monkeypatch.setattr(Method, "propose", lambda _, hosts, __: [chosen[0].copy()] * len(hosts))
    monkeypatch.setattr(ways_module, "void_choices", lambda *_: repeat(chosen[0].copy()))

    def ways(host: Crystal, *_: int, **__: object) -> Iterator[SimpleNamespace]:
        return repeat(SimpleNamespace(scaled=chosen[0] @ np.linalg.inv(host.cell)))

    monkeypatch.setattr(ways_module, "symmetric_ways", ways)
    return chosen


def propose(batch: Batch) -> Batch:
    """Run the stages that fill a batch."""
    inpaint_batch(batch, ScoreModels(), SamplerSettings(steps=2))
    if "potential" in batch.method:
        jobs = jobs_of(batch, "b")
        one = {"sites": INSIDE, "message": "", "pinball": False}
        keys = [job.key for job in jobs]
        plan = {"hosts": [{"key": key, "refused": ""} for key in keys], "jobs": dict.fromkeys(keys)}
        results = [{"key": key, "parameters": {}, "candidates": [one] * 2} for key in keys]
        gather_potential(batch, "b", plan, results)
    batch.validate()
    return batch


@pytest.mark.parametrize("method", [*PROPOSERS, "voids", "symmetric", "potential"])
def test_applied_to_every_method(method: str, proposing: list[np.ndarray]) -> None:
    assert proposing
    batch = propose(batch_of(method))
    arrays = batch.stages[STAGE].arrays
    assert arrays["sites_moved"].tolist() == [2, 2, 2]
    assert arrays["sites_inside"].tolist() == [0, 0, 0]
    assert (arrays["largest_shift"] > 0.5).all()
    for index in range(3):
        assert depth(MGO, sites_of(batch, index)) >= CLEARANCE
        hosts = batch.to_ase(index, stage=STAGE).positions[: len(MGO)]
        assert hosts.tobytes() == MGO.positions.tobytes()


def test_seed_id_and_sample_alone_decide(proposing: list[np.ndarray]) -> None:
    assert proposing
    batch = propose(batch_of("random"))
    some = [sites_of(batch, index).tobytes() for index in range(3)]
    some.append(sites_of(propose(batch_of("random", seed=43)), 0).tobytes())
    assert len(set(some)) == 4
    again = propose(batch_of("random", ROWS[::-1]))
    assert [sites_of(again, index).tobytes() for index in (2, 1, 0)] == some[:3]


def test_the_image_of_pw_needs_neither_torch_nor_numba_for_it() -> None:
    code = (
        "import sys, xtalfill.proposals.dft_potential.gather; "
        "assert not {'torch', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "bin", check=True)


def test_a_clear_proposal_is_written_to_the_bit(proposing: list[np.ndarray]) -> None:
    proposing[0] = CLEAR
    batch = propose(batch_of("host"))
    assert all(sites_of(batch, index).tobytes() == CLEAR.tobytes() for index in range(3))
    nothing = record_arrays(3)
    arrays = batch.stages[STAGE].arrays
    assert all(arrays[name].tobytes() == nothing[name].tobytes() for name in nothing)


def test_without_the_record_of_moves_nothing_else_changed(proposing: list[np.ndarray]) -> None:
    """The bits of a batch whose proposals are clear, against one filled by hand."""
    proposing[0] = CLEAR
    batch, by_hand = propose(batch_of("host")), batch_of("host")
    positions = by_hand.positions.copy()
    positions[~by_hand.is_host] = np.tile(CLEAR, (3, 1))
    source = np.array(["host"] * 3, dtype=object)
    arrays = {"positions": positions, "source": source, **record_arrays(3)}
    by_hand.stages[STAGE] = Stage(arrays, batch.stages[STAGE].attrs)
    assert content_sha256(batch) == content_sha256(by_hand)


def test_the_bundled_model_in_magnesium_oxide_relaxes() -> None:
    """29 of 30 of its proposals lay 0.11 to 0.17 Angstrom from an atom, and RELAX lost them."""
    one = batch_of("host", [("MgO", 0)], n_sites=1)
    models = load_models(["host"], given=[], bundled=[REPOSITORY / "assets/weights/host.pt"])
    settings = SamplerSettings(steps=100, predictor="x0_renoise", renoise=0.7, corrector_steps=0)
    inpaint_batch(one, models, settings)
    assert one.stages[STAGE].arrays["sites_moved"].tolist() == [1]
    assert depth(MGO, sites_of(one, 0)) >= CLEARANCE
    potential = load_potential("7net-0", device="cpu")
    relax_batch(one, potential, RelaxSettings(0.05, 200, 0.05, 500, max_atoms_per_batch=50))
    assert (one.status[0], one.message[0]) == ("ok", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MgO", "NaCl", "CaF2", "Fe", "Pd", "Si"])
def test_hydrogen_in_simple_crystals_relaxes(name: str) -> None:
    tool = tool_module("bench_interstitials")
    args = tool.parser().parse_args(["--samples", "5", "--output", "unused"])
    potential = load_potential("7net-0", device="cpu")
    found = tool.measure(tool.known_crystals()[name], name, args, potential)
    assert (found["inside"], found["exploded"], found["ok"]) == (0, 0, 5)
