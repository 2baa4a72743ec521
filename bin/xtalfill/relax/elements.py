"""The elements that a potential knows, told without building it: milliseconds, and no torch."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import yaml
from ase.data import atomic_numbers

# Of MPtrj, which both were trained on: up to Pu without Po, At, Rn, Fr and Ra.
_MPTRJ = frozenset(range(1, 95)) - frozenset(range(84, 89))
_SEVENNET = {"7net-0": _MPTRJ, "7net-l3i5": _MPTRJ}
# Where the project is whole; a task that has bin/ alone gets the file's path.
_BUNDLED = Path(__file__).resolve().parents[3] / "assets" / "potential"
_BUNDLED_NAMES = ("nequip-small",)
_PACKAGED = "/model/package_metadata.txt"
_COMPILED = "wrapper_metadata.json"
# What a file raises that is missing, damaged, or laid out in another way.
_UNTOLD = (
    AttributeError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    yaml.YAMLError,
)


def known_elements(mlip: str) -> frozenset[int] | None:
    """Return the nuclear charges that a potential knows, from what its file says of itself.

    Nothing in the file is run.

    Args:
        mlip: A name of SevenNet, that of the bundled model, or the path of a nequip model file,
            packaged or compiled.

    Returns:
        None where it cannot be told: a model that has yet to be downloaded, another name, a file
        that is missing, damaged or silent. RELAX then says what is wrong.
    """
    if mlip in _SEVENNET:
        return _SEVENNET[mlip]
    path = _BUNDLED / f"{mlip}.nequip.zip" if mlip in _BUNDLED_NAMES else Path(mlip)
    try:
        with zipfile.ZipFile(path) as archive:
            symbols = _symbols(archive)
    except _UNTOLD:
        return None
    numbers = {atomic_numbers.get(symbol) for symbol in symbols}
    # A type that is no chemical symbol: what it stands for is not known here.
    known = frozenset(number for number in numbers if number is not None)
    return known if known and len(known) == len(numbers) else None


def _symbols(archive: zipfile.ZipFile) -> Iterable[str]:
    """Return the types of atoms of a nequip model file."""
    for name in archive.namelist():
        if name.endswith(_PACKAGED):
            types = yaml.safe_load(archive.read(name))["atom_types"].values()
            return [str(one) for one in types]
        if name.endswith(_COMPILED):
            return str(json.loads(archive.read(name))["type_names"]).split()
    return []
