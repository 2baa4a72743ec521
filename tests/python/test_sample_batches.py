"""Candidates sampled together are identical to candidates sampled alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from test_inpaint import CONFIG, make_batch
from test_inpaint_models import ASSETS, FAST, small
from xtalfill.models.gemnet import GemNetScore
from xtalfill.models.graphs import Host
from xtalfill.models.hostnet import HostNet
from xtalfill.proposals.diffusion.sample_batches import CHUNK, SampleBatch, loads, on_cpu, on_gpu
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import candidate_generator
from xtalfill.proposals.methods import Method
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.stage import STAGE, inpaint_batch

# No corrector: with the rule "score" it amplifies rounding errors if the score is small.
PLAIN = SamplerSettings(steps=4, corrector_steps=0, jump_length=2)


def make_host(seed: int, *, n_host: int, n_sites: int) -> Host:
    rng = np.random.default_rng(seed)
    cell = np.diag([4.1, 4.8, 5.3]) + rng.normal(scale=0.3, size=(3, 3))
    return Host(rng.integers(3, 60, n_host), rng.random((n_host, 3)) @ cell, cell, 1, n_sites)


class Proposer:
    """Samples from the generators alone and records its calls."""

    def __init__(self, *, memory: int) -> None:
        self.asked: list[int] = []
        self.memory = memory

    def __call__(
        self, hosts: Sequence[Host], generators: Sequence[np.random.Generator]
    ) -> list[np.ndarray]:
        """Draw uniform numbers."""
        self.asked.append(len(hosts))
        if len(hosts) > self.memory:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        pairs = zip(hosts, generators, strict=True)
        return [generator.random((host.n_sites, 3)) for host, generator in pairs]


def make_chunk(number: int, wanted: dict[int, int]) -> SampleBatch:
    host = make_host(number, n_host=3 + number, n_sites=1 + number)
    return SampleBatch(f"crystal {number}", 7, host, min(wanted) // CHUNK * CHUNK, wanted)


@pytest.fixture(scope="module")
def models() -> ScoreModels:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    # Double precision and all neighbours: a random network and a cutoff amplify rounding errors.
    gemnets = {
        kind: GemNetScore(
            replace(small(kind).config, max_neighbors=200), scale_file=ASSETS / "gemnet-dT.json"
        )
        .eval()
        .double()
        for kind in ("td", "pos")
    }
    return ScoreModels({"host": HostNet(CONFIG).eval(), **gemnets})


@pytest.mark.parametrize("name", ["host", "td", "repaint", "random"])
def test_candidates_sampled_together_equal_single_ones(models: ScoreModels, name: str) -> None:
    method = Method(name, models, PLAIN)
    hosts = [make_host(n, n_host=4 + n, n_sites=n) for n in (1, 2, 3)]
    owners = [0, 2, 1, 0, 1]

    def generators() -> list[np.random.Generator]:
        return [candidate_generator(seed=1, structure_id="x", sample=k) for k in range(5)]

    together = method.propose([hosts[owner] for owner in owners], generators())
    for owner, generator, sites in zip(owners, generators(), together, strict=True):
        alone = method.propose([hosts[owner]], [generator])[0]
        assert sites.shape == (hosts[owner].n_sites, 3)
        way = (sites - alone) @ np.linalg.inv(hosts[owner].cell)
        np.testing.assert_allclose(way - np.round(way), 0.0, atol=1e-4)


@pytest.mark.parametrize("method", ["host", "td"])
def test_candidate_does_not_depend_on_the_number_of_candidates(
    models: ScoreModels, brucite: Atoms, method: str
) -> None:
    found = []
    for samples in ([6], range(10), [6, 8]):
        rows = [("brucite", method, sample) for sample in samples]
        batch = make_batch({"brucite": brucite}, rows, 42)
        inpaint_batch(batch, models, FAST)
        index = list(samples).index(6)
        here = batch.stages[STAGE].arrays["positions"][batch.atoms_slice(index)]
        found.append(here.tobytes())
    assert len(set(found)) == 1


def test_chunk_is_sampled_completely_and_filtered() -> None:
    propose = Proposer(memory=CHUNK)
    found = on_cpu(propose, make_chunk(1, {6: 60, 9: 90}))
    assert propose.asked == [CHUNK]
    assert set(found) == {60, 90}
    for sample, system in ((6, 60), (9, 90)):
        generator = candidate_generator(seed=7, structure_id="crystal 1", sample=sample)
        np.testing.assert_array_equal(found[system], generator.random((2, 3)))


def test_gpu_samples_of_many_hosts_equal_cpu_samples(
    models: ScoreModels,
) -> None:
    propose = Method("host", models, PLAIN).propose
    chunks = [make_chunk(0, {0: 4, 3: 5}), make_chunk(1, {5: 6}), make_chunk(2, {1: 0, 2: 1})]
    together = on_gpu(propose, chunks)
    assert set(together) == {0, 1, 4, 5, 6}
    for chunk in chunks:
        for system, sites in on_cpu(propose, chunk).items():
            way = (sites - together[system]) @ np.linalg.inv(chunk.host.cell)
            np.testing.assert_allclose(way - np.round(way), 0.0, atol=1e-4)


def test_gpu_out_of_memory_splits_the_load() -> None:
    propose = Proposer(memory=2)
    chunks = [make_chunk(number, {0: number}) for number in range(5)]
    found = on_gpu(propose, chunks)
    assert propose.asked == [5, 2, 3, 1, 2]
    for number in range(5):
        generator = candidate_generator(seed=7, structure_id=f"crystal {number}", sample=0)
        np.testing.assert_array_equal(found[number], generator.random((1 + number, 3)))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        on_gpu(propose, [make_chunk(1, {0: 0, 1: 1, 2: 2})])


def test_loads_respect_the_atom_limit() -> None:
    chunks = [make_chunk(number, {0: number}) for number in range(5)]  # 4, 6, 8, 10, 12 atoms
    sizes = [[chunk.n_atoms for chunk in load] for load in loads(chunks, max_atoms=18)]
    assert sizes == [[4, 6, 8], [10], [12]]
    assert [len(load) for load in loads(chunks, max_atoms=1)] == [1] * 5
    assert not list(loads([], max_atoms=1))
