"""FIRE optimizer for one crystal in a fixed cell, restricted to the free sites.

Each crystal of a batch has its own instance, so time step, mixing and step limit do not depend
on the other crystals. Algorithm and parameters are those of ``ase.optimize.FIRE`` (Bitzek et al.,
Phys. Rev. Lett. 97, 170201 (2006)); the trajectories agree.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

DT_START = 0.1
DT_MAX = 1.0
N_MIN = 5
F_INC = 1.1
F_DEC = 0.5
ALPHA_START = 0.1
F_ALPHA = 0.99
MAX_STEP = 0.2  # Angstrom; norm of the step vector of all sites


class Fire:
    """State of one minimisation: velocity, time step, mixing.

    Args:
        n_free: Number of free sites.
    """

    def __init__(self, n_free: int) -> None:
        self._velocity = np.zeros((n_free, 3))
        self._dt = DT_START
        self._alpha = ALPHA_START
        self._n_downhill = 0
        self._started = False

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for `restore`."""
        numbers = [self._dt, self._alpha, float(self._n_downhill), float(self._started)]
        return {"velocity": self._velocity.copy(), "fire": np.array(numbers)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Resume from a state returned by `state`."""
        self._velocity = state["velocity"].copy()
        self._dt, self._alpha, n_downhill, started = state["fire"].tolist()
        self._n_downhill, self._started = int(n_downhill), bool(started)

    def step(self, forces: np.ndarray) -> np.ndarray:
        """Return the next displacement.

        Args:
            forces: (n_free, 3) eV/Angstrom on the free sites at the current positions.

        Returns:
            (n_free, 3) Angstrom; the norm is at most `MAX_STEP`.
        """
        if self._started:
            self._mix(forces)
        self._started = True
        self._velocity += self._dt * forces
        step = self._dt * self._velocity
        length = float(np.linalg.norm(step))
        return step * (MAX_STEP / length) if length > MAX_STEP else step

    def _mix(self, forces: np.ndarray) -> None:
        velocity = self._velocity
        if np.vdot(forces, velocity) > 0.0:
            speed = np.linalg.norm(velocity) / np.linalg.norm(forces)
            self._velocity = (1.0 - self._alpha) * velocity + self._alpha * speed * forces
            if self._n_downhill > N_MIN:
                self._dt = min(self._dt * F_INC, DT_MAX)
                self._alpha *= F_ALPHA
            self._n_downhill += 1
        else:
            self._velocity = np.zeros_like(velocity)
            self._alpha = ALPHA_START
            self._dt *= F_DEC
            self._n_downhill = 0
