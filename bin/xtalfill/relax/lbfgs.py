"""L-BFGS optimizer for one crystal in a fixed cell, restricted to the free sites.

The inverse Hessian is built from the last steps (Nocedal and Wright, Numerical Optimization, 2nd
ed., Algorithms 7.4 and 7.5; first scaling Eq. 7.20). There is no line search: a step needs one
evaluation, as in ``ase.optimize.LBFGS``, and its length is limited. Where the energy curves down,
the memory is forgotten, so that a step never goes uphill.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MEMORY = 50  # steps
FIRST_CURVATURE = 70.0  # eV/Angstrom^2, of the first step; ase.optimize.LBFGS has the same
SOFTEST = 20.0  # eV/Angstrom^2; a softer first scaling makes steps that overshoot
MAX_STEP = 0.2  # Angstrom, of the site that moves farthest
_FLAT = 1e-12  # cosine of step and change of force below which there is no curvature


class Lbfgs:
    """State of one minimisation: the last steps and the changes of the forces.

    Args:
        n_free: Number of free sites.
    """

    def __init__(self, n_free: int) -> None:
        self._n_free = n_free
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []
        self._forces: np.ndarray | None = None
        self._step = np.zeros(3 * n_free)

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for `restore`."""
        shape = (len(self._steps), 3 * self._n_free)
        return {
            "steps": np.array(self._steps).reshape(shape),
            "changes": np.array(self._changes).reshape(shape),
            "last_forces": np.empty(0) if self._forces is None else self._forces,
            "last_step": self._step,
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Resume from a state returned by `state`."""
        self._steps, self._changes = list(state["steps"]), list(state["changes"])
        self._forces = state["last_forces"] if state["last_forces"].size else None
        self._step = state["last_step"]

    def step(self, forces: np.ndarray) -> np.ndarray:
        """Return the next displacement.

        Args:
            forces: (n_free, 3) eV/Angstrom on the free sites at the current positions.

        Returns:
            (n_free, 3) Angstrom; no site moves farther than `MAX_STEP`.
        """
        downhill = forces.ravel().astype(float)
        if self._forces is not None:
            self._remember(self._step, self._forces - downhill)
        step = self._direction(downhill)
        if step @ downhill <= 0.0:  # by rounding, or where the energy is not smooth
            self._forget()
            step = downhill / FIRST_CURVATURE
        farthest = float(np.linalg.norm(step.reshape(-1, 3), axis=1).max(initial=0.0))
        if farthest > MAX_STEP:
            step = step * (MAX_STEP / farthest)
        self._forces, self._step = downhill, step
        return step.reshape(-1, 3)

    def _remember(self, step: np.ndarray, change: np.ndarray) -> None:
        """Add a step and the change of the gradient on it; forget all where it curves down."""
        if step @ change <= _FLAT * np.linalg.norm(step) * np.linalg.norm(change):
            self._forget()
            return
        self._steps, self._changes = (
            [*known[1 - MEMORY :], new]
            for known, new in ((self._steps, step), (self._changes, change))
        )

    def _forget(self) -> None:
        self._steps, self._changes = [], []

    def _direction(self, downhill: np.ndarray) -> np.ndarray:
        """Return the inverse Hessian times the forces (two loops)."""
        direction = downhill.copy()
        pairs = [(s, y, 1.0 / (s @ y)) for s, y in zip(self._steps, self._changes, strict=True)]
        shares = []
        for s, y, rho in reversed(pairs):
            shares.append(rho * (s @ direction))
            direction -= shares[-1] * y
        curvature = FIRST_CURVATURE
        if pairs:
            s, y, _ = pairs[-1]
            curvature = max(float(y @ y) / float(s @ y), SOFTEST)
        direction /= curvature
        for (s, y, rho), share in zip(pairs, reversed(shares), strict=True):
            direction += s * (share - rho * (y @ direction))
        return direction
