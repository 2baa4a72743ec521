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
from dataclasses import dataclass
from pathlib import Path

from xtalfill.errors import ConfigError

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")
_HEADER_BYTES = 1 << 20
# UPF 2 has attributes in its PP_HEADER, UPF 1 a line of words.
_VALENCE = (
    re.compile(r'\bz_valence\s*=\s*"\s*([-+0-9.EeDd]+)\s*"'),
    re.compile(r"^\s*([-+0-9.EeDd]+)\s+Z valence", re.MULTILINE),
)


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


Table = Mapping[str, Pseudo]


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
            f"{path.name}: not a table of pseudopotentials ({reason}); its form is that of SSSP"
        ) from error
    for symbol, pseudo in table.items():
        if not SAFE_NAME.fullmatch(pseudo.filename):
            raise ConfigError(f"{path.name}: {symbol} names {pseudo.filename!r}, no plain file")
        if not 0 < pseudo.cutoff_wfc <= pseudo.cutoff_rho:
            raise ConfigError(f"{path.name}: the cutoffs of {symbol} are not 0 < wfc <= rho")
    return table


def check_files(table: Table, folder: Path, symbols: Iterable[str]) -> dict[str, float]:
    """Compare the files of some elements with the table.

    Args:
        table: The pseudopotentials.
        folder: Where their files lie.
        symbols: The elements that will be needed; those not in the table are left out.

    Returns:
        Element -> its valence electrons.

    Raises:
        ConfigError: A file is missing or another one than the table means; all of them are
            named.
    """
    problems, valence = [], {}
    for symbol in sorted(set(symbols) & set(table)):
        pseudo = table[symbol]
        try:
            content = (folder / pseudo.filename).read_bytes()
        except OSError as error:
            problems.append(f"{pseudo.filename} ({error.strerror})")
            continue
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != pseudo.md5:
            problems.append(f"{pseudo.filename} (md5 is not that of the table)")
            continue
        valence[symbol] = valence_of(content, name=pseudo.filename)
    if problems:
        raise ConfigError(
            f"--pseudo_dir lacks {len(problems)} pseudopotential(s): {', '.join(problems)}; "
            "give the folder with the files of the table (docs/validate.md)"
        )
    return valence


def valence_of(content: bytes, *, name: str) -> float:
    """Return the valence electrons that a UPF file declares.

    Raises:
        ConfigError: It declares none.
    """
    text = content[:_HEADER_BYTES].decode("utf-8", errors="replace")
    for pattern in _VALENCE:
        if match := pattern.search(text):
            return float(match[1].upper().replace("D", "E"))
    raise ConfigError(f"{name}: declares no valence electrons; give a UPF file")


def cutoffs(table: Table, symbols: Iterable[str]) -> tuple[float, float]:
    """Return the cutoffs of a crystal in Ry, (wavefunctions, density): each the largest."""
    chosen = [table[symbol] for symbol in set(symbols)]
    return max(one.cutoff_wfc for one in chosen), max(one.cutoff_rho for one in chosen)
