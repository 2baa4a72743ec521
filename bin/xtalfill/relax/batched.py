"""Batched relaxation: many crystals at once, each independent of the others.

Crystals share only the evaluations of the potential. Each has its own optimizer, step count and
convergence test. A finished crystal leaves the batch and the next one in the queue replaces it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.relax.interface import Evaluation, EvaluationError, MemoryShortageError, Potential
from xtalfill.relax.optimizers import OPTIMIZERS, OptimizerName

DIVERGED_FORCE = 1e3  # eV/Angstrom
DIVERGED_STEPS = 20  # consecutive steps; clashes in a proposal disappear after a few steps
MAX_DISPLACEMENT = 20.0  # Angstrom from the starting position

# State of one relaxation as arrays, as stored in a checkpoint.
State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Relaxation:
    """A crystal to relax.

    Attributes:
        crystal: Starting structure.
        free: (n_atoms,) bool; positions of the other sites stay bit-identical.
        start: Energy and forces of `crystal`, if already known.
    """

    crystal: Crystal
    free: np.ndarray
    start: Evaluation | None = None


@dataclass(frozen=True)
class RelaxationResult:
    """Result of one relaxation.

    Attributes:
        positions: (n_atoms, 3) Angstrom; final positions.
        evaluation: Energy and forces at these positions; None if the relaxation failed.
        fmax: Largest force on a free site, eV/Angstrom; NaN if the relaxation failed.
        n_steps: Number of steps.
        converged: Whether `fmax` is below the threshold.
        error: Why the relaxation failed; empty otherwise.
    """

    positions: np.ndarray
    evaluation: Evaluation | None
    fmax: float
    n_steps: int
    converged: bool
    error: str = ""

    def state(self) -> State:
        """Return the result as arrays, for `from_state`."""
        numbers = np.array([self.fmax, float(self.n_steps), float(self.converged)])
        state = {"positions": self.positions, "ended": numbers, "error": np.array(self.error)}
        if self.evaluation is not None:
            state["energy"] = np.array(self.evaluation.energy)
            state["forces"] = self.evaluation.forces
        return state

    @classmethod
    def from_state(cls, state: State) -> RelaxationResult:
        """Return the result stored in `state`."""
        fmax, n_steps, converged = state["ended"].tolist()
        evaluation = None
        if "energy" in state:
            evaluation = Evaluation(float(state["energy"]), state["forces"])
        error = str(state["error"])
        return cls(state["positions"], evaluation, fmax, int(n_steps), bool(converged), error)


class _Run:
    """State of one relaxation in progress."""

    def __init__(self, job: Relaxation, optimizer: OptimizerName) -> None:
        self.free = np.flatnonzero(job.free)
        self.crystal = job.crystal
        self.start = job.start
        self.result: RelaxationResult | None = None
        self._origin = job.crystal.positions
        self._optimizer = OPTIMIZERS[optimizer](len(self.free))
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
        return {"positions": self.crystal.positions, "counts": counts, **self._optimizer.state()}

    def restore(self, state: State) -> None:
        if "ended" in state:
            self.result = RelaxationResult.from_state(state)
            return
        self.start = None  # belongs to the starting positions
        self.crystal = Crystal(self.crystal.numbers, state["positions"], self.crystal.cell)
        self._n_steps, self._n_explosive = state["counts"].tolist()
        self._optimizer.restore(state)

    def fail(self, reason: str) -> None:
        self.result = RelaxationResult(
            self.crystal.positions, None, float("nan"), self._n_steps, False, reason
        )

    def take(self, evaluation: Evaluation, *, fmax: float, max_steps: int) -> None:
        """Finish, or make the next step, given `evaluation` at the current positions."""
        forces = evaluation.forces[self.free]
        if not (np.isfinite(evaluation.energy) and np.isfinite(evaluation.forces).all()):
            self.fail(f"the potential returned NaN or infinity after {self._n_steps} steps")
            return
        largest = float(np.linalg.norm(forces, axis=1).max(initial=0.0))
        self._n_explosive = self._n_explosive + 1 if largest > DIVERGED_FORCE else 0
        if self._n_explosive > DIVERGED_STEPS:
            self.fail(f"diverged: forces above {DIVERGED_FORCE:g} eV/Å for {DIVERGED_STEPS} steps")
            return
        converged = largest < fmax
        if converged or self._n_steps >= max_steps:
            self.result = RelaxationResult(
                self.crystal.positions, evaluation, largest, self._n_steps, converged
            )
            return
        self._move(self._optimizer.step(forces))

    def _move(self, step: np.ndarray) -> None:
        positions = self.crystal.positions.copy()
        positions[self.free] += step
        self.crystal = Crystal(self.crystal.numbers, positions, self.crystal.cell)
        self._n_steps += 1
        moved = np.linalg.norm(positions - self._origin, axis=1).max()
        if moved > MAX_DISPLACEMENT:
            self.fail(
                f"an atom moved by {moved:.0f} Å in {self._n_steps} steps "
                f"(limit {MAX_DISPLACEMENT:g} Å)"
            )


class BatchedRelaxer:
    """Relaxes crystals with a potential, as many at a time as fit in memory.

    Args:
        potential: Interatomic potential.
        max_atoms: Atoms evaluated together. Halved when memory runs out. A single crystal with
            more atoms is evaluated alone.
        optimizer: What makes the steps of each crystal.
        threads: Number of groups evaluated in parallel, one thread each.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        max_atoms: int,
        optimizer: OptimizerName,
        threads: int = 1,
    ) -> None:
        self._potential = potential
        self._optimizer = optimizer
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
        """Relax every crystal until all forces on free sites are below `fmax`.

        Args:
            jobs: Independent relaxations; large crystals start first.
            fmax: Force threshold, eV/Angstrom.
            max_steps: Maximum number of steps of each relaxation.
            on_done: Called with each result when it is available.
            states: States to resume from, by index into `jobs`.
            on_round: Called after each round of steps with a function that returns the states of
                all started relaxations. An exception it raises ends the relaxations.

        Returns:
            One result for each of `jobs`, in their order.
        """
        runs = [_Run(job, self._optimizer) for job in jobs]
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
        """Distribute crystals, by index, over groups of similar size of at most `max_atoms`.

        Each thread gets at least one group if there are enough crystals.
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
        """Evaluate a group; after a failure, bisect it until the failing crystal is alone."""
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
