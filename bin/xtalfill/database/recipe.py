"""The recipe of a result: the settings and weights that decide it.

The pipeline makes it once for a run (lib/Recipe.groovy) and gives it to CHECK, which leaves out
what is stored with the same recipe, and to STORE, which stores it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtalfill.core.errors import ConfigError

# Å. The same file read by another release of a library differs by less.
_DECIMALS = 5


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a structure, beside its host.

    Attributes:
        settings: Parameter -> value, for those that change a result.
        weights: What loads a model ("model", "mlip", "mlip_rank") -> sha256 of its files.
        defaults: Parameter -> default of this release; not stored.
    """

    settings: Mapping[str, Any]
    weights: Mapping[str, Any]
    defaults: Mapping[str, Any]

    @property
    def content(self) -> dict[str, Any]:
        """What is stored."""
        return {"settings": dict(self.settings), "weights": dict(self.weights)}

    @property
    def digest(self) -> str:
        """The sha256 of the content."""
        return content_digest(self.content)

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Return the settings and weights in which a stored recipe differs from this one.

        A setting that the stored recipe lacks, since its release had none, counts as the default.
        One that this recipe lacks does not count: it belongs to a stage that this run leaves out.

        Args:
            stored: The content of a stored recipe.
        """
        settings, weights = stored["settings"], stored["weights"]
        different = [
            name
            for name, value in self.settings.items()
            if settings.get(name, self.defaults.get(name)) != value
        ]
        different += [
            f"weights of {name}"
            for name, value in self.weights.items()
            if weights.get(name) != value and name not in different
        ]
        return sorted(different)


def read_recipe(content: Any) -> Recipe:
    """Return the recipe in JSON of the pipeline.

    Raises:
        ConfigError: It is not one.
    """
    parts = ("settings", "weights", "defaults")
    if not isinstance(content, dict) or any(not isinstance(content.get(p), dict) for p in parts):
        raise ConfigError("not a recipe of a run; it has settings, weights and defaults")
    return Recipe(*(content[part] for part in parts))


def content_digest(content: Any) -> str:
    """Return the sha256 of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def host_key(
    cell: np.ndarray, numbers: np.ndarray, positions: np.ndarray, *, element: int, n_missing: int
) -> str:
    """Return the sha256 of a host and of what is missing in it.

    Args:
        cell: (3, 3) Å; rows are a, b, c.
        numbers: (n_host,) atomic numbers.
        positions: (n_host, 3) Å.
        element: Atomic number of the missing sites.
        n_missing: Their number.
    """
    digest = hashlib.sha256(f"{element} {n_missing} {len(numbers)} ".encode())
    digest.update(np.asarray(numbers, dtype="<i4").tobytes())
    for lengths in (cell, positions):
        rounded = np.round(np.asarray(lengths, dtype="<f8"), _DECIMALS) + 0.0  # no negative zero
        digest.update(np.ascontiguousarray(rounded).tobytes())
    return digest.hexdigest()
