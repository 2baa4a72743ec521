"""The report: one page without a network, safe with hostile texts, numbers from the run."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from ase.data.colors import jmol_colors
from skimage.color import deltaE_ciede2000, rgb2lab

from browser import browser
from dft_examples import protocol
from hand_made_batches import (
    Case,
    Made,
    add_dft,
    brucite,
    build,
    lithium_hydride,
    write_check,
)
from xtalfill.core.batch import read_batch, write_batch
from xtalfill.core.errors import InputError
from xtalfill.core.record import write_record
from xtalfill.evaluate.dft import evaluate_dft
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.interactive.view import crystal_frame
from xtalfill.results import structures
from xtalfill.results.collect import collect
from xtalfill.results.confidence import CALIBRATED, Confidence
from xtalfill.results.report import html as page_module
from xtalfill.results.report.drawing import RESTORED_COLOUR, cell_edges, draw_crystal, drawn_atoms
from xtalfill.results.report.figures import energy_strip, split_bars, success_curves
from xtalfill.results.report.methods import cited, methods_paragraph
from xtalfill.results.report.packed import unpack_text
from xtalfill.results.report.picture import draw_picture
from xtalfill.results.report.provenance import gather_provenance
from xtalfill.results.report.write import write_report
from xtalfill.results.tables import read_tables

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
RUN = {
    "params": {"seed": 42, "input": f"/data/{HOSTILE}"},
    "workflow": {"name": "xtalfill", "revision": "0123456789abcdef", "nextflow": "24.10.0"},
}
RELAXATION = {"mlip": "7net-0", "optimizer": "L-BFGS", "fmax": 0.05, "max_steps": 500}


def make_run(folder: Path, cases: list[Case], refused: list[dict[str, str]]) -> dict[str, Any]:
    """Write all that REPORT reads and return its arguments."""
    batch = build(cases)
    batch.stages["inpaint"].attrs = {
        "steps": 100, "predictor": "ancestral", "corrector_steps": 0,
        "resampling": 3, "jump_length": 10,
    }  # fmt: skip
    for name in ("relax_sites", "relax_positions"):
        batch.stages[name].attrs = dict(RELAXATION)
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, folder / "batch_0000.h5")
    write_check(folder / "check.json", cases, refused)
    collect(folder / "check.json", [folder / "batch_0000.h5"], folder)
    for stage, seconds in (("relax", 20.5), ("relax", 30.25), ("inpaint", 1.5)):
        name = f"{stage}_{seconds}"
        write_record(
            folder / f"{name}.record.json",
            stage=stage,
            batch="batch_0000.h5",
            seconds=seconds,
            parameters={"fmax": 0.05},
            counts={"ok": 3, "unconverged": 1, "failed": 0},
            weights={"7net-0": "ab" * 32} if stage == "relax" else {"host.pt": "cd" * 32},
        )
    (folder / "params.json").write_text(json.dumps(RUN))
    (folder / "pipeline_info").mkdir(exist_ok=True)
    (folder / "pipeline_info" / "main.nf").write_text("workflow {}\n")
    return {
        "check": folder / "check.json",
        "batches": [folder / "batch_0000.h5"],
        "evaluation": folder / "evaluation.json",
        "records": sorted(folder.glob("*.record.json")),
        "params": folder / "params.json",
        "workflow": folder / "pipeline_info" / "main.nf",
        "outdir": folder,
    }


CASES = [
    Case("mg", brucite(), 2, [Made(), Made(relaxed=(0, 0, 2.2)), Made(method="random")]),
    Case("lih", lithium_hydride(), 4, [Made(), Made(status="failed", message=HOSTILE)]),
    Case("free", brucite(), 2, [Made(method="random")], with_reference=False),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    refused = [{"id": "torn", "source": HOSTILE, "message": HOSTILE}]
    write_report(**make_run(folder, CASES, refused))
    return folder


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and texts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.text += data


@pytest.fixture(scope="module")
def source(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def read_part(source: str, name: str) -> Any:
    """Return a packed part of a page."""
    found = re.search(rf'<script type="text/plain" id="part-{name}">(.*?)</script>', source)
    assert found
    return json.loads(unpack_text(found[1]))


@pytest.fixture(scope="module")
def overview(source: str) -> dict[str, Any]:
    return read_part(source, "overview")


@pytest.fixture(scope="module")
def crystals(source: str) -> dict[str, Any]:
    return read_part(source, "crystals-0")


def test_the_best_of_all_methods_is_marked(run: Path, page: Page) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    assert "all methods" in page.text
    assert content["all_methods"]["n_samples"] == 3
    rows = [attrs for tag, attrs in page.elements if tag == "tr" and "data-method" in attrs]
    found = {row["data-id"]: row["data-method"] for row in rows}
    assert found == {"free": "random", "lih": "host", "mg": "host", "torn": ""}


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    loading = [
        (tag, name, attrs[name])
        for tag, attrs in page.elements
        for name in ("src", "srcset", "data", "action", "poster", "background")
        if name in attrs
    ]
    assert loading == []
    assert not [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "base")]
    policy = [a["content"] for t, a in page.elements if t == "meta" and "content" in a][-1]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_hostile_texts_are_shown_and_not_run(page: Page, source: str) -> None:
    assert page.text.count(HOSTILE) >= 3  # of CHECK, of a candidate, of a parameter
    assert not [attrs for tag, attrs in page.elements if tag == "img" or "onerror" in attrs]
    assert sum(tag == "script" for tag, _ in page.elements) == 4  # three parts, and what runs
    assert 'alert("x")</script>' not in source


def test_every_structure_has_a_row_and_every_restored_one_a_page(
    page: Page, overview: dict[str, Any], crystals: dict[str, Any]
) -> None:
    assert list(crystals) == ["free", "lih", "mg"]
    links = {attrs["href"] for tag, attrs in page.elements if tag == "a" and "href" in attrs}
    assert {f"#crystal-{name}" for name in crystals} <= links
    rows = {attrs["data-id"] for tag, attrs in page.elements if "data-id" in attrs}
    assert rows == {"mg", "lih", "free", "torn"}
    figures = {attrs["data-figure"] for _, attrs in page.elements if "data-figure" in attrs}
    assert figures == set(overview["figures"])
    assert {"curve-matched", "curve-les", "split-size", "times"} <= figures


def test_the_page_of_a_crystal_holds_its_minima_and_values(crystals: dict[str, Any]) -> None:
    crystal = crystals["mg"]
    found = Page(crystal["page"])
    assert len(crystal["pictures"]) == len(crystal["views"]) == len(crystal["cifs"]) == 3
    assert sum("data-picture" in attrs for _, attrs in found.elements) == 3
    assert "1 of 3 converged candidates ended in this minimum." in found.text
    assert "3 of 3 minima were found only once, so there may be others." in found.text
    assert "O1 0.919" in found.text  # the nearest atom of H1
    assert "The 2 H sites per cell of H2MgO2 were determined with xtalfill" in found.text
    for name in ("energy_gap, eV/cell", "host_matched", "rmsd_per_site, Å"):
        assert name in found.text
    block = gemmi.cif.read_string(crystal["cifs"][0]).sole_block()
    assert list(block.find_values("_atom_site_label")) == crystal["views"][0]["labels"]
    assert list(block.find_values("_atom_site_calc_flag")) == ["d"] * 3 + ["calc"] * 2
    assert Page(crystal["card"]).text.count("mg") == 1


def test_the_csv_of_the_page_is_results_csv(run: Path, overview: dict[str, Any]) -> None:
    with (run / "results.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            overview["results"]["columns"],
            *overview["results"]["rows"],
        ]


def test_every_figure_field_and_region_has_a_name(page: Page, crystals: dict[str, Any]) -> None:
    found = page.elements + [
        one for crystal in crystals.values() for one in Page(crystal["page"]).elements
    ]
    for _, attrs in found:
        if attrs.get("role") in ("img", "region") or "data-figure" in attrs:
            assert attrs.get("aria-label")
    assert all(attrs.get("scope") for tag, attrs in found if tag == "th")


def tiles(page_text: str) -> list[str]:
    return re.findall(r'<div class="tile[^"]*"><b>(\d+)', page_text)


def test_the_headline_is_that_of_the_run(run: Path, source: str) -> None:
    counts = json.loads((run / "evaluation.json").read_text())["counts"]
    names = ("structures_restored", "structures_matched", "structures_les", "candidates_ok")
    expected = [str(counts[name]) for name in names]
    assert expected == ["3", "2", "2", "5"]
    # In between, the answers: share in the minimum, lone minima, close ones (mg).
    assert tiles(source) == [expected[0], "100", "2", "1", *expected[1:]]


def test_disagreement_of_two_potentials_is_shown(tmp_path: Path, source: str) -> None:
    assert "potentials differ" not in source  # a run without --mlip_rank
    inputs = make_run(tmp_path, CASES, [])
    batch = read_batch(tmp_path / "batch_0000.h5")
    agrees = np.where(batch.method == "host", batch.id != "mg", -1).astype(np.int8)
    batch.stages["select"].arrays["ranking_agrees"] = agrees
    write_batch(batch, tmp_path / "batch_0000.h5")
    collect(tmp_path / "check.json", [tmp_path / "batch_0000.h5"], tmp_path)
    write_report(**inputs)
    found = (tmp_path / "report.html").read_text(encoding="utf-8")
    flag = '<span class="tag differs">potentials differ</span>'
    assert found.count(flag) == 1  # in the row
    crystal = read_part(found, "crystals-0")["mg"]
    assert flag in crystal["card"]
    assert flag in crystal["page"]
    assert "The two potentials have different lowest minima." in crystal["page"]
    assert "<b>1 <small>of 2</small></b><span>have another lowest minimum by each" in found


def test_odds_are_a_column_where_they_are_calibrated(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Odds, %" not in source
    odds = Confidence(0.97, 0.62, CALIBRATED)
    monkeypatch.setattr(structures, "confidence", lambda *_: odds)
    write_report(**make_run(tmp_path, CASES, []))
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<button type="button">Odds, %</button>' in source
    assert source.count('<td class="n" data-value="0.62">62</td>') == len(CASES)
    assert source.count('data-odds="0.62"') == len(CASES)
    assert '<input type="number" name="odds"' in source
    tile = "<b>3 <small>of 3</small></b><span>have odds of the true crystal below 80\u202f%</span>"
    assert tile in source.replace("\u00a0", "\u202f").replace("80 %", "80\u202f%")


def test_without_references_nothing_is_said_of_success(tmp_path: Path) -> None:
    cases = [Case("free", brucite(), 2, [Made()], with_reference=False)]
    write_report(**make_run(tmp_path, cases, []))
    text = (tmp_path / "report.html").read_text()
    assert tiles(text) == ["1", "100", "1", "0", "1"]
    assert 'id="success"' not in text
    assert "LES" not in Page(text.split("<script", maxsplit=1)[0]).text
    assert text.index('id="structures"') < text.index('id="failures"')


def test_a_run_in_which_all_failed_still_has_a_report(tmp_path: Path) -> None:
    cases = [Case("mg", brucite(), 2, [Made(status="failed", message="relax_sites: blew up")])]
    write_report(**make_run(tmp_path, cases, []))
    text = (tmp_path / "report.html").read_text()
    assert tiles(text) == ["0", "0", "0", "0"]
    assert "relax_sites: blew up" in text


def test_pages_beyond_the_cap_are_left_out_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MAX_PAGES", 2)
    monkeypatch.setattr(page_module, "MAX_FAILURES", 1)
    monkeypatch.setattr(page_module, "_CHUNK", 1)
    failing = [Made(), Made(status="failed", message="x"), Made(status="failed", message="y")]
    cases = [Case(name, brucite(), 2, failing) for name in "abc"]
    write_report(**make_run(tmp_path, cases, []))
    text = (tmp_path / "report.html").read_text()
    assert "The first 2 structures by name have a page; 1 more" in text
    assert "The first 1 of 6" in text
    assert [list(read_part(text, f"crystals-{n}")) for n in (0, 1)] == [["a"], ["b"]]
    assert "part-crystals-2" not in text
    assert 'data-chunk=""' in text


def test_rock_salt_is_drawn_with_all_its_faces_edges_and_corners() -> None:
    atoms = lithium_hydride()
    index, positions = drawn_atoms(atoms, np.array([True] * 4 + [False] * 4))
    lithium = index < 4
    assert lithium.sum() == 8 + 6  # corners and faces of the conventional cell
    assert (~lithium).sum() == 12 + 1  # edges and centre
    assert positions.min() == pytest.approx(0.0)
    assert positions.max() == pytest.approx(4.083)


def test_a_bond_across_the_boundary_is_completed() -> None:
    atoms = brucite()
    atoms.positions += atoms.cell.array[2] * (0.5 - 0.3)  # O at 0.42, its H at 0.61 ...
    atoms.positions += atoms.cell.array[2] * 0.5  # ... then O at 0.92, its H at 0.11 + 1
    index, positions = drawn_atoms(atoms, np.array([True] * 3 + [False] * 2))
    for hydrogen in positions[index >= 3]:
        oxygen = positions[(index == 1) | (index == 2)]
        nearest = np.linalg.norm(oxygen - hydrogen, axis=1).min()
        assert nearest == pytest.approx(0.919179, abs=1e-5)


def test_drawing_of_brucite_holds_cell_bonds_and_sites() -> None:
    atoms, host = brucite(), np.array([True] * 3 + [False] * 2)
    drawing = draw_crystal(atoms, host)
    ends = drawing.positions[drawing.bonds]
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    assert lengths.min() == pytest.approx(0.919179, abs=1e-5)
    assert set(drawing.index[drawing.bonds[np.argmin(lengths)]]) in ({1, 3}, {2, 4})
    edges = cell_edges(drawing.cell)
    assert edges[:3, 1] == pytest.approx(atoms.cell.array)
    assert len(edges) == 12
    payload = json.loads(json.dumps(drawing.payload(), allow_nan=False))
    assert payload["labels"] == ["Mg1", "O1", "O2", "H1", "H2"]
    assert payload["restored"] == [3, 4]
    positions = np.array(payload["positions"]).reshape(-1, 3) / 1000
    assert positions == pytest.approx(drawing.positions, abs=5.1e-4)


def test_a_picture_shows_near_spheres_before_far_ones_and_marks_what_is_new() -> None:
    drawing = draw_crystal(brucite(), np.array([True] * 3 + [False] * 2))
    picture = draw_picture(drawing, label='brucite "<b>"')
    found = Page(picture).elements
    circles = [attrs for tag, attrs in found if tag == "circle"]
    depth = drawing.positions @ np.array([0.55, -1.5, 0.45])
    assert [int(str(one["data-atom"])) for one in circles] == np.argsort(depth).tolist()
    new = {int(str(one["data-atom"])) for one in circles if one.get("class") == "new"}
    assert new == set(np.flatnonzero(drawing.index >= 3))
    svg = next(attrs for tag, attrs in found if tag == "svg")
    assert svg["role"] == "img"
    assert svg["aria-label"] == 'brucite "<b>"'


def test_the_colour_of_restored_sites_is_that_of_no_element() -> None:
    rgb = [int(RESTORED_COLOUR[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    ours, elements = rgb2lab([[rgb]])[0], rgb2lab(jmol_colors[None, 1:95])[0]
    assert deltaE_ciede2000(ours, elements).min() > 20  # 4 for the orange of earlier reports


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("theme", [0, 1])
def test_texts_stand_out_from_their_ground_in_light_and_dark(theme: int) -> None:
    style = page_module.own_file("style.css")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)
    colour = {name: values[theme] for name, *values in pairs}
    texts = [(name, ground) for name in ("ink", "soft", "link") for ground in ("paper", "wash")]
    texts += [(name, f"{name}-wash") for name in ("good", "fair", "bad", "warn")]
    texts += [("key", "paper"), ("ink", "head"), ("soft", "head"), ("ink", "warn-wash")]
    for text, ground in texts:
        low, high = sorted(luminance(colour[name]) for name in (text, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_a_frame_for_a_notebook_holds_picture_and_view() -> None:
    frame = crystal_frame(brucite(), np.array([True] * 3 + [False] * 2))
    inside = Page(str(Page(frame).elements[0][1]["srcdoc"]))
    assert sum(tag == "circle" for tag, _ in inside.elements) > 10
    assert '"labels": ["Mg1", "O1", "O2", "H1", "H2"]' in inside.text
    assert "viewer.frame(document, {" in inside.text


def test_true_sites_are_drawn_where_the_restored_ones_are() -> None:
    atoms, host = brucite(), np.array([True] * 3 + [False] * 2)
    moved = atoms.positions[3:] + atoms.cell.array[0] + 0.05  # another image, a little off
    sites = draw_crystal(atoms, host, reference_sites=moved).reference
    assert sites == pytest.approx(atoms.positions[3:] + 0.05, abs=1e-3)


def test_true_sites_far_from_any_restored_one_are_drawn_in_the_cell() -> None:
    atoms, host = brucite(), np.array([True] * 3 + [False] * 2)
    sites = draw_crystal(atoms, host, reference_sites=np.array([[0.1, 0.1, 2.4]])).reference
    assert sites == pytest.approx(np.array([[0.1, 0.1, 2.4]]))


def test_a_reference_in_another_cell_is_not_drawn(tmp_path: Path) -> None:
    cases = [Case("mg", brucite(), 2, [Made()], reference_repeat=(1, 1, 2))]
    write_report(**make_run(tmp_path, cases, []))
    crystal = read_part((tmp_path / "report.html").read_text(), "crystals-0")["mg"]
    assert crystal["views"][0]["reference"] == []
    assert "site of the relaxed reference" not in crystal["page"]


def test_a_reference_in_a_rotated_cell_is_turned_into_ours(tmp_path: Path) -> None:
    arguments = make_run(tmp_path, [Case("mg", brucite(), 2, [Made()])], [])
    batch = read_batch(arguments["batches"][0])
    turned = brucite()
    turned.rotate(50, (1, 2, 3), rotate_cell=True)
    batch.cell[1] = turned.cell.array
    batch.positions[5:] = turned.positions
    batch.stages["relax_positions"].arrays["positions"][5:] = turned.positions
    write_batch(batch, arguments["batches"][0])
    write_report(**arguments)
    view = read_part((tmp_path / "report.html").read_text(), "crystals-0")["mg"]["views"][0]
    sites = np.array(view["reference"]).reshape(-1, 3) / 1000
    assert sites == pytest.approx(brucite().positions[3:], abs=1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (-1.25, "−1.25"), (-0.001, "0.00"), (0.5, "0.50")],
)
def test_numbers_are_set_as_in_print(value: float | None, text: str) -> None:
    assert page_module._number(value, 2) == text


def test_energies_are_relative_to_the_reference(run: Path) -> None:
    tables = read_tables(run / "check.json", [run / "batch_0000.h5"])
    figure = energy_strip([row for row in tables.candidates if row.id == "mg"])
    assert figure is not None
    values = {trace["name"]: trace["y"] for trace in figure["data"]}
    assert values["match"] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert values["other"] == pytest.approx([1000 * 2 * 2.2**2 / 5])
    assert energy_strip([]) is None


def test_an_axis_of_energies_does_not_zoom_into_noise(run: Path) -> None:
    tables = read_tables(run / "check.json", [run / "batch_0000.h5"])
    alike = [row for row in tables.candidates if row.id == "mg" and row.matched]
    figure = energy_strip(
        [replace(row, energy=row.energy + 1e-5 * i) for i, row in enumerate(alike)]
    )
    assert figure is not None
    low, high = figure["layout"]["yaxis"]["range"]
    assert high - low >= 1.0  # meV/atom
    assert "of 2 candidates, from 0.0 to 0.0" in figure["label"]


def test_figures_show_the_numbers_of_the_evaluation(run: Path) -> None:
    methods = json.loads((run / "evaluation.json").read_text())["methods"]
    figure = success_curves(methods, "matched", title="t")
    assert figure is not None
    lines = {trace["name"]: trace["y"] for trace in figure["data"] if trace.get("name")}
    expected = methods["host"]["matched"]["best_of_k"]["mean"]
    assert lines["host"] == pytest.approx([100 * value for value in expected])
    bars = split_bars(methods, "sites", "matched")
    assert bars is not None
    host = next(trace for trace in bars["data"] if trace["name"] == "host")
    assert host["x"] == ["2–4 sites<br>n = 2"]
    assert success_curves({"host": {}}, "matched", title="t") is None
    assert split_bars({"host": {}}, "size", "matched") is None


def test_provenance_tells_what_made_the_result(run: Path) -> None:
    content = json.loads((run / "provenance.json").read_text())
    assert content["seeds"] == [42]
    assert content["git_revision"] == "0123456789abcdef"
    assert content["parameters"] == RUN["params"]
    assert content["weights"] == {"7net-0": ["ab" * 32], "host.pt": ["cd" * 32]}
    assert content["versions"]["pymatgen"]
    assert content["hardware"][0]["cores"] >= 1
    stages = {stage["stage"]: stage for stage in content["stages"]}
    assert [stage["stage"] for stage in content["stages"]] == ["inpaint", "relax"]
    assert stages["relax"]["tasks"] == 2
    assert stages["relax"]["seconds_sum"] == pytest.approx(50.75)
    assert stages["relax"]["seconds_max"] == pytest.approx(30.25)
    assert stages["relax"]["counts"] == {"ok": 6, "unconverged": 2, "failed": 0}
    assert content["batches"][0]["stages"]["relax_positions"] == RELAXATION
    assert content["counts"]["structures_in"] == 4


def test_methods_cite_what_was_used_and_nothing_else(run: Path) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    sentences = methods_paragraph(provenance, evaluation)
    text = " ".join(sentence.text for sentence in sentences)
    assert "100 noise levels" in text
    assert "7net-0" in text
    assert "below 0.05 eV/Å within 500 steps" in text
    assert {"park2024", "ong2013", "mcnemar1947"} <= {key for key, _ in cited(sentences)}
    del evaluation["methods"]["host"]
    evaluation["paired_tests"] = []
    keys = {key for key, _ in cited(methods_paragraph(provenance, evaluation))}
    assert "song2021" not in keys
    assert "mcnemar1947" not in keys
    assert "liu1989" in keys
    for batch in provenance["batches"]:
        batch["stages"]["relax_sites"]["optimizer"] = "FIRE"
    other = methods_paragraph(provenance, evaluation)
    assert "(FIRE, largest force" in " ".join(one.text for one in other)
    assert {key for key, _ in cited(other)} == keys - {"liu1989"} | {"bitzek2006"}


def test_the_potential_method_is_told_from_a_batch_that_has_it(run: Path) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["methods"]["potential"] = evaluation["methods"]["host"]

    def told() -> str:
        return " ".join(one.text for one in methods_paragraph(provenance, evaluation))

    assert "Method potential: no calculation of a host succeeded" in told()
    other = json.loads(json.dumps(provenance["batches"][0]))
    other["stages"]["inpaint"]["potential"] = {
        "protocol": {"name": "fast"}, "degauss": 0.01, "table": "sssp.json", "degenerate": 0.995,
        "charge": 0.5, "relax": "qe", "library": "", "functional": "PBEsol",
    }  # fmt: skip
    provenance["batches"].append(other)
    text = told()
    assert (
        "protocol fast, cold smearing of 0.01 Ry, pseudopotentials of the table sssp.json" in text
    )
    assert "(functional PBEsol); maxima from 0.995 of the highest on" in text


@pytest.mark.parametrize(
    ("library", "functional", "says", "cites"),
    [
        (
            "SSSP 1.3.0 PBE efficiency",
            "PBE",
            "cutoffs of SSSP 1.3.0 PBE efficiency (functional PBE)",
            {"prandini2018", "perdew1996"},
        ),
        ("", "PBEsol", "cutoffs of the table sssp_mine.json (functional PBEsol)", set()),
        ("", "PBE", "cutoffs of the table sssp_mine.json (functional PBE)", {"perdew1996"}),
        ("", "", "cutoffs of the table sssp_mine.json (functional unknown)", set()),
    ],
)
def test_pseudopotentials_are_told_by_what_they_are_not_by_the_name_of_their_table(
    run: Path, library: str, functional: str, says: str, cites: set[str]
) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    dft = {"protocol": asdict(protocol("balanced")), "spin": False, "pw": [], "window": 0.01}
    dft |= {"table": "sssp_mine.json", "library": library, "functional": functional}
    provenance["batches"][0]["stages"]["dft"] = dft | {"candidates": 3}
    sentences = methods_paragraph(provenance, evaluation)
    assert says in " ".join(sentence.text for sentence in sentences)
    about = {"prandini2018", "perdew1996"}
    assert {key for key, _ in cited(sentences)} & about == cites


def test_what_was_spared_is_told(run: Path) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    merge = {"distance": 0.1, "energy_per_atom": 0.002}
    provenance["batches"][0]["stages"]["relax_positions"] |= {"drop_above": 0.3, "merge": merge}
    text = " ".join(sentence.text for sentence in methods_paragraph(provenance, evaluation))
    assert "more than 0.3 eV/atom above the lowest one after the first relaxation" in text
    assert "(atoms within 0.1 Å of atoms of the same element, energies within 2 meV/atom)" in text


def test_a_second_potential_is_named_and_cited(run: Path) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())
    stages = provenance["batches"][0]["stages"]
    stages["relax_sites"]["mlip"] = stages["relax_positions"]["mlip"] = "small.nequip.zip"
    assert "park2024" not in dict(cited(methods_paragraph(provenance, evaluation)))
    merge = {"distance": 0.1, "energy_per_atom": 0.002}
    stages["relax_rank"] = {**RELAXATION, "mlip": "7net-l3i5", "merge": merge}
    dft = {"protocol": asdict(protocol("balanced")), "spin": False, "pw": [], "window": 0.01}
    stages["dft"] = dft | {"table": "t.json", "library": "", "functional": "PBE", "candidates": 3}
    sentences = methods_paragraph(provenance, evaluation)
    text = " ".join(sentence.text for sentence in sentences)
    assert "of candidates in the same minimum (atoms within 0.1 Å" in text
    assert "the lowest minima of the first potential where these differ, other distinct" in text
    assert "relaxed with the potential 7net-l3i5 (below 0.05 eV/Å within 500 steps)" in text
    assert "park2024" in dict(cited(sentences))


def test_labels_have_their_accents(source: str) -> None:
    assert ">Schütt et al. 2021</a>" in source
    assert "Sch{\\&#34;u}tt" in source  # as BibTeX wants it


def test_containers_and_training_data_are_cited_where_they_were_used(run: Path) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    evaluation = json.loads((run / "evaluation.json").read_text())

    def keys() -> set[str]:
        return {key for key, _ in cited(methods_paragraph(provenance, evaluation))}

    assert "jain2013" in keys()
    assert "kurtzer2017" not in keys()
    provenance["workflow"]["container"] = "apptainer"
    provenance["parameters"]["model"] = "mine.pt"
    assert "jain2013" not in keys()
    assert "kurtzer2017" in keys()


def test_a_foreign_record_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"stage": "relax"}')
    tables = read_tables(run / "check.json", [run / "batch_0000.h5"])
    with pytest.raises(InputError, match="not a record of a task"):
        gather_provenance(tables, records=[tmp_path / "r.json"], run=RUN)


def test_the_command_writes_its_files(run: Path, tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, repository / "bin" / "report.py", "--check", run / "check.json"]
    command += ["--batches", run / "batch_0000.h5", "--evaluation", run / "evaluation.json"]
    command += ["--records", *sorted(run.glob("*.record.json"))]
    command += ["--params", run / "params.json", "--workflow", run / "pipeline_info" / "main.nf"]
    subprocess.run([*command, "--outdir", tmp_path], check=True)
    names = {"report.html", "provenance.json", "ro-crate-metadata.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Two busy cores draw it in a quarter of a minute, thirty processes on them in minutes.
PATIENCE = 300.0
READY = """(() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    return all("#gallery svg.crystal").length === 3 && all("[data-figure]").length > 0
        && all("[data-figure]").every((node) => node.classList.contains("js-plotly-plot"));
})()"""
# Opens a crystal, turns the 3-D view of its answer on, and clicks two atoms of a picture.
OPEN = 'location.hash = "#crystal-mg"'
TURN = 'document.querySelector("[data-turn]").click()'
TURNED = """Boolean(document.querySelector(".view canvas")
    && document.querySelector('[data-turn][aria-pressed="true"]'))"""
TOLD = 'document.querySelector("output").textContent'
CLICK = """for (const n of [{0}, {1}]) document.querySelector(`.minimum [data-atom="${{n}}"]`)
    .dispatchEvent(new MouseEvent("click", {{ bubbles: true }}));"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_without_network_shows_all_of_it(
    run: Path, tmp_path: Path, crystals: dict[str, Any]
) -> None:
    view = crystals["mg"]["views"][0]
    with browser(str(CHROMIUM), tmp_path, seconds=PATIENCE) as tab:
        tab.open(f"file://{run / 'report.html'}", width=1200, height=8000)
        assert tab.wait_for(READY)
        tab.value('document.querySelector("#filters [name=text]").value = "mg O2"')
        tab.value('document.getElementById("filters").dispatchEvent(new Event("input"))')
        assert tab.wait_for('document.getElementById("found").textContent === "1–2 of 2"')
        tab.value('document.querySelectorAll("#answers thead button")[0].click()')
        order = "[...document.querySelectorAll('#answers tr:not([hidden]) a')].map((a) => a.text)"
        assert tab.value(order) == ["free", "mg"]
        tab.value('document.querySelectorAll("#answers thead button")[0].click()')
        assert tab.value(order) == ["mg", "free"]
        # Its pictures have atoms, too; a click must not find them.
        assert tab.wait_for('document.querySelectorAll("#gallery [data-atom]").length > 0')
        tab.value(OPEN)
        assert tab.wait_for('document.querySelectorAll(".minimum svg.crystal").length === 3')
        assert tab.value("document.activeElement.tagName") == "H2"
        tab.value(CLICK.format(*view["bonds"][:2]))
        first, second = (view["labels"][view["index"][n]] for n in view["bonds"][:2])
        assert str(tab.value(TOLD)).startswith(f"{first} – {second}: ")
        assert tab.accessibility_violations() == []
        tab.value(TURN)
        assert tab.wait_for(TURNED), tab.value(TOLD)
        tab.value('location.hash = "#structures"')
        assert tab.wait_for("!document.getElementById('overview').hidden")
        assert tab.accessibility_violations() == []
    assert tab.errors == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_axe_sees_a_picture_without_a_name(tmp_path: Path) -> None:
    page = '<html lang="en"><title>t</title><main><h1>t</h1><img src="data:,"></main></html>'
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    with browser(str(CHROMIUM), tmp_path, seconds=PATIENCE) as tab:
        tab.open(f"file://{tmp_path / 'page.html'}", width=800, height=600)
        assert tab.wait_for("document.images.length === 1")
        assert [one.split(":")[0] for one in tab.accessibility_violations()] == ["image-alt"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_sees_what_is_broken(run: Path, tmp_path: Path) -> None:
    source = (run / "report.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot(node, figure" in source
    broken = source.replace("Plotly.newPlot(node, figure", "Plotly.noPlot(node, figure")
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    with browser(str(CHROMIUM), tmp_path, seconds=PATIENCE) as tab:
        tab.open(f"file://{tmp_path / 'broken.html'}", width=1200, height=8000)
        assert not tab.wait_for(READY)
    assert tab.errors


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Return the report of a run with the stage dft, and its evaluation.json."""
    folder = tmp_path_factory.mktemp("validated")
    arguments = make_run(folder, CASES, [])
    batch = read_batch(folder / "batch_0000.h5")
    add_dft(batch, message=f"dft: {HOSTILE}")
    batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    write_batch(batch, folder / "batch_0000.h5")
    collect(folder / "check.json", [folder / "batch_0000.h5"], folder)
    write_report(**arguments)
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return (folder / "report.html").read_text(encoding="utf-8"), evaluation


def test_the_report_shows_what_dft_found(validated: tuple[str, dict[str, Any]]) -> None:
    source, evaluation = validated
    page, dft = Page(source), evaluation["dft"]
    assert "Validation with DFT" in page.text
    assert f"{dft['matched']} of {dft['judged']}" in page.text
    assert "pw.x 6.7MaX of Quantum ESPRESSO, without spin polarisation" in page.text
    assert "k-points at most 0.15 1/Å apart" in page.text
    assert "giannozzi2017" in source
    assert "prandini2018" in source
    assert not any(tag == "img" and attrs.get("src") == "x" for tag, attrs in page.elements)
    # All energies are stretched alike: the order is kept, and so is what matches.
    assert dft["pairs"] == dft["pairs_in_order"] > 0
    assert dft["matched"] == evaluation["counts"]["structures_matched"] + 1  # mg by both methods


def test_a_reference_that_pw_cannot_relax_still_judges_by_the_potential(tmp_path: Path) -> None:
    arguments = make_run(tmp_path, CASES, [])
    batch = read_batch(tmp_path / "batch_0000.h5")
    add_dft(batch, message="")
    dft, reference = batch.stages["dft"].arrays, batch.reference_of("mg")
    dft["status"][reference], dft["message"][reference] = "refused", "dft: too large"
    dft["converged"] = dft["status"] == "ok"
    batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    write_batch(batch, tmp_path / "batch_0000.h5")
    collect(tmp_path / "check.json", [tmp_path / "batch_0000.h5"], tmp_path)
    write_report(**arguments)
    counts = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))["counts"]
    assert (counts["references_unusable"], counts["structures_with_reference"]) == (0, 2)
    assert "dft: too large" in (tmp_path / "failures.csv").read_text(encoding="utf-8")


def test_the_report_of_a_run_without_dft_does_not_mention_it(source: str) -> None:
    assert "Validation with DFT" not in source
    assert "giannozzi2017" not in source


def test_differences_by_dft_are_drawn_against_those_of_the_potential(
    validated: tuple[str, dict[str, Any]],
) -> None:
    figures = read_part(validated[0], "overview")["figures"]
    points = [
        point
        for trace in figures["dft"]["data"][:-1]
        for point in zip(trace["x"], trace["y"], strict=True)
    ]
    assert points
    for by_potential, by_dft in points:
        assert by_dft == pytest.approx(1.5 * by_potential, abs=1e-6)
