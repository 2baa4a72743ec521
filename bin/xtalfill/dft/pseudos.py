"""Pseudopotentials: the SSSP table, the files behind it, and what is read from their headers.

The table maps an element to its file, the md5 of that file and the cutoffs that its authors
recommend (Prandini et al. 2018, doi 10.1038/s41524-018-0127-2). The files themselves are not
part of xtalfill; every one that a job needs is checked against the table before any job.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from xtalfill.core.errors import ConfigError

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")
_HEADER_BYTES = 1 << 20
# UPF 2 has attributes in its PP_HEADER, UPF 1 a line of words.
_VALENCE = (
    re.compile(r'\bz_valence\s*=\s*"\s*([-+0-9.EeDd]+)\s*"'),
    re.compile(r"^\s*([-+0-9.EeDd]+)\s+Z valence", re.MULTILINE),
)
_FUNCTIONAL = (
    re.compile(r'\bfunctional\s*=\s*"([^"]*)"'),
    re.compile(r"^[ \t]*(.*?)[ \t]+Exchange-Correlation functional", re.MULTILINE),
)
# Quantum ESPRESSO's parts of a functional -> its usual name.
_NAMES = {
    ("SLA", "PW", "PBX", "PBC"): "PBE",
    ("SLA", "PW", "PBE", "PBE"): "PBE",
    ("SLA", "PW", "PSX", "PSC"): "PBEsol",
    ("SLA", "PZ", "NOGX", "NOGC"): "LDA (PZ)",
    ("SLA", "PW", "NOGX", "NOGC"): "LDA (PW)",
    ("PBESOL",): "PBEsol",
    ("PZ",): "LDA (PZ)",
}
# Digest of a table -> the library it is.
_LIBRARIES = {
    "72e2693da7eadfc5cf57596ee5271ff53cd046f091b68b0617b266e4ac160995": (
        "SSSP 1.3.0 PBE efficiency"
    ),
}


@dataclass(frozen=True)
class Pseudo:
    """A pseudopotential of the table.

    Attributes:
        filename: Of its file; no folder.
        md5: Of its file, hexadecimal digits.
        cutoff_wfc: Ry; plane waves of the wavefunctions.
        cutoff_rho: Ry; plane waves of the density.
    """

    filename: str
    md5: str
    cutoff_wfc: float
    cutoff_rho: float


PseudoTable = Mapping[str, Pseudo]


@dataclass(frozen=True)
class UpfHeader:
    """What a pseudopotential's file says of itself.

    Attributes:
        valence: Electrons.
        functional: That it was made for, e.g. "PBE"; empty where it is not told.
    """

    valence: float
    functional: str


def read_table(path: Path) -> dict[str, Pseudo]:
    """Read a table of pseudopotentials.

    Raises:
        ConfigError: It is not JSON, or an entry lacks something or names a path.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        table = {
            str(symbol): Pseudo(
                str(entry["filename"]),
                str(entry["md5"]).lower(),
                float(entry["cutoff_wfc"]),
                float(entry["cutoff_rho"]),
            )
            for symbol, entry in content.items()
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{path.name}: not a table of pseudopotentials ({reason}); use the JSON format of SSSP"
        ) from error
    for symbol, pseudo in table.items():
        if not SAFE_NAME.fullmatch(pseudo.filename):
            raise ConfigError(
                f"{path.name}: {symbol}: {pseudo.filename!r} is not a plain file name"
            )
        if not 0 < pseudo.cutoff_wfc <= pseudo.cutoff_rho:
            raise ConfigError(f"{path.name}: the cutoffs of {symbol} do not satisfy 0 < wfc <= rho")
    return table


def library_of(table: PseudoTable) -> str:
    """Return the name of the library that a table is, told by its content; empty if unknown."""
    return _LIBRARIES.get(digest_of(table), "")


def digest_of(table: PseudoTable) -> str:
    """Return the sha256 of a table's content, however its file is laid out."""
    content = {symbol: asdict(pseudo) for symbol, pseudo in table.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def functionals(headers: Mapping[str, UpfHeader]) -> str:
    """Return the functionals of some pseudopotentials, in words; empty where none is told."""
    return " and ".join(sorted({one.functional for one in headers.values()} - {""}))


def check_files(table: PseudoTable, folder: Path, symbols: Iterable[str]) -> dict[str, UpfHeader]:
    """Compare the files of some elements with the table.

    Args:
        table: The pseudopotentials.
        folder: Where their files lie.
        symbols: The elements that will be needed; those not in the table are left out.

    Returns:
        Element -> what its file says of itself.

    Raises:
        ConfigError: A file is missing or another one than the table means; all of them are
            named.
    """
    problems, headers = [], {}
    for symbol in sorted(set(symbols) & set(table)):
        pseudo = table[symbol]
        try:
            content = (folder / pseudo.filename).read_bytes()
        except OSError as error:
            problems.append(f"{pseudo.filename} ({error.strerror})")
            continue
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != pseudo.md5:
            problems.append(f"{pseudo.filename} (md5 differs from the table)")
            continue
        headers[symbol] = header_of(content, name=pseudo.filename)
    if problems:
        raise ConfigError(
            f"--pseudo_dir lacks {len(problems)} pseudopotential(s): {', '.join(problems)}; "
            "give the folder with the files of the table (docs/validate.md)"
        )
    return headers


def header_of(content: bytes, *, name: str) -> UpfHeader:
    """Return what a UPF file says of itself.

    Raises:
        ConfigError: It declares no valence electrons.
    """
    text = content[:_HEADER_BYTES].decode("utf-8", errors="replace")
    valence, functional = (_first(patterns, text) for patterns in (_VALENCE, _FUNCTIONAL))
    if valence is None:
        raise ConfigError(f"{name}: declares no valence electrons; give a UPF file")
    parts = tuple(re.split(r"[\s+-]+", (functional or "").strip().upper()))
    # A short name may follow the four parts.
    usual = _NAMES.get(parts[:4], " ".join(parts))
    return UpfHeader(float(valence.upper().replace("D", "E")), usual)


def _first(patterns: Iterable[re.Pattern[str]], text: str) -> str | None:
    matches = (pattern.search(text) for pattern in patterns)
    return next((match[1] for match in matches if match), None)


def cutoffs(table: PseudoTable, symbols: Iterable[str]) -> tuple[float, float]:
    """Return the cutoffs of a crystal in Ry, (wavefunctions, density): each the largest."""
    chosen = [table[symbol] for symbol in set(symbols)]
    return max(one.cutoff_wfc for one in chosen), max(one.cutoff_rho for one in chosen)
