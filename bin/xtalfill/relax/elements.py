"""Elements supported by a potential, read from its file in milliseconds without torch."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import yaml
from ase.data import atomic_numbers

from xtalfill.core.errors import ConfigError
from xtalfill.core.files import BUNDLED_POTENTIALS
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.relax.nqx_file import SUFFIX, read_config

_PACKAGED = "/model/package_metadata.txt"
_COMPILED = "wrapper_metadata.json"
# Exceptions for a file that is missing, damaged, or of another format.
_UNREADABLE = (
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
    """Return the atomic numbers that a potential supports, from the metadata of its file.

    No code of the file is run.

    Args:
        mlip: A name of the registry, or the path of a packaged or compiled nequip model file or of
            a Nequix model file.

    Returns:
        Atomic numbers, or None if they are unknown: a model that is not downloaded yet, another
        name, or a file that is missing, damaged or without metadata. RELAX reports the error.
    """
    entry = POTENTIALS.get(mlip)
    if entry is not None and entry.elements is not None:
        return entry.elements
    bundled = None if entry is None else entry.bundled
    path = Path(mlip) if bundled is None else BUNDLED_POTENTIALS / bundled
    if path.name.endswith(SUFFIX):
        return _elements_of_nqx(path)
    try:
        with zipfile.ZipFile(path) as archive:
            symbols = _symbols(archive)
    except _UNREADABLE:
        return None
    numbers = {atomic_numbers.get(symbol) for symbol in symbols}
    # A type that is not a chemical symbol: its element is unknown.
    known = frozenset(number for number in numbers if number is not None)
    return known if known and len(known) == len(numbers) else None


def _elements_of_nqx(path: Path) -> frozenset[int] | None:
    try:
        return frozenset(read_config(path).atomic_numbers)
    except ConfigError:
        return None


def _symbols(archive: zipfile.ZipFile) -> Iterable[str]:
    """Return the atom types of a nequip model file."""
    for name in archive.namelist():
        if name.endswith(_PACKAGED):
            types = yaml.safe_load(archive.read(name))["atom_types"].values()
            return [str(one) for one in types]
        if name.endswith(_COMPILED):
            return str(json.loads(archive.read(name))["type_names"]).split()
    return []
