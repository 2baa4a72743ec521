"""The two sides of each comparison of tools/bench.py, each to run in a process of its own.

Every side computes the same: the same crystals, the same weights, the same number of steps. It
returns its CPU time on one core, without imports and loading, and its results for the comparison.
"""

import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.optimize import BFGS
from bench_nequix import OURS, THEIRS, Timer
from bench_relax import FMAX, HYDROGEN, proposals, relax_batched, relax_serially
from torch import Tensor
from upstream_gemnet import SCALE_FILE, td_gemnet, upstream_batch, upstream_denoiser

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal
from xtalfill.core.relaxations import POSITIONS
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.interactive.settings import make_all_settings
from xtalfill.interactive.stages import restore_hosts
from xtalfill.models.crystals import Crystals
from xtalfill.models.gemnet import GemNetConfig, GemNetScore
from xtalfill.models.weights import load_weights
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.potentials import load_potential

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "assets" / "weights"
STEPS = 6  # FIRE steps of a relaxation
SEED = 42
BFGS_STEPS = 500  # XtalPaint's most for one relaxation
CALLS = 3  # timed calls of a network, after one that warms up


@dataclass(frozen=True)
class Side:
    """What one side took.

    Attributes:
        units: Structures, calls or starts.
        seconds: CPU time for them, on one core.
        results: Numbers that both sides must agree on; empty if there are none.
    """

    units: int
    seconds: float
    results: list[float]

    @property
    def per_minute(self) -> float:
        """Units a minute."""
        return 60.0 * self.units / self.seconds


def relax_ours(crystals: Path, count: int, mlip: str) -> Side:
    """Relax hydrogen, then all sites, with RELAX; results: energies in eV."""
    options = Namespace(mlip=mlip, device="cpu", threads=1, max_steps=STEPS)
    timing = relax_batched(proposals(crystals, count, SEED), options, count)
    return Side(count, timing.cpu_seconds, timing.energies)


def relax_ase(crystals: Path, count: int, mlip: str) -> Side:
    """The same with ASE's FIRE and the calculator of the package, one crystal after the other."""
    torch.set_num_threads(1)
    options = Namespace(mlip=mlip, device="cpu", max_steps=STEPS)
    timing = relax_serially(proposals(crystals, count, SEED), options)
    return Side(count, timing.cpu_seconds, timing.energies)


def restored(crystals: Path, count: int, mlip: str) -> tuple[Batch, float]:
    """Return the first crystals restored with ten candidates of `host`, and the CPU time."""
    hosts = []
    for number, atoms in enumerate(ase.io.read(crystals, f":{count}")):
        bare = atoms[atoms.numbers != HYDROGEN]
        n_missing = len(atoms) - len(bare)
        hosts.append(CheckedHost(f"c{number}", "", bare, HYDROGEN, n_missing))
    changes = {"method": "host", "samples": 10, "mlip": mlip, "mlip_rank": "none", "fmax": FMAX}
    settings, progress = make_all_settings({**changes, "seed": SEED}), io.StringIO()
    list(restore_hosts(hosts[:1], settings, progress=progress))  # loads and compiles
    begin = time.process_time()
    (batch,) = restore_hosts(hosts, settings, progress=progress)
    return batch, time.process_time() - begin


def restore_ours(crystals: Path, count: int, mlip: str) -> Side:
    """Sample and relax ten candidates of each crystal; results: lowest energies in eV."""
    batch, seconds = restored(crystals, count, mlip)
    energy = batch.stages[POSITIONS].arrays["energy"]
    lowest = [float(np.nanmin(energy[members])) for members in batch.groups().values()]
    return Side(count, seconds, lowest)


def restore_ase(crystals: Path, count: int, mlip: str) -> Side:
    """Relax the same candidates with ASE's BFGS, one by one, as XtalPaint; sampling is free."""
    torch.set_num_threads(1)
    batch, _ = restored(crystals, count, mlip)
    proposed, options = [], Namespace(mlip=mlip, device="cpu", max_steps=BFGS_STEPS)
    for index in (index for members in batch.groups().values() for index in members):
        here = batch.atoms_slice(index)
        numbers, positions = batch.atomic_numbers[here], batch.stages["inpaint"].arrays["positions"]
        proposed.append(Atoms(numbers, positions[here], cell=batch.cell[index], pbc=True))
    timing = relax_serially(proposed, options, BFGS)
    lowest = np.reshape(timing.energies, (count, -1)).min(axis=1)
    return Side(count, timing.cpu_seconds, lowest.tolist())


def free_ours(crystals: Path, count: int, mlip: str) -> Side:
    """Relax all sites with RELAX; results: energies in eV."""
    torch.set_num_threads(1)
    potential = load_potential(mlip, device="cpu")
    atoms = proposals(crystals, count, SEED)
    found = [Crystal(one.numbers, one.positions, one.cell.array) for one in atoms]
    potential.evaluate(found[:1])
    driver = BatchedRelaxer(potential, max_atoms=sum(len(one) for one in atoms), optimizer="fire")
    begin = time.process_time()
    jobs = [Relaxation(one, np.ones(len(one.numbers), dtype=bool)) for one in found]
    done = driver.relax(jobs, fmax=FMAX, max_steps=STEPS)
    seconds = time.process_time() - begin
    return Side(count, seconds, [r.evaluation.energy if r.evaluation else np.nan for r in done])


def free_torch_sim(crystals: Path, count: int, mlip: str) -> Side:
    """The same with torch-sim's FIRE and nequip's model for it, all crystals in one batch."""
    import torch_sim
    from nequip.integrations.torchsim import NequIPTorchSimCalc
    from torch_sim.optimizers import fire

    torch.set_num_threads(1)
    # The public loader needs a compiler; the eager loader of nequip is private.
    model = NequIPTorchSimCalc._from_saved_model(
        mlip, device="cpu", chemical_species_to_atom_type_map=True
    )
    atoms = proposals(crystals, count, SEED)

    def state_of(some: list[Atoms]) -> torch_sim.SimState:
        return torch_sim.initialize_state(some, device=torch.device("cpu"), dtype=model.dtype)

    model(state_of(atoms[:1]))
    start, step = fire(model, md_flavor="ase_fire")
    begin = time.process_time()
    state = start(state_of(atoms))
    for _ in range(STEPS):
        state = step(state)
    return Side(count, time.process_time() - begin, state.energy.tolist())


def noised(crystals: Path, count: int) -> Crystals:
    """Return `count` crystals with hydrogen at random places, the host displaced a little.

    Without that, rounding would decide which of several neighbours at one distance GemNet keeps.
    """
    atoms = proposals(crystals, count, SEED)
    for number, one in enumerate(atoms):
        one.rattle(0.05, seed=SEED + number)
    return Crystals(
        fractions=torch.tensor(np.concatenate([one.get_scaled_positions() for one in atoms])),
        cell=torch.tensor(np.stack([one.cell.array for one in atoms])),
        numbers=torch.tensor(np.concatenate([one.numbers for one in atoms]).astype(np.int64)),
        structure=torch.arange(count).repeat_interleave(torch.tensor([len(a) for a in atoms])),
    )


def score_network(name: str) -> GemNetScore:
    """Return bundled weights, "td" or "pos", or random ones of the published size, "published"."""
    if name == "published":
        torch.manual_seed(SEED)
        return GemNetScore(GemNetConfig(per_site_times=True), scale_file=SCALE_FILE).eval()
    network = load_weights(WEIGHTS / f"{name}.pt")
    if not isinstance(network, GemNetScore):
        raise TypeError(f"{name}.pt holds no GemNet")
    return network


def score_ours(crystals: Path, count: int, name: str) -> Side:
    """Evaluate the network of a proposal method; results: scores."""
    torch.set_num_threads(1)
    network, some = score_network(name), noised(crystals, count)
    times = torch.full((len(some.numbers),), 0.5, dtype=torch.float64)
    with torch.no_grad():
        return _timed(lambda: network.scaled_score(some, times), count)


def score_upstream(crystals: Path, count: int, name: str, xtalpaint: Path | None) -> Side:
    """The same with mattergen's denoiser and, given a checkout of XtalPaint, its TDGemNetT."""
    torch.set_num_threads(1)
    network, some = score_network(name), noised(crystals, count)
    denoiser = upstream_denoiser(network.config, td_gemnet(xtalpaint) if xtalpaint else None)
    denoiser.load_state_dict(network.state_dict())
    denoiser.eval()
    batch = upstream_batch(_single(some))
    times = torch.full((len(some.numbers) if xtalpaint else count,), 0.5)
    with torch.no_grad():
        return _timed(lambda: denoiser(batch, times).pos, count)


def _single(crystals: Crystals) -> Crystals:
    """Return crystals in single precision, as mattergen reads them."""
    return Crystals(
        crystals.fractions.float(), crystals.cell.float(), crystals.numbers, crystals.structure
    )


def _timed(call: Callable[[], Tensor], count: int) -> Side:
    call()
    begin = time.process_time()
    for _ in range(CALLS):
        result = call()
    return Side(count * CALLS, time.process_time() - begin, result.flatten().tolist())


def nequix_ours(crystals: Path, atoms: int, mlip: Path) -> Side:
    """One force call of a crystal with our port of Nequix."""
    timer = Timer(sys.executable, OURS, crystals, atoms, mlip, 1, Path(__file__).parent)
    return Side(1, timer.seconds(), [])


def nequix_theirs(crystals: Path, atoms: int, mlip: Path, python: str, checkout: Path) -> Side:
    """The same with the calculator of its authors (jax)."""
    return Side(1, Timer(python, THEIRS, crystals, atoms, checkout, mlip).seconds(), [])


def start_pipeline() -> Side:
    """Print the help of the pipeline."""
    return _start("run", REPOSITORY / "main.nf", "--help")


def start_nextflow() -> Side:
    """Run a script of Nextflow that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "nothing.nf")
        script.write_text("workflow { }\n")
        return _start("run", script)


def _start(*arguments: str | Path) -> Side:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as launch:
        subprocess.run(  # noqa: S603 - our own launcher and script
            ["nextflow", *map(str, arguments)],  # noqa: S607 - the one that `make setup` chose
            cwd=launch,
            env={**os.environ, "NXF_OFFLINE": "true"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Side(1, used, [])
