"""Crystals of the training files to exclude or to hold out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtalfill.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Crystals not used for training.

    Attributes:
        excluded: Material ids excluded from training and validation.
        held_out: Chemical systems ("Al-H-O") used for validation only.
    """

    excluded: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()

    def kept(self, material_ids: list[str]) -> np.ndarray:
        """Return (n,) True for each crystal that is not excluded.

        Raises:
            ConfigError: An excluded id is not in the files: the list belongs to other data.
        """
        if unknown := sorted(self.excluded - set(material_ids)):
            raise ConfigError(
                f"--exclude: {len(unknown)} of {len(self.excluded)} ids are not in the training "
                f"files (first: {unknown[0]}); give the files that the list was made for"
            )
        return np.array([name not in self.excluded for name in material_ids])


def read_split(*, exclude: Path | None, hold_out: Path | None) -> Split | None:
    """Read the lists of excluded and held-out crystals.

    Args:
        exclude: CSV with a column `training_material_id` or `material_id`, or None.
        hold_out: CSV with a column `chemical_system`, or None.

    Returns:
        The split, or None if no list is given.

    Raises:
        ConfigError: A list cannot be read or lacks its column.
    """
    if exclude is None and hold_out is None:
        return None
    return Split(
        excluded=_column(exclude, ("training_material_id", "material_id")),
        held_out=frozenset(map(sorted_system, _column(hold_out, ("chemical_system",)))),
    )


def sorted_system(name: str) -> str:
    """Return a chemical system ("Mg-H-O") with its elements sorted by symbol."""
    return "-".join(sorted(name.split("-")))


def _column(path: Path | None, names: tuple[str, ...]) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            name = next((name for name in names if name in (reader.fieldnames or [])), None)
            if name is None:
                raise ConfigError(f"{path}: column {names[0]!r} is missing; add it to the header")
            return frozenset(row[name].strip() for row in reader if (row[name] or "").strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a readable CSV list ({error})") from error
