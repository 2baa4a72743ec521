"""The tables of tools/crystals_of_run.py: one row a crystal of a benchmark."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xtalfill.core.errors import InputError


def read_crystals(paths: Sequence[Path]) -> pd.DataFrame:
    """Return the rows of some tables, indexed by id.

    Raises:
        InputError: A crystal is in two tables.
    """
    table = pd.concat([pd.read_csv(path) for path in paths]).set_index("id")
    if not table.index.is_unique:
        raise InputError(f"{table.index[table.index.duplicated()][0]} is in two tables")
    return table


def with_reference(table: pd.DataFrame) -> pd.DataFrame:
    """Return the crystals with a usable reference."""
    return table[table["has_reference"].fillna(False).astype(bool)]


def matches(table: pd.DataFrame) -> pd.Series:
    """Return whether the winner of each crystal matches; False where nothing was compared."""
    return table["matched"].fillna(False).astype(bool)
