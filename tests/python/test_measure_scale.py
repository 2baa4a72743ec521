"""tools/measure_scale.py: the draw, the trace, disk usage, and lines through the runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tool_runs import DATA, REPOSITORY, tool_module
from xtalfill.core.errors import InputError


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return tool_module("measure_scale")


def test_a_smaller_draw_begins_a_larger_one(tool: ModuleType) -> None:
    large = tool.draw_hosts(DATA, 6, max_atoms=40, seed=1)
    small = tool.draw_hosts(DATA, 3, max_atoms=40, seed=1)
    assert [one.info for one in small] == [one.info for one in large[:3]]
    assert len({one.info["id"] for one in large}) == 6
    other = tool.draw_hosts(DATA, 6, max_atoms=40, seed=2)
    assert [one.info["id"] for one in other] != [one.info["id"] for one in large]
    for host in large:
        assert not (host.numbers == 1).any()
        assert host.info["n_missing"] >= 1
    with pytest.raises(InputError, match="draw fewer, or raise --max_atoms"):
        tool.draw_hosts(DATA, 10_000, max_atoms=40, seed=1)


def test_stages_are_those_of_the_trace(tool: ModuleType, tmp_path: Path) -> None:
    fixture = REPOSITORY / "tests" / "fixtures" / "runs" / "finished.json"
    trace = tmp_path / "trace.txt"
    lines = json.loads(fixture.read_text())["trace"]
    trace.write_text("\n".join(lines) + "\n")
    found = tool.stages_of(trace)
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    relax = [row for row in rows if row["name"].startswith("RELAX ")]
    assert found["RELAX"]["tasks"] == len([one for one in relax if one["status"] == "COMPLETED"])
    megabytes = max(float(row["peak_rss"].split()[0]) for row in relax if "MB" in row["peak_rss"])
    assert found["RELAX"]["peak_rss"] == pytest.approx(megabytes * 1024**2, rel=1e-6)
    assert found["RELAX"]["core_seconds"] > 0


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("-", 0), ("12 B", 12), ("1.5 KB", 1536), ("2 GB", 2 * 1024**3)]
)
def test_sizes_of_the_trace(tool: ModuleType, text: str, size: int) -> None:
    assert tool._bytes(text) == size


def test_usage_counts_a_hard_link_once_and_follows_no_link(
    tool: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "large").write_bytes(b"x" * 10**6)
    (folder / "a").write_bytes(b"x" * 10_000)
    os.link(folder / "a", folder / "b")
    (folder / "link").symlink_to(tmp_path / "large")
    found = tool.usage(folder)
    assert found["inodes"] == 3
    assert 10_000 <= found["bytes"] < 10**5


def test_lines_through_the_runs(tool: ModuleType) -> None:
    runs = [
        {"structures": n, "cpu_seconds": 5 + 2.0 * n, "head": {"peak_rss": 100}, "stages": {}}
        for n in (10, 20, 40)
    ]
    found = tool.fits(runs)
    assert found["cpu_seconds"]["slope"] == pytest.approx(2)
    assert found["cpu_seconds"]["intercept"] == pytest.approx(5)
    assert found["head.peak_rss"]["slope"] == pytest.approx(0, abs=1e-9)
    runs[1]["cpu_seconds"] = 100.0
    assert tool.fits(runs)["cpu_seconds"]["deviation"] > 0.3
    assert tool.fits(runs[:1]) == {}


def test_the_head_is_a_process_that_runs_nextflow(tool: ModuleType) -> None:
    work = "x = bytearray(200_000_000); sum(range(10**7)); input()"
    command = [sys.executable, "-c", work, "nextflow.cli.Launcher"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as run:
        head = tool.Head()
        limit = time.monotonic() + 120
        while head.cpu_seconds == 0 or head.peak_rss < 2e8:
            tool._look_at(Path(f"/proc/{run.pid}"), head)
            assert run.poll() is None
            assert time.monotonic() < limit
        run.communicate(b"\n")
    assert 2e8 <= head.peak_rss < 1e9
    before = head.peak_rss
    tool._look_at(Path(f"/proc/{run.pid}"), head)  # gone
    tool._look_at(Path(f"/proc/{os.getpid()}"), head)  # another program
    assert head.peak_rss == before


def test_tables_and_the_plan_for_many(tool: ModuleType) -> None:
    tables = tool_module("scale_tables")
    runs = []
    for n in (100, 300, 1000):
        stages = {name: {"tasks": n / 100, "peak_rss": 1e8 + 1e4 * n} for name in tables.STAGES}
        folders = {
            name: {"inodes": 2 * n, "bytes": 1e3 * n} for name in ("results", "work", "results.db")
        }
        runs.append({
            "structures": n, "cpu_seconds": 2.0 * n, "head": {"peak_rss": 3e8, "cpu_seconds": 9.0},
            "stages": stages, "folders": folders, "files": {"report.html": 1e3 * n},
        })  # fmt: skip
    content = {"runs": runs, "fits": tool.fits(runs)}
    measured = tables.measured_table(content)
    rows = {row["label"]: row["cells"] for row in measured["rows"]}
    assert rows["memory of RELAX, MB"]["n300"]["value"] == pytest.approx(103.0)
    assert rows["memory of RELAX, MB"]["slope"]["value"] == pytest.approx(10.0)
    assert rows["results database, MB"]["n1000"]["value"] == pytest.approx(1.0)
    real = {"core_seconds": 36.0, "results": 1e6, "work": 2e6, "database": 1e5}
    plan = tables.plan_table(content, real, structures=10**6, parts=10, cores=1000)
    found = {row["label"]: row["cells"]["plan"]["value"] for row in plan["rows"]}
    # 7 stages but STORE, a task of each for 100 structures.
    assert found["jobs"] == pytest.approx(7 * 10**4)
    assert found["core-hours"] == pytest.approx(10**4)
    assert found["memory of COLLECT, GB"] == pytest.approx(1.1)
    assert found["results, GB"] == pytest.approx(1000.0)
