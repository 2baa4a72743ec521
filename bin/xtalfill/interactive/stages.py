"""CHECK, INPAINT, RELAX and SELECT in the running process, with the code of the stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import torch

from xtalfill.checks.symmetrised import relax_symmetrised
from xtalfill.core.batch import Batch
from xtalfill.core.files import WEIGHTS
from xtalfill.inputs.batching import build_batch, plan_batches
from xtalfill.inputs.check import elements_by_potential
from xtalfill.inputs.hosts import CheckedHost, Refusal, check_structures
from xtalfill.inputs.structures import Entry
from xtalfill.interactive.settings import Settings
from xtalfill.proposals.score_models import ScoreModels, load_models
from xtalfill.proposals.stage import inpaint_batch, known_methods
from xtalfill.relax.interface import Potential
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.screen import screen_batch
from xtalfill.relax.select import select_candidates
from xtalfill.relax.stage import make_driver, relax_batch

_FRESH = torch.float32  # default type of a process that has loaded no model


@dataclass(frozen=True)
class _Loaded:
    """A potential, and the default type of torch after it was loaded."""

    potential: Potential
    dtype: torch.dtype


def check(entries: Sequence[Entry], settings: Settings) -> tuple[list[CheckedHost], list[Refusal]]:
    """Check structures as the stage CHECK does."""
    return check_structures(
        entries,
        element=settings.check.element,
        n_missing=settings.check.n_missing,
        remove_existing=settings.check.remove_existing,
        n_tries=settings.check.n_tries,
        known=elements_by_potential(settings.check.potentials),
    )


def restore_hosts(
    hosts: Sequence[CheckedHost], settings: Settings, *, progress: TextIO
) -> Iterator[Batch]:
    """Yield the batches of some hosts after SELECT.

    Args:
        hosts: What `check` accepted.
        settings: Of all stages.
        progress: Gets the progress lines of the stages.

    Raises:
        ConfigError: Weights, potential or device cannot be used.
    """
    host_of = {host.id: host for host in hosts}
    sizes = {host.id: len(host.numbers) for host in hosts}
    for ids in plan_batches(sizes, batch_size=settings.check.batch_size).values():
        batch = build_batch(
            [host_of[name] for name in ids],
            {},
            methods=settings.check.methods,
            samples=settings.check.samples,
            oversample=settings.check.oversample,
            seed=settings.check.seed,
        )
        with _as_in_a_task():
            batch = _relaxed(_proposed(batch, settings, progress), settings, progress)
        select_candidates(batch)
        yield batch


def _proposed(batch: Batch, settings: Settings, progress: TextIO) -> Batch:
    """Run INPAINT."""
    inpaint = settings.inpaint
    inpaint_batch(
        batch,
        _score_models(
            tuple(known_methods(batch.method.tolist())),
            tuple((path, _changed(path)) for path in settings.models),
            inpaint.device,
        ),
        inpaint.sampler,
        numbers=inpaint.numbers,
        device=inpaint.device,
        max_atoms=inpaint.max_atoms_per_batch,
        progress=progress,
        progress_seconds=0.0,
    )
    return batch


def _relaxed(batch: Batch, settings: Settings, progress: TextIO) -> Batch:
    """Run RELAX."""
    relax = settings.relax
    first = _potential(relax.mlip, relax.device)
    ranking = None if relax.mlip_rank is None else _potential(relax.mlip_rank, relax.device)
    # Some models set the default type of torch; in a task it stays so for the relaxations.
    for loaded in (first, ranking):
        if loaded is not None and loaded.dtype != _FRESH:
            torch.set_default_dtype(loaded.dtype)
    driver = make_driver(first.potential, relax.relaxation)
    batch = screen_batch(batch, first.potential, driver, keep=relax.samples)
    relax_batch(
        batch,
        first.potential,
        relax.relaxation,
        ranking=None if ranking is None else ranking.potential,
        device=relax.device,
        progress=progress,
        progress_seconds=0.0,
    )
    relax_symmetrised(batch, (ranking or first).potential, relax.relaxation)
    return batch


@contextmanager
def _as_in_a_task() -> Iterator[None]:
    """Give torch the state of a new task with one thread, and restore its state at the end."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(_FRESH)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


@lru_cache(maxsize=4)
def _score_models(
    methods: tuple[str, ...], given: tuple[tuple[Path, int], ...], _device: str
) -> ScoreModels:
    """Return the given weights, else the bundled ones; each device has its own copy."""
    paths = [path for path, _ in given]
    return load_models(methods, given=paths, bundled=sorted(WEIGHTS.glob("*.pt")))


def _potential(mlip: str, device: str) -> _Loaded:
    """Return a potential; a file that changed is loaded again."""
    return _load(mlip, device, _changed(Path(mlip)))


def _changed(path: Path) -> int:
    """Return when a file or a file of a folder changed last, ns; 0 for what is neither."""
    files = [path] if path.is_file() else path.glob("*")
    return max((file.stat().st_mtime_ns for file in files), default=0)


@lru_cache(maxsize=4)
def _load(mlip: str, device: str, _version: int) -> _Loaded:
    torch.set_default_dtype(_FRESH)
    potential = load_potential(mlip, device=device)
    return _Loaded(potential, torch.get_default_dtype())
