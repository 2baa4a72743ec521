"""Relax many crystals at once, each as if it were alone.

Crystals share the evaluations of the potential and nothing else: each has its own FIRE, step
count and verdict. One that is done leaves the batch and the next one waiting takes its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.relax.fire import Fire
from xtalfill.relax.interface import Evaluation, EvaluationError, MemoryShortageError, Potential

DIVERGED_FORCE = 1e3  # eV/Angstrom
DIVERGED_STEPS = 20  # steps in a row; a clash of the raw proposal is gone after a few
MAX_DISPLACEMENT = 20.0  # Angstrom from where it started: the site left its crystal

# How far a relaxation is, as arrays: what a checkpoint holds of it.
State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Relaxation:
    """A crystal to relax.

    Attributes:
        crystal: Where it starts.
        free: (n_atoms,) bool; the other sites keep their positions to the last bit.
        start: What the potential says about `crystal`, if that is known already.
    """

    crystal: Crystal
    free: np.ndarray
    start: Evaluation | None = None


@dataclass(frozen=True)
class RelaxationResult:
    """Where a relaxation ended.

    Attributes:
        positions: (n_atoms, 3) Angstrom.
        evaluation: Energy and forces there; None when `error` says why there is none.
        fmax: Largest force on a free site, eV/Angstrom; NaN with an error.
        n_steps: Steps taken.
        converged: Whether `fmax` came under the threshold.
        error: Why the relaxation was given up; empty when it was not.
    """

    positions: np.ndarray
    evaluation: Evaluation | None
    fmax: float
    n_steps: int
    converged: bool
    error: str = ""

    def state(self) -> State:
        """Return it as arrays, for `from_state`."""
        numbers = np.array([self.fmax, float(self.n_steps), float(self.converged)])
        state = {"positions": self.positions, "ended": numbers, "error": np.array(self.error)}
        if self.evaluation is not None:
            state["energy"] = np.array(self.evaluation.energy)
            state["forces"] = self.evaluation.forces
        return state

    @classmethod
    def from_state(cls, state: State) -> RelaxationResult:
        """Return what `state` was made of."""
        fmax, n_steps, converged = state["ended"].tolist()
        evaluation = None
        if "energy" in state:
            evaluation = Evaluation(float(state["energy"]), state["forces"])
        error = str(state["error"])
        return cls(state["positions"], evaluation, fmax, int(n_steps), bool(converged), error)


class _Run:
    """One crystal on its way down."""

    def __init__(self, job: Relaxation) -> None:
        self.free = np.flatnonzero(job.free)
        self.crystal = job.crystal
        self.start = job.start
        self.result: RelaxationResult | None = None
        self._origin = job.crystal.positions
        self._fire = Fire(len(self.free))
        self._n_steps = 0
        self._n_explosive = 0

    @property
    def n_atoms(self) -> int:
        return len(self.crystal.numbers)

    @property
    def begun(self) -> bool:
        return self._n_steps > 0 or self.result is not None

    def state(self) -> State:
        if self.result is not None:
            return self.result.state()
        counts = np.array([self._n_steps, self._n_explosive])
        return {"positions": self.crystal.positions, "counts": counts, **self._fire.state()}

    def restore(self, state: State) -> None:
        if "ended" in state:
            self.result = RelaxationResult.from_state(state)
            return
        self.start = None  # of the positions it began with
        self.crystal = Crystal(self.crystal.numbers, state["positions"], self.crystal.cell)
        self._n_steps, self._n_explosive = state["counts"].tolist()
        self._fire.restore(state)

    def fail(self, reason: str) -> None:
        self.result = RelaxationResult(
            self.crystal.positions, None, float("nan"), self._n_steps, False, reason
        )

    def take(self, evaluation: Evaluation, *, fmax: float, max_steps: int) -> None:
        """Stop here, or make the next step, as `evaluation` of the present positions says."""
        forces = evaluation.forces[self.free]
        if not (np.isfinite(evaluation.energy) and np.isfinite(evaluation.forces).all()):
            self.fail(f"energy or forces are not finite after {self._n_steps} steps")
            return
        largest = float(np.linalg.norm(forces, axis=1).max(initial=0.0))
        self._n_explosive = self._n_explosive + 1 if largest > DIVERGED_FORCE else 0
        if self._n_explosive > DIVERGED_STEPS:
            self.fail(f"exploded: forces above {DIVERGED_FORCE:g} eV/Å for {DIVERGED_STEPS} steps")
            return
        converged = largest < fmax
        if converged or self._n_steps >= max_steps:
            self.result = RelaxationResult(
                self.crystal.positions, evaluation, largest, self._n_steps, converged
            )
            return
        self._move(self._fire.step(forces))

    def _move(self, step: np.ndarray) -> None:
        positions = self.crystal.positions.copy()
        positions[self.free] += step
        self.crystal = Crystal(self.crystal.numbers, positions, self.crystal.cell)
        self._n_steps += 1
        travel = np.linalg.norm(positions - self._origin, axis=1).max()
        if travel > MAX_DISPLACEMENT:
            self.fail(f"a site flew {travel:.0f} Å away in {self._n_steps} steps")


class BatchedRelaxer:
    """Relaxes jobs with a potential, as many at a time as memory takes.

    Args:
        potential: Evaluates the crystals.
        max_atoms: Atoms that are evaluated together. Halved whenever memory runs out; a single
            crystal with more atoms is evaluated alone.
        threads: Groups evaluated at the same time, each by one thread.
    """

    def __init__(self, potential: Potential, *, max_atoms: int, threads: int = 1) -> None:
        self._potential = potential
        self._max_atoms = max_atoms
        self._threads = threads

    def relax(
        self,
        jobs: Sequence[Relaxation],
        *,
        fmax: float,
        max_steps: int,
        on_done: Callable[[RelaxationResult], None] | None = None,
        states: Mapping[int, State] | None = None,
        on_round: Callable[[Callable[[], dict[int, State]]], None] | None = None,
    ) -> list[RelaxationResult]:
        """Relax every job until no force on a free site reaches `fmax`.

        Args:
            jobs: They are independent of each other; large crystals are taken first.
            fmax: eV/Angstrom.
            max_steps: Steps a job may take; not converged by then, it is returned as it is.
            on_done: Called with each result as it comes.
            states: How far some jobs are, by their place in `jobs`.
            on_round: Called after each round of steps with what returns the states of all jobs
                that have begun; what it raises ends the relaxations.

        Returns:
            One result a job, in the order of `jobs`.
        """
        runs = [_Run(job) for job in jobs]
        for index, state in (states or {}).items():
            runs[index].restore(state)
            ended = runs[index].result
            if on_done is not None and ended is not None:
                on_done(ended)
        todo = [run for run in runs if run.result is None]
        waiting = deque(sorted(todo, key=lambda run: (not run.begun, -run.n_atoms)))
        active: list[_Run] = []
        with ThreadPoolExecutor(self._threads) as pool:
            while waiting or active:
                self._admit(waiting, active)
                for run, found in zip(active, self._evaluate_all(active, pool), strict=True):
                    if isinstance(found, Evaluation):
                        run.take(found, fmax=fmax, max_steps=max_steps)
                    else:
                        run.fail(found)
                    if run.result is not None and on_done is not None:
                        on_done(run.result)
                active = [run for run in active if run.result is None]
                if on_round is not None:
                    on_round(lambda: {i: run.state() for i, run in enumerate(runs) if run.begun})
        return [run.result for run in runs if run.result is not None]

    def _admit(self, waiting: deque[_Run], active: list[_Run]) -> None:
        room = self._max_atoms * self._threads - sum(run.n_atoms for run in active)
        while waiting and (waiting[0].n_atoms <= room or not active):
            run = waiting.popleft()
            room -= run.n_atoms
            active.append(run)

    def _evaluate_all(
        self, active: Sequence[_Run], pool: ThreadPoolExecutor
    ) -> list[Evaluation | str]:
        found: dict[int, Evaluation | str] = {}
        for index, run in enumerate(active):
            if run.start is not None:
                found[index], run.start = run.start, None
        todo = [index for index in range(len(active)) if index not in found]
        groups = self._pack({index: active[index].n_atoms for index in todo})
        crystals = [[active[index].crystal for index in group] for group in groups]
        for group, results in zip(groups, pool.map(self._evaluate, crystals), strict=True):
            found.update(zip(group, results, strict=True))
        return [found[index] for index in range(len(active))]

    def _pack(self, sizes: Mapping[int, int]) -> list[list[int]]:
        """Deal crystals, by index, into groups of at most `max_atoms`, about equally large.

        There is at least one group a thread, as far as there are crystals.
        """
        n_groups = min(len(sizes), self._threads)
        while n_groups:
            groups: list[list[int]] = [[] for _ in range(n_groups)]
            loads = [0] * n_groups
            for index in sorted(sizes, key=lambda i: -sizes[i]):
                lightest = loads.index(min(loads))
                groups[lightest].append(index)
                loads[lightest] += sizes[index]
            crowded = zip(groups, loads, strict=True)
            if not any(len(g) > 1 and load > self._max_atoms for g, load in crowded):
                return groups
            n_groups += 1
        return []

    def _evaluate(self, crystals: list[Crystal]) -> list[Evaluation | str]:
        """Evaluate a group; when that fails, halve it until the culprit stands alone."""
        try:
            return list(self._potential.evaluate(crystals))
        except (MemoryShortageError, EvaluationError) as error:
            if len(crystals) == 1:
                return [str(error)]
            if isinstance(error, MemoryShortageError):
                n_atoms = sum(len(crystal.numbers) for crystal in crystals)
                self._max_atoms = max(1, min(self._max_atoms, n_atoms // 2))
        middle = len(crystals) // 2
        return self._evaluate(crystals[:middle]) + self._evaluate(crystals[middle:])
