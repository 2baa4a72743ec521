"""Times of programs that take turns."""

from pathlib import Path

import ase.io
from ase.build import bulk

from tool_runs import tool_module


def test_ratios_compare_neighbours_in_time() -> None:
    times = {"`a`, RELAX": [1.0, 2.0, 4.0], "`b`": [3.0, 5.0, 12.0]}
    first, second = tool_module("bench_nequix").rows_of(times)
    assert first["cells"]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert second["cells"]["ratio"] == {"value": 3.0, "low": 2.5, "high": 3.0}
    assert second["cells"]["time"] == {"value": 5.0, "low": 3.0, "high": 12.0}
    assert (second["key"], second["label"]) == ("b", "`b`")


def test_program_answers_once_for_each_call(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "one.extxyz", [bulk("MgO", "rocksalt", a=4.2)])
    module = tool_module("bench_nequix")
    tools = Path(module.__file__).parent
    timer = module.Timer(
        module.sys.executable, module.OURS, tmp_path / "one.extxyz", 2, "7net-0", 3, tools
    )
    assert timer.seconds() > 0.0
    assert timer.seconds() > 0.0
