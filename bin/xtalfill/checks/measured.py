"""Read a measured powder pattern: two or three columns of numbers, or a powder CIF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from xtalfill.checks.diffraction import Kind
from xtalfill.checks.profile import Measured
from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line

_ANGLES = ("_pd_proc_2theta_corrected", "_pd_meas_2theta_scan")
_RANGES = ("_pd_proc_2theta_range_", "_pd_meas_2theta_range_")
_INTENSITIES = (
    "_pd_meas_counts_total",
    "_pd_meas_intensity_total",
    "_pd_proc_intensity_total",
    "_pd_proc_intensity_net",
)
_PROBES: dict[str, Kind] = {"x-ray": "xray", "neutron": "neutron"}
LEAST_POINTS = 50


@dataclass(frozen=True, eq=False)
class PatternFile:
    """A measured pattern and what its file says of the radiation.

    Attributes:
        measured: The pattern.
        kind: None if the file does not say.
        wavelength: Å; None if the file does not say.
    """

    measured: Measured
    kind: Kind | None = None
    wavelength: float | None = None


def read_pattern(path: Path) -> PatternFile:
    """Read a measured pattern.

    Args:
        path: A CIF with the loops of the powder dictionary, or text with two columns (2 theta in
            degrees, intensity) or three (standard uncertainty). Lines that are not numbers are
            left out. Without uncertainties they are those of counts.

    Raises:
        InputError: The file cannot be read, or holds no pattern.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() in (".cif", ".rtv", ".pdcif"):
        return _from_cif(text, path)
    rows = [row for row in map(_numbers, text.splitlines()) if len(row) >= 2]
    width = min((len(row) for row in rows), default=0)
    columns = np.array([row[: min(width, 3)] for row in rows]).T
    return PatternFile(_pattern(path, *columns))


def _numbers(line: str) -> list[float]:
    """Return the numbers of a line; none if it holds anything else."""
    try:
        return [float(word) for word in line.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        return []


def _pattern(
    path: Path,
    two_theta: np.ndarray | None = None,
    intensity: np.ndarray | None = None,
    sigma: np.ndarray | None = None,
) -> Measured:
    if two_theta is None or intensity is None or len(two_theta) < LEAST_POINTS:
        raise InputError(
            f"{path}: no powder pattern; give columns of 2 theta and intensity (at least "
            f"{LEAST_POINTS} points), or a CIF with _pd_meas_2theta_scan"
        )
    if sigma is None or not (sigma > 0).any():
        sigma = np.sqrt(np.maximum(intensity, 1.0))
    usable = np.isfinite(two_theta) & np.isfinite(intensity) & (sigma > 0)
    order = np.argsort(two_theta[usable], kind="stable")
    found = Measured(*(values[usable][order] for values in (two_theta, intensity, sigma)))
    if not (0 <= found.two_theta[0] < found.two_theta[-1] < 180):
        raise InputError(
            f"{path}: 2 theta goes from {found.two_theta[0]:g} to {found.two_theta[-1]:g}; "
            "give degrees between 0 and 180 (constant wavelength)"
        )
    return found


def _from_cif(text: str, path: Path) -> PatternFile:
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a CIF file ({one_line(error)})") from error
    for block in document:
        values = next((v for v in (_column(block, tag) for tag in _INTENSITIES) if len(v)), None)
        if values is None:
            continue
        intensity = np.array([gemmi.cif.as_number(value) for value in values])
        angles = next((v for v in (_column(block, tag) for tag in _ANGLES) if len(v)), None)
        two_theta = (
            _even_steps(block, len(intensity))
            if angles is None
            else np.array([gemmi.cif.as_number(value) for value in angles])
        )
        if two_theta is not None and len(two_theta) == len(intensity):
            sigma = np.array([_uncertainty(value) for value in values])
            probe = (block.find_value("_diffrn_radiation_probe") or "").strip("'\"")
            length = gemmi.cif.as_number(block.find_value("_diffrn_radiation_wavelength") or "?")
            return PatternFile(
                _pattern(path, two_theta, intensity, sigma if (sigma > 0).all() else None),
                _PROBES.get(probe),
                None if np.isnan(length) else float(length),
            )
    return PatternFile(_pattern(path))


def _column(block: gemmi.cif.Block, tag: str) -> list[str]:
    return list(block.find_values(tag))


def _even_steps(block: gemmi.cif.Block, n: int) -> np.ndarray | None:
    """Return the angles of a scan that is given by its first one and its step."""
    for prefix in _RANGES:
        first, step = (
            gemmi.cif.as_number(block.find_value(prefix + name) or "?") for name in ("min", "inc")
        )
        if not np.isnan(first + step):
            return np.asarray(first + step * np.arange(n))
    return None


def _uncertainty(value: str) -> float:
    """Return the uncertainty in brackets of a number, 0 if there is none."""
    digits, _, rest = value.partition("(")
    if not rest:
        return 0.0
    decimals = len(digits.partition(".")[2])
    return float(rest.rstrip(")")) * 10.0**-decimals
