"""`xtalfill restore`, and the answers that it prints, from batches made by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

from hand_made_batches import Case, Made, brucite, build
from xtalfill.cli.parser import main, parser
from xtalfill.cli.restore import table_of
from xtalfill.interactive import restore
from xtalfill.interactive.answer import Answer, make_answer, shortest_bond
from xtalfill.interactive.settings import make_all_settings
from xtalfill.relax.select import select_candidates
from xtalfill.results.confidence import CALIBRATED, bundled_cards

STOPPED = "relax_positions: not converged"
CASES = [
    Case(
        "mg",
        brucite(),
        2,
        [
            Made(relaxed=(0, 0.5, 1.0)),
            Made(),
            Made(),
            Made(status="failed", message="relax_sites: blew up"),
            Made(energy=-9.0, status="unconverged", message=STOPPED),
        ],
    ),
    Case("dead", brucite(), 2, [Made(status="failed", message="inpaint: no room")] * 2),
]


def answers() -> dict[str, Answer]:
    batch = build(CASES)
    select_candidates(batch)
    return {
        name: make_answer(batch, members, notes=(), form=Atoms.copy)
        for name, members in batch.groups().items()
    }


def test_minima_are_in_the_order_of_energy_and_unconverged_ones_last() -> None:
    answer = answers()["mg"]
    minima = answer.minima
    assert minima["status"].tolist() == ["ok", "ok", "unconverged"]
    assert minima["n_candidates"].tolist() == [2, 1, 1]
    assert minima["energy_above_best"][0] == 0.0
    assert minima["energy_above_best"][1] > 0.0
    assert minima["sample"].tolist() == [1, 0, 4]
    assert len(answer.crystals) == 3
    assert np.allclose(answer.crystals[0].get_scaled_positions(), brucite().get_scaled_positions())
    assert minima["space_group"][0] == "P-3m1"


def test_the_minima_of_several_methods_are_in_one_order() -> None:
    made = [Made(relaxed=(0, 0.5, 1.0)), Made(method="random"), Made(method="random", energy=-1.0)]
    batch = build([Case("mg", brucite(), 2, made)])
    select_candidates(batch)
    answer = make_answer(batch, batch.groups()["mg"], notes=(), form=Atoms.copy)
    assert answer.minima["method"].tolist()[:2] == ["random", "random"]
    assert answer.minima["energy_above_best"].is_monotonic_increasing
    assert "method" in [str(column.header) for column in table_of(answer).columns]
    assert len(answer.checks) == len(answer.minima)
    assert answer.checks["bonds"].str.contains("-H").all()


def test_a_structure_without_a_usable_candidate_has_status_and_message() -> None:
    answer = answers()["dead"]
    assert (answer.status, answer.best, len(answer.minima)) == ("failed", None, 0)
    assert answer.message == "no usable candidate of 2; the first: inpaint: no room"
    assert "inpaint: no room" in answer._repr_html_()


def test_the_odds_are_those_of_the_table_of_a_run() -> None:
    both = answers()
    assert both["mg"].confidence.calibration == "not calibrated: method host, measured with mix"
    assert both["dead"].confidence.calibration == "not calibrated: no crystal"
    card = bundled_cards()[0]
    batch = build([Case("mg", brucite(), 2, [Made(method="mix")] * 10)])
    select_candidates(batch)
    measured = {name: card["settings"][name] for name in ("steps", "predictor", "renoise")}
    batch.stages["inpaint"].attrs |= measured | {"weights": card["weights"]}
    batch.stages["relax_positions"].attrs |= {"mlip": "7net-0", "optimizer": "L-BFGS", "fmax": 0.05}
    answer = make_answer(batch, batch.groups()["mg"], notes=(), form=Atoms.copy)
    assert answer.confidence.calibration == CALIBRATED
    assert 0.5 < answer.confidence.matched < answer.confidence.les < 1.0
    assert "of like answers for known crystals" in answer._repr_html_()


def test_the_shortest_bond_crosses_the_boundary() -> None:
    atoms = Atoms("OH", positions=[[0.1, 0, 0], [4.5, 0, 0]], cell=[5, 5, 5], pbc=True)
    length, bond = shortest_bond(atoms, np.array([True, False]))
    assert (round(length, 6), bond) == (0.6, "O-H")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "hosts.extxyz"
    frames = [atoms[atoms.numbers != 1] for atoms in (brucite(), brucite())]
    for atoms, name in zip(frames, ("mg", "dead"), strict=True):
        atoms.info = {"id": name}
    ase.io.write(path, frames)
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the command get the answers made by hand, and keep its settings."""
    seen: list[Any] = []

    def made(given: list[Any], settings: Any, *, progress: bool) -> list[Answer]:
        seen.append(settings)
        return [answers()[one.entry.id] for one in given]

    monkeypatch.setattr(restore, "restore_given", made)
    return seen


def test_the_table_and_the_files(
    given: Path, calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["restore", str(given), "-n", "2", "--samples", "5", "-o", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "P-3m1" in said
    assert "2 of 5" in said
    assert "Checks of the first: unusual O-H length: 2 of 0.919 Å" in said
    assert "dead: failed: no usable candidate of 2" in said
    assert said.index("mg_1.cif") < said.index("mg_2.cif")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["mg_1.cif", "mg_2.cif", "mg_3.cif"]
    assert len(ase.io.read(tmp_path / "out" / "mg_1.cif")) == 5
    (settings,) = calls
    assert (settings.check.n_missing, settings.check.samples) == ("2", 5)
    assert settings.check.seed == make_all_settings({}).check.seed


def test_without_an_answer_the_exit_code_is_that_of_bad_data(
    calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atoms = brucite()[:3]
    atoms.info = {"id": "dead"}
    ase.io.write(tmp_path / "one.extxyz", atoms)
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(tmp_path / "one.extxyz"), "-n", "2"])
    assert ended.value.code == os.EX_DATAERR
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("ERROR: ")
    assert "no usable candidate of 2" in errors[0]


def test_an_unknown_number_is_asked_for_with_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ase.io.write(tmp_path / "host.cif", brucite()[:1])
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(tmp_path / "host.cif")])
    assert ended.value.code == os.EX_DATAERR
    (line,) = capsys.readouterr().err.splitlines()
    assert "--n_missing" in line


def test_an_output_that_is_a_file_is_one_line(
    given: Path, calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["restore", str(given), "-o", str(given)])
    assert ended.value.code == os.EX_DATAERR
    assert "cannot be made" in capsys.readouterr().err


def test_the_options_are_those_of_the_pipeline() -> None:
    args = parser().parse_args(["restore", "x.cif", "-n", "2", "--element", "Li"])
    assert (args.n_missing, args.element, args.samples) == ("2", "Li", None)


@pytest.mark.parametrize(
    ("line", "word"),
    [("xtalfill res", "restore"), ("xtalfill restore --pot", "--potential_dir")],
)
def test_a_shell_completes_the_line(tmp_path: Path, line: str, word: str) -> None:
    answer = tmp_path / "answer"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n"}
    script = "from xtalfill.cli.parser import main; main()"
    subprocess.run([sys.executable, "-c", script], env=os.environ | asked, check=True)
    assert answer.read_text(encoding="utf-8").strip() == word
