"""Integrity checks of downloaded or copied files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from xtalfill.core.errors import ConfigError
from xtalfill.core.record import file_sha256

SUMS = "SHA256SUMS"


def check_file(path: str | Path) -> None:
    """Check a file against SHA256SUMS in its folder and, for a zip archive, its CRCs.

    Args:
        path: File, or a link to it.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    check_recorded(path)
    if (damage := zip_damage(path)) is not None:
        raise ConfigError(f"{path}: {damage}; copy or download the file again")


def check_recorded(path: str | Path) -> None:
    """Compare a file with its entry in SHA256SUMS, if there is one.

    Args:
        path: File, or a link to it; SHA256SUMS is searched in the folder of the link's target.

    Raises:
        ConfigError: The file is missing, or its checksum differs.
    """
    checksum, file = file_sha256(path), Path(path).resolve()
    sums = file.with_name(SUMS)
    if not sums.is_file():
        return
    recorded: dict[str, str] = {}
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        recorded[name.strip()] = digest
    if recorded.get(file.name, checksum) != checksum:
        raise ConfigError(
            f"{path}: sha256 differs from {SUMS}, the file is damaged or was replaced; restore it, "
            "or give your own file in another folder"
        )


def zip_damage(path: str | Path) -> str | None:
    """Return which member of a zip archive is damaged; None if intact or not a zip archive.

    Weights, checkpoints and potentials are zip archives, and PyTorch does not check the CRCs.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            member = file.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError,
            RuntimeError, OverflowError) as error:  # fmt: skip
        return f"damaged ({' '.join(str(error).split())[:120]})"
    return None if member is None else f"damaged: CRC mismatch in {member}"
