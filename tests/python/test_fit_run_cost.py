"""tools/fit_run_cost.py: cost models from the traces of finished runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tool_runs import tool_module
from xtalfill.core.errors import ConfigError

HEADER = (
    "task_id\thash\tname\tstatus\texit\tattempt\tsubmit\tstart\tduration\trealtime\t%cpu\t"
    "peak_rss\tworkdir"
)
TIME = "2026-11-28 14:43:28.555"
SIZES = (4, 8, 12, 24, 48)


def make_run(outdir: Path, *, rank: str | None = None) -> None:
    """Write a run of one structure a batch: a task of RELAX takes 7 + 0.02 S core-seconds."""
    (outdir / "pipeline_info").mkdir(parents=True)
    parameters = {"method": "host", "mlip": "7net-0", "mlip_rank": rank, "samples": 5}
    parameters |= {"steps": 50, "corrector_steps": 0, "oversample": 2}
    (outdir / "provenance.json").write_text(json.dumps({"parameters": parameters}))
    structures = [{"batch": f"b{n}.h5", "n_atoms": n} for n in SIZES]
    check = {"structures": structures, "parameters": {"methods": ["host"], "samples": 5}}
    (outdir / "pipeline_info" / "check.json").write_text(json.dumps(check))
    lines = [HEADER]
    for n in SIZES:
        work = outdir / "work" / "ab" / f"{n:030d}"
        work.mkdir(parents=True)
        (work / "out").write_bytes(b"x" * 4096)
        relax = 7 + 0.02 * 5 * n**1.5 + (0.01 * 5 * n**1.5 + 2 if rank else 0)
        for name, seconds in (("RELAX", relax), ("INPAINT", 4 + 0.03 * 5 * n)):
            # twice the time at half of the processor
            row = [1, "ab/000000", f"{name} (b{n})", "COMPLETED", 0, 1, TIME, TIME]
            row += ["1s", f"{1000 * 2 * seconds:.0f}ms", "50.0%", "1 GB", work]
            lines.append("\t".join(map(str, row)))
    (outdir / "pipeline_info" / "trace.txt").write_text("\n".join(lines) + "\n")


def run_tool(
    monkeypatch: pytest.MonkeyPatch, output: Path, *runs: Path, more: tuple[str, ...] = ()
) -> None:
    words = ["--runs", *map(str, runs), "--machine", "a test", "--output", str(output), *more]
    monkeypatch.setattr(sys, "argv", ["fit_run_cost.py", *words])
    tool_module("fit_run_cost").main()


def test_the_models_are_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", rank="nequix-oam-1")
    run_tool(monkeypatch, tmp_path / "cost.json", tmp_path / "one", tmp_path / "two")
    cost = json.loads((tmp_path / "cost.json").read_text())
    models = {(one["stage"], one["name"]): one for one in cost["stages"]}
    relax, rank = models["RELAX", "7net-0"], models["RELAX_RANK", "nequix-oam-1"]
    assert (relax["exponent"], rank["exponent"]) == (1.5, 1.5)
    assert relax["task"] == pytest.approx(7, rel=0.01)
    assert relax["atom"] == pytest.approx(0.02, rel=0.01)
    assert rank["atom"] == pytest.approx(0.01, rel=0.05)
    # 50 noise levels, twice as many proposals: as many evaluations as 5 candidates at 100
    assert models["INPAINT", "host"]["atom"] == pytest.approx(0.03, rel=0.01)
    assert cost["spread"] == pytest.approx(1, abs=0.01)
    assert cost["machine"] == "a test"


def test_new_models_are_added_to_those_of_other_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "one")
    output = tmp_path / "cost.json"
    run_tool(monkeypatch, output, tmp_path / "one")
    old = json.loads(output.read_text())
    content = json.loads((tmp_path / "one" / "provenance.json").read_text())
    content["parameters"] |= {"method": "mix", "mlip": "other"}
    (tmp_path / "one" / "provenance.json").write_text(json.dumps(content))
    run_tool(monkeypatch, output, tmp_path / "one", more=("--add",))
    new = json.loads(output.read_text())
    assert {key: new[key] for key in old if key != "stages"} | {"stages": old["stages"]} == old
    names = [(one["stage"], one["name"]) for one in new["stages"]]
    assert names == sorted([("INPAINT", "host"), ("INPAINT", "mix"), ("RELAX", "7net-0"),
                            ("RELAX", "other")])  # fmt: skip
    assert [one for one in new["stages"] if one["name"] in {"host", "7net-0"}] == old["stages"]


def test_too_few_tasks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    trace = tmp_path / "pipeline_info" / "trace.txt"
    trace.write_text("\n".join(trace.read_text().splitlines()[:4]) + "\n")
    with pytest.raises(ConfigError, match="give more runs"):
        run_tool(monkeypatch, tmp_path / "cost.json", tmp_path)
