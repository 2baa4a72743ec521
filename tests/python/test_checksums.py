"""A flipped bit in weights or potentials is detected before use."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hand_made_batches import Case, Made, brucite, build
from stage_settings import write_settings
from xtalfill.core.batch import write_batch
from xtalfill.core.checksums import check_file
from xtalfill.core.errors import ConfigError
from xtalfill.models.weights import load_weights

SHARED = ["--settings", "settings.json", "--record", "record.json"]
RELAX = ["--batch", "in.h5", "--threads", "1", "--checkpoint", "checkpoint", "--output", "out.h5"]


def flipped(source: Path, target: Path, where: int) -> Path:
    """Copy a file with one bit flipped."""
    content = bytearray(source.read_bytes())
    content[where] ^= 1 << (where % 8)
    target.write_bytes(content)
    return target


def places(path: Path, count: int) -> list[int]:
    """Return random positions inside the members of a zip archive."""
    rng = random.Random(1)
    with zipfile.ZipFile(path) as file:
        members = [info for info in file.infolist() if info.compress_size]
    found = []
    for info in rng.choices(members, k=count):
        # a local header has 30 bytes, the name and padding
        with path.open("rb") as opened:
            opened.seek(info.header_offset + 26)
            name, extra = (int.from_bytes(opened.read(2), "little") for _ in range(2))
        begin = info.header_offset + 30 + name + extra
        found.append(begin + rng.randrange(info.compress_size))
    return found


def test_flipped_bit_in_weights_is_detected(repository: Path, tmp_path: Path) -> None:
    bundled = repository / "assets" / "weights" / "td.pt"
    for where in places(bundled, 20):
        path = flipped(bundled, tmp_path / "mine.pt", where)
        with pytest.raises(ConfigError, match=r"mine\.pt: damaged.*again"):
            load_weights(path)
    # Bytes outside the members are covered by SHA256SUMS only.
    sums = (bundled.parent / "SHA256SUMS").read_text(encoding="utf-8")
    (tmp_path / "SHA256SUMS").write_text(sums, encoding="utf-8")
    path = flipped(bundled, tmp_path / "td.pt", 45)
    with pytest.raises(ConfigError, match="sha256 differs from"):
        load_weights(path)


def test_flipped_bit_in_a_potential_is_detected(repository: Path, tmp_path: Path) -> None:
    bundled = repository / "assets" / "potential" / "nequip-small.nequip.zip"
    check_file(bundled)
    for where in places(bundled, 10):
        with pytest.raises(ConfigError, match="damaged"):
            check_file(flipped(bundled, tmp_path / "mine.nequip.zip", where))


@pytest.mark.parametrize("command", ["compile_potential.py", "relax.py"])
def test_command_reports_damage_in_one_line(repository: Path, tmp_path: Path, command: str) -> None:
    bundled = repository / "assets" / "potential" / "nequip-small.nequip.zip"
    flipped(bundled, tmp_path / "mine.nequip.zip", places(bundled, 1)[0])
    write_batch(build([Case("mg", brucite(), 2, [Made()])]), tmp_path / "in.h5")
    write_settings(tmp_path, command.removesuffix(".py"))
    options = {
        "compile_potential.py": ["--model", "mine.nequip.zip", "--outdir", "."],
        "relax.py": [*RELAX, "--mlip_rank_file", "mine.nequip.zip"],
    }
    result = subprocess.run(
        [sys.executable, repository / "bin" / command, *options[command], *SHARED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 78, result.stderr
    assert result.stderr.startswith("ERROR: mine.nequip.zip: damaged")
    assert len(result.stderr.splitlines()) == 1
