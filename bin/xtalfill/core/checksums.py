"""Whether a file that was downloaded or copied is still what was written."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from xtalfill.core.errors import ConfigError
from xtalfill.core.record import file_sha256

SUMS = "SHA256SUMS"


def check_file(path: str | Path) -> None:
    """Check a file by the SHA-256 that is recorded beside it, and by the CRCs of its members.

    Args:
        path: The file, or a link to it.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    check_recorded(path)
    if (damage := zip_damage(path)) is not None:
        raise ConfigError(f"{path}: {damage}; copy or download the file again")


def check_recorded(path: str | Path) -> None:
    """Compare with the SHA256SUMS beside a file, where there is one that names it.

    Args:
        path: The file, or a link to it: the checksums lie beside what it points to.

    Raises:
        ConfigError: The file is missing, or not what is recorded.
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
            f"{path}: sha256 is not the one in {SUMS}; the file is damaged or was replaced: "
            "restore it, or give your own from another folder"
        )


def zip_damage(path: str | Path) -> str | None:
    """Say which member of a zip archive is damaged, if one is; None for any other file.

    Weights, checkpoints and potentials are such archives, and PyTorch does not look at the CRCs.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as file:
            member = file.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError,
            RuntimeError, OverflowError) as error:  # fmt: skip
        return f"damaged ({' '.join(str(error).split())[:120]})"
    return None if member is None else f"damaged: the CRC of {member} does not agree"
