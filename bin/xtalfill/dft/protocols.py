"""DFT protocols: named sets of all parameters of a calculation (assets/protocols/*.yaml)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from xtalfill.core.errors import ConfigError

SMEARINGS = ("cold", "gaussian", "fermi-dirac", "methfessel-paxton")


@dataclass(frozen=True)
class Protocol:
    """Numerical accuracy of a calculation.

    Attributes:
        name: Name of the protocol.
        kpoints_distance: Largest distance of two k-points in 1/Angstrom, with the factor 2 pi.
        energy_threshold_per_atom: etot_conv_thr per atom in Ry.
        force_threshold: forc_conv_thr in Ry/bohr.
        scf_threshold_per_atom: conv_thr per atom in Ry.
        smearing: Kind of smearing.
        degauss: Smearing width in Ry.
        mixing_beta: Share of the new density in each SCF step.
        electron_maxstep: Maximum number of SCF steps.
        nstep: Maximum number of ionic steps per attempt.
        start_magnetization: Share of the valence electrons, for d and f elements.
        symmetry_tolerance: Largest displacement of an atom by symmetrisation, in Angstrom.
        symmetry_tolerance_filled: Largest displacement of a filled site, in Angstrom.
    """

    name: str
    kpoints_distance: float
    energy_threshold_per_atom: float
    force_threshold: float
    scf_threshold_per_atom: float
    smearing: str
    degauss: float
    mixing_beta: float
    electron_maxstep: int
    nstep: int
    start_magnetization: float
    symmetry_tolerance: float
    symmetry_tolerance_filled: float


def read_protocol(path: Path) -> Protocol:
    """Read a protocol: a mapping of each parameter to its value, unit and source.

    Raises:
        ConfigError: The file cannot be read, or a parameter is missing, unknown, without a source
            or out of range.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path.name}: not a readable protocol ({reason})") from error
    names = {item.name for item in fields(Protocol)}
    if not isinstance(content, dict) or set(content) != names:
        wrong = names.symmetric_difference(content if isinstance(content, dict) else ())
        raise ConfigError(
            f"{path.name}: missing or unknown parameters: {', '.join(map(str, sorted(wrong)))}"
        )
    values: dict[str, Any] = {"name": str(content.pop("name"))}
    for name, entry in content.items():
        if not isinstance(entry, dict) or not {"value", "unit", "source"} <= set(entry):
            raise ConfigError(f"{path.name}: {name} needs value, unit and source")
        values[name] = entry["value"]
    for item in fields(Protocol):
        values[item.name] = _checked(path, item.name, values[item.name], str(item.type))
    return Protocol(**values)


def _checked(path: Path, name: str, value: Any, kind: str) -> Any:
    """Return a value converted to its type, or raise ConfigError."""
    if kind == "str":
        if name == "smearing" and value not in SMEARINGS:
            raise ConfigError(f"{path.name}: smearing is not one of {', '.join(SMEARINGS)}")
        return str(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and (kind != "int" or float(value).is_integer())
    if not whole or not 0 < value < math.inf:
        raise ConfigError(f"{path.name}: {name} is {value!r}; it must be a positive {kind}")
    return int(value) if kind == "int" else float(value)
