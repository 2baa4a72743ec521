"""Read a measured powder pattern: columns of numbers as instruments write them, or a powder CIF."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
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
_HEADER_LINES = 2  # so few lines of numbers between words are a header
_MOST_COLUMNS = 8  # lines with more hold counts alone
_DECIMAL_COMMA = re.compile(r"[-+]?\d+(,\d+)?([eE][-+]?\d+)?")
_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[-+]?\d)")


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
        path: A CIF with the loops of the powder dictionary, or text: columns of 2 theta in degrees,
            intensity, and, if there are exactly three, standard uncertainty; the format FXYE of
            GSAS; or free-format counts of FullProf after a line with first angle, step and last
            angle. Lines that are not numbers are left out. Without uncertainties they are those of
            counts.

    Raises:
        InputError: The file cannot be read, or holds no pattern.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() in (".cif", ".rtv", ".pdcif"):
        return _from_cif(text, path)
    lines = text.splitlines()
    bank = next(
        (words for words in map(str.split, lines) if words[:1] == ["BANK"] and len(words) > 4), None
    )
    if bank is not None and not (bank[-1] == "FXYE" and bank[4].startswith("CONS")):
        raise InputError(
            f"{path}: GSAS data as {bank[4]} {bank[-1]}; write columns (xye), or FXYE of "
            "constant wavelength"
        )
    parsed = (_numbers(line) for line in lines if line.strip())
    blocks = (list(group) for some, group in groupby(parsed, key=bool) if some)
    rows = [row for block in blocks if len(block) > _HEADER_LINES for row in block]
    if (counts := _free_format(lines)) is not None:
        return PatternFile(_pattern(path, *counts))
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    if width > _MOST_COLUMNS:
        raise InputError(f"{path}: {width} numbers in a line; write columns (xye) instead")
    table = np.array([row for row in rows if len(row) == width]).T
    columns = table[: 3 if width == 3 else 2]  # the third of more is often a calculated pattern
    if bank is not None and len(columns):
        columns[0] /= 100  # GSAS counts in hundredths of a degree
    return PatternFile(_pattern(path, *columns))


def _numbers(line: str) -> list[float]:
    """Return the numbers of a line; none if it holds anything else.

    Columns are separated by blanks, commas or semicolons. A comma is a decimal sign where it stands
    in each of several columns. Fortran writes 1.0D+03.
    """
    words = line.replace(";", " ").split()
    decimal = len(words) > 1 and all(_DECIMAL_COMMA.fullmatch(word) for word in words)
    text = line.replace(",", "." if decimal else " ").replace(";", " ")
    try:
        return [float(_EXPONENT.sub("E", word)) for word in text.split()]
    except ValueError:
        return []


def _free_format(lines: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return angles and counts of the free format of FullProf; None if it is another one."""
    heads = ((n, _numbers(" ".join(line.split()[:3]))) for n, line in enumerate(lines))
    number, head = next(((n, head) for n, head in heads if len(head) == 3), (0, [0.0] * 3))
    first, step, last = head
    values = [value for line in lines[number + 1 :] for value in _numbers(line)]
    if not (step > 0 and last > first and round((last - first) / step) + 1 == len(values)):
        return None
    return first + step * np.arange(len(values)), np.array(values)


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
            return PatternFile(
                _pattern(path, two_theta, intensity, _sigma(block, values)),
                _PROBES.get(_first(document, block, "_diffrn_radiation_probe").lower()),
                _number(_first(document, block, "_diffrn_radiation_wavelength")),
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


def _first(document: gemmi.cif.Document, block: gemmi.cif.Block, tag: str) -> str:
    """Return the first value of a tag, from the block of the pattern if it has one, else any."""
    found = [value for one in (block, *document) for value in one.find_values(tag)]
    return gemmi.cif.as_string(found[0]) if found else ""


def _number(text: str) -> float | None:
    value = gemmi.cif.as_number(text)
    return None if np.isnan(value) else float(value)


def _sigma(block: gemmi.cif.Block, values: list[str]) -> np.ndarray | None:
    """Return the uncertainties of the intensities, from brackets or weights; None if unknown."""
    sigma = np.array([_uncertainty(value) for value in values])
    if (sigma > 0).all():
        return sigma
    weights = np.array([gemmi.cif.as_number(one) for one in _column(block, "_pd_proc_ls_weight")])
    if len(weights) == len(values) and (weights > 0).any():
        return np.where(weights > 0, 1 / np.sqrt(np.where(weights > 0, weights, 1.0)), 0.0)
    return None


def _uncertainty(value: str) -> float:
    """Return the uncertainty in brackets of a number, 0 if there is none."""
    digits, _, rest = value.partition("(")
    if not rest:
        return 0.0
    decimals = len(digits.partition(".")[2])
    return float(rest.rstrip(")")) * 10.0**-decimals
