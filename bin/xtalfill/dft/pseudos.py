"""Pseudopotentials: the SSSP table, its files, and the headers of the files.

The table maps an element to its file, the md5 of the file and the recommended cutoffs (Prandini et
al. 2018, doi 10.1038/s41524-018-0127-2). The files are not part of xtalfill. Each file that a job
needs is checked against the table before any job runs.
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
# UPF 2 has attributes in PP_HEADER, UPF 1 has a line of text.
_VALENCE = (
    re.compile(r'\bz_valence\s*=\s*"\s*([-+0-9.EeDd]+)\s*"'),
    re.compile(r"^\s*([-+0-9.EeDd]+)\s+Z valence", re.MULTILINE),
)
_FUNCTIONAL = (
    re.compile(r'\bfunctional\s*=\s*"([^"]*)"'),
    re.compile(r"^[ \t]*(.*?)[ \t]+Exchange-Correlation functional", re.MULTILINE),
)
# Components of a functional in Quantum ESPRESSO -> its common name.
_NAMES = {
    ("SLA", "PW", "PBX", "PBC"): "PBE",
    ("SLA", "PW", "PBE", "PBE"): "PBE",
    ("SLA", "PW", "PSX", "PSC"): "PBEsol",
    ("SLA", "PZ", "NOGX", "NOGC"): "LDA (PZ)",
    ("SLA", "PW", "NOGX", "NOGC"): "LDA (PW)",
    ("PBESOL",): "PBEsol",
    ("PZ",): "LDA (PZ)",
}
# Digest of a table -> name of the library.
_LIBRARIES = {
    "72e2693da7eadfc5cf57596ee5271ff53cd046f091b68b0617b266e4ac160995": (
        "SSSP 1.3.0 PBE efficiency"
    ),
}


@dataclass(frozen=True)
class Pseudo:
    """A pseudopotential of the table.

    Attributes:
        filename: Name of the file, without a folder.
        md5: md5 of the file, hexadecimal.
        cutoff_wfc: Plane-wave cutoff of the wavefunctions in Ry.
        cutoff_rho: Plane-wave cutoff of the density in Ry.
    """

    filename: str
    md5: str
    cutoff_wfc: float
    cutoff_rho: float


PseudoTable = Mapping[str, Pseudo]


@dataclass(frozen=True)
class UpfHeader:
    """Header of a UPF file.

    Attributes:
        valence: Number of valence electrons.
        functional: Exchange-correlation functional, e.g. "PBE"; empty if not stated.
    """

    valence: float
    functional: str


def read_table(path: Path) -> dict[str, Pseudo]:
    """Read a table of pseudopotentials.

    Raises:
        ConfigError: The file is not JSON, or an entry is incomplete or contains a path.
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
    """Return the name of the library with the content of this table; empty if unknown."""
    return _LIBRARIES.get(digest_of(table), "")


def digest_of(table: PseudoTable) -> str:
    """Return the sha256 of a table's content, independent of the layout of its file."""
    content = {symbol: asdict(pseudo) for symbol, pseudo in table.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def functionals(headers: Mapping[str, UpfHeader]) -> str:
    """Return the functionals of some pseudopotentials as text; empty if none is stated."""
    return " and ".join(sorted({one.functional for one in headers.values()} - {""}))


def check_files(table: PseudoTable, folder: Path, symbols: Iterable[str]) -> dict[str, UpfHeader]:
    """Compare the files of some elements with the table.

    Args:
        table: The pseudopotentials.
        folder: Folder with the files.
        symbols: The elements in use; elements missing from the table are skipped.

    Returns:
        Element -> header of its file.

    Raises:
        ConfigError: A file is missing or differs from the table. The message lists all of them.
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
    """Return the header of a UPF file.

    Raises:
        ConfigError: The header states no valence electrons.
    """
    text = content[:_HEADER_BYTES].decode("utf-8", errors="replace")
    valence, functional = (_first(patterns, text) for patterns in (_VALENCE, _FUNCTIONAL))
    if valence is None:
        raise ConfigError(f"{name}: declares no valence electrons; give a UPF file")
    parts = tuple(re.split(r"[\s+-]+", (functional or "").strip().upper()))
    # A short name may follow the four components.
    usual = _NAMES.get(parts[:4], " ".join(parts))
    return UpfHeader(float(valence.upper().replace("D", "E")), usual)


def _first(patterns: Iterable[re.Pattern[str]], text: str) -> str | None:
    matches = (pattern.search(text) for pattern in patterns)
    return next((match[1] for match in matches if match), None)


def cutoffs(table: PseudoTable, symbols: Iterable[str]) -> tuple[float, float]:
    """Return the largest cutoffs of a crystal in Ry: wavefunctions and density."""
    chosen = [table[symbol] for symbol in set(symbols)]
    return max(one.cutoff_wfc for one in chosen), max(one.cutoff_rho for one in chosen)
