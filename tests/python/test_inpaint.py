"""INPAINT: a candidate depends on (seed, id, sample) alone, and the host is not changed."""

import io

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii

from test_compiled_host import OfTorch
from xtalfill.core.batch import REFERENCE, Batch
from xtalfill.core.errors import ConfigError
from xtalfill.models.graphs import Host
from xtalfill.models.hostnet import HostNet, HostNetConfig
from xtalfill.proposals.diffusion import site_sampler
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import (
    candidate_generator,
    noise_levels,
    sample_sites,
    wrap,
)
from xtalfill.proposals.random_sites import random_sites
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.stage import STAGE, inpaint_batch
from xtalfill.proposals.ways import host_of

CONFIG = HostNetConfig(width=16, host_layers=1, site_layers=2, n_radial=8)


@pytest.fixture(scope="module")
def model() -> HostNet:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return HostNet(CONFIG).eval()


def make_batch(crystals: dict[str, Atoms], rows: list[tuple[str, str, int]], seed: int) -> Batch:
    """Make a batch of (id, method, sample) rows; hydrogen is missing."""
    parts = []
    for system, (name, method, _) in enumerate(rows):
        atoms = crystals[name]
        is_host = atoms.numbers != 1
        order = np.argsort(~is_host, kind="stable")
        positions = atoms.positions.copy()
        if method != REFERENCE:
            positions[~is_host] = np.nan
        parts.append(
            (positions[order], atoms.numbers[order], np.full(len(atoms), system), is_host[order])
        )
    flat = [np.concatenate(items) for items in zip(*parts, strict=True)]
    count = len(rows)
    return Batch(
        *flat,
        cell=np.stack([crystals[name].cell.array for name, _, _ in rows]),
        id=[row[0] for row in rows],
        method=[row[1] for row in rows],
        sample=[row[2] for row in rows],
        seed=[seed] * count,
        status=["ok"] * count,
        message=[""] * count,
    )


@pytest.fixture
def crystals(brucite: Atoms, rocksalt: Atoms) -> dict[str, Atoms]:
    return {"brucite": brucite, "rocksalt": rocksalt}


def inpaint(batch: Batch, model: HostNet, *, steps: int = 3, **options: object) -> None:
    models = ScoreModels({"host": model}, {"host.pt": "0" * 64})
    inpaint_batch(batch, models, SamplerSettings(steps=steps, corrector_steps=0), **options)


def filled(batch: Batch, model: HostNet, name: str, method: str, sample: int) -> np.ndarray:
    inpaint(batch, model, steps=6)
    hits = (batch.id == name) & (batch.method == method) & (batch.sample == sample)
    here = batch.atoms_slice(int(np.flatnonzero(hits)[0]))
    return batch.stages[STAGE].arrays["positions"][here]


@pytest.mark.parametrize("method", ["host", "random"])
def test_candidate_is_bit_identical_alone_and_in_any_batch(
    crystals: dict[str, Atoms], model: HostNet, method: str
) -> None:
    alone = make_batch(crystals, [("brucite", method, 2)], 42)
    rows = [("rocksalt", "host", 0), ("brucite", method, 0), ("brucite", method, 2)]
    rows += [("rocksalt", "random", 1), ("brucite", "host" if method == "random" else "random", 2)]
    first = filled(alone, model, "brucite", method, 2)
    for order in (rows, rows[::-1]):
        other = filled(make_batch(crystals, order, 42), model, "brucite", method, 2)
        assert first.tobytes() == other.tobytes()


@pytest.mark.parametrize("method", ["host", "random"])
def test_seed_id_and_sample_each_change_the_candidate(
    crystals: dict[str, Atoms], model: HostNet, method: str
) -> None:
    crystals["twin"] = crystals["brucite"]
    rows = [("brucite", method, 0), ("brucite", method, 1), ("twin", method, 0)]
    first = filled(make_batch(crystals, rows, 42), model, "brucite", method, 0)
    assert not np.array_equal(
        first, filled(make_batch(crystals, rows, 43), model, "brucite", method, 0)
    )
    batch = make_batch(crystals, rows, 42)
    assert not np.array_equal(first, filled(batch, model, "brucite", method, 1))
    assert not np.array_equal(
        first, filled(make_batch(crystals, rows, 42), model, "twin", method, 0)
    )


def test_host_and_references_stay_bit_identical(crystals: dict[str, Atoms], model: HostNet) -> None:
    rows = [("brucite", "host", 0), ("brucite", "random", 0), ("brucite", REFERENCE, 0)]
    batch = make_batch(crystals, rows, 42)
    before = batch.positions.copy()
    inpaint(batch, model)
    after = batch.stages[STAGE].arrays["positions"]
    assert after[batch.is_host].tobytes() == before[batch.is_host].tobytes()
    assert np.array_equal(batch.positions, before, equal_nan=True)
    reference = batch.atoms_slice(2)
    assert after[reference].tobytes() == before[reference].tobytes()
    assert np.isfinite(after).all()
    assert batch.stages[STAGE].attrs["weights"] == {"host.pt": "0" * 64}


def test_sites_end_inside_the_cell(crystals: dict[str, Atoms], model: HostNet) -> None:
    batch = make_batch(crystals, [("brucite", "host", k) for k in range(4)], 1)
    inpaint(batch, model, steps=4)
    for index in range(4):
        atoms = batch.to_ase(index, stage=STAGE)[3:]
        fractions = atoms.positions @ np.linalg.inv(atoms.cell.array)
        assert ((fractions > -1e-9) & (fractions < 1 + 1e-9)).all()


def test_unknown_method_and_no_steps_are_refused(
    crystals: dict[str, Atoms], model: HostNet
) -> None:
    batch = make_batch(crystals, [("brucite", "magic", 0)], 42)
    with pytest.raises(ConfigError, match=r"method magic is unknown; choose from host, td"):
        inpaint(batch, model)
    batch = make_batch(crystals, [("brucite", "host", 0)], 42)
    with pytest.raises(ConfigError, match="steps is 0"):
        inpaint(batch, model, steps=0)


def test_no_fallback_to_the_cpu(
    crystals: dict[str, Atoms], model: HostNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    batch = make_batch(crystals, [("brucite", "host", 0)], 1)
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        inpaint(batch, model, device="cuda")
    assert STAGE not in batch.stages


def test_element_beyond_the_model_and_failed_systems(model: HostNet, brucite: Atoms) -> None:
    heavy = brucite.copy()
    heavy.numbers[0] = 110
    rows = [("heavy", "host", 0), ("brucite", "host", 0), ("brucite", "host", 1)]
    batch = make_batch({"heavy": heavy, "brucite": brucite}, rows, 42)
    batch.fail(2, "check: refused")
    inpaint(batch, model)
    assert list(batch.status) == ["failed", "ok", "failed"]
    assert batch.message[0] == "inpaint: the score model knows elements up to 103"
    assert batch.message[2] == "check: refused"
    positions = batch.stages[STAGE].arrays["positions"]
    assert np.isnan(positions[batch.atoms_slice(2)][3:]).all()


@pytest.mark.parametrize("layer", ["conditions", "from_host", "site_updates"])
def test_nan_in_the_network_fails_the_candidate(crystals: dict[str, Atoms], layer: str) -> None:
    network = HostNet(CONFIG).eval()
    with torch.no_grad():
        next(getattr(network, layer).parameters()).view(-1)[0] = torch.nan
    batch = make_batch(crystals, [("brucite", "host", 0), ("brucite", "random", 0)], 42)
    inpaint(batch, network)
    assert list(batch.status) == ["failed", "ok"]
    assert batch.message[0].startswith("inpaint: sampling produced NaN")


def test_progress_is_reported(crystals: dict[str, Atoms], model: HostNet) -> None:
    stream = io.StringIO()
    batch = make_batch(crystals, [("brucite", "random", 0), ("rocksalt", "random", 0)], 42)
    inpaint(batch, model, progress=stream, progress_seconds=-1.0)
    assert "inpaint: random, 2/2 candidates" in stream.getvalue()


@pytest.mark.parametrize("steps", [2, 7, 50, 300])
def test_noise_levels_decrease_and_concentrate_at_bond_scale(steps: int) -> None:
    levels = noise_levels(steps)
    assert len(levels) == steps + 1
    assert levels[0] == pytest.approx(3.0)
    assert levels[-2] == pytest.approx(0.05)
    assert levels[-1] == 0.0
    assert (np.diff(levels) < 0).all()
    choosing = ((levels > 0.3) & (levels < 1.2)).sum()
    assert choosing == pytest.approx(0.7 * steps, abs=2)


def test_one_step_starts_at_the_highest_noise() -> None:
    np.testing.assert_allclose(noise_levels(1), [3.0, 0.0])


class PointModel(HostNet):
    """A perfect denoiser of a crystal with one known site, which the sampler must find."""

    def __init__(self, host: Host, target: np.ndarray) -> None:
        super().__init__(CONFIG)
        self.host, self.target = host, target
        self.inverse = np.linalg.inv(host.cell)
        self.ways: list[float] = []  # of the first site, Angstrom

    def denoise(self, _encoding: object, graph: object) -> torch.Tensor:
        """Return the shortest way to the known site from the host atom's point of view."""
        # every site is a neighbour of the host atom: its first edge is enough
        first = np.searchsorted(graph.host_edges[0].numpy(), np.arange(len(graph.draw)))
        position = self.host.positions[0] - graph.host_vectors[first].double().numpy()
        way = (self.target - position) @ self.inverse
        nearest = (way - np.round(way)) @ self.host.cell
        self.ways.append(float(np.linalg.norm(nearest[0])))
        return torch.from_numpy(nearest)


@pytest.mark.parametrize(
    ("predictor", "corrector_steps"),
    [("ancestral", 0), ("ancestral", 2), ("x0_renoise", 0), ("x0_jump", 1)],
)
def test_sampler_with_a_perfect_score_finds_the_site(
    predictor: str, corrector_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_sampler, "CompiledHostNet", OfTorch)
    settings = SamplerSettings(steps=30, predictor=predictor, corrector_steps=corrector_steps)
    host = Host(np.array([3]), np.array([[0.2, 0.3, 0.1]]), np.eye(3) * 3.0, 1, 1)
    target = np.array([[1.7, 1.6, 1.5]])
    model = PointModel(host, target).eval()
    generators = [candidate_generator(seed=1, structure_id="x", sample=k) for k in range(5)]
    for sites in sample_sites(model, [host] * 5, generators, settings=settings):
        np.testing.assert_allclose(sites, target, atol=1e-5)


def test_renoise_is_the_share_of_the_noise_that_the_model_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(site_sampler, "CompiledHostNet", OfTorch)
    host = Host(np.array([3]), np.array([[0.2, 0.3, 0.1]]), np.eye(3) * 3.0, 1, 1)
    ways = []
    for renoise in (1.0, 0.5):
        model = PointModel(host, np.array([[1.7, 1.6, 1.5]])).eval()
        settings = SamplerSettings(
            steps=30, predictor="x0_renoise", renoise=renoise, corrector_steps=0
        )
        generator = candidate_generator(seed=1, structure_id="x", sample=0)
        sample_sites(model, [host], [generator], settings=settings)
        ways.append(np.array(model.ways))
    small = ways[0] < 0.5  # no image is closer
    assert small.sum() > 5
    np.testing.assert_allclose(ways[1][small], 0.5 * ways[0][small], rtol=1e-3)


def test_random_sites_keep_their_distance(rocksalt: Atoms, crystals: dict[str, Atoms]) -> None:
    batch = make_batch(crystals, [("rocksalt", "random", 0)], 42)
    host = host_of(batch, 0)
    for sample in range(10):
        generator = candidate_generator(seed=1, structure_id="x", sample=sample)
        sites = random_sites(host, generator=generator)
        atoms = Atoms(
            [*host.numbers, *[1] * host.n_sites],
            np.concatenate([host.positions, sites]),
            cell=host.cell,
            pbc=True,
        )
        distance = atoms.get_all_distances(mic=True)[len(host.numbers) :]
        reach = 0.8 * (covalent_radii[atoms.numbers] + covalent_radii[1])
        distance[distance == 0.0] = np.inf
        assert (distance >= reach - 1e-9).all()


def test_random_sites_terminate_in_a_dense_host() -> None:
    host = Host(np.array([55]), np.zeros((1, 3)), np.eye(3) * 2.0, 1, 3)
    sites = random_sites(host, generator=np.random.default_rng(0))
    assert sites.shape == (3, 3)


def test_wrap_keeps_the_crystal(brucite: Atoms) -> None:
    moved = brucite.positions + np.array([5, -3, 2]) @ brucite.cell.array
    np.testing.assert_allclose(
        wrap(moved, brucite.cell.array), wrap(brucite.positions, brucite.cell.array), atol=1e-9
    )
