"""`xtalfill.restore`: the stages in one process, with the bits of the pipeline."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from rich.console import Console
from rich.progress import Progress

import xtalfill
from stage_settings import write_settings
from xtalfill.core.batch import read_batch
from xtalfill.core.errors import ConfigError, InputError
from xtalfill.core.files import SCHEMA
from xtalfill.core.record import file_sha256
from xtalfill.interactive.answer import Answer
from xtalfill.interactive.given import read_given
from xtalfill.interactive.potential_files import PotentialFiles
from xtalfill.interactive.progress import _LINE, _Bars
from xtalfill.interactive.settings import make_all_settings
from xtalfill.interactive.stages import _changed, _score_models
from xtalfill.models.weights import load_weights, save_weights
from xtalfill.registry.potentials import POTENTIALS

REPOSITORY = Path(__file__).resolve().parents[2]
FAST: dict[str, Any] = {"mlip": "nequip-small", "samples": 2, "progress": False}


def command(folder: Path, script: str, *arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, REPOSITORY / "bin" / script, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def answer() -> Answer:
    """Return the answer for brucite, two candidates relaxed by the bundled potential."""
    scaled = [(0, 0, 0), (1 / 3, 2 / 3, 0.22), (2 / 3, 1 / 3, 0.78)]
    host = Atoms("MgO2", scaled_positions=scaled, cell=[3.14, 3.14, 4.77, 90, 90, 120], pbc=True)
    host.info["id"] = "brucite"
    found = xtalfill.restore(host, n_missing=2, **FAST)
    assert isinstance(found, Answer)
    return found


def test_the_bits_are_those_of_the_stages(
    answer: Answer, brucite_host: Atoms, tmp_path: Path
) -> None:
    brucite_host.info["id"] = "brucite"
    # ASE would write eight decimals
    (tmp_path / "hosts.extxyz").write_text(exact_frame(brucite_host), encoding="utf-8")
    changes = {"mlip": "nequip-small", "samples": 2}
    check = write_settings(tmp_path, "check", n_missing=2, **changes)
    command(tmp_path, "check_structures.py", "--input", "hosts.extxyz", "--settings", check)
    (batch,) = (tmp_path / "batches").glob("*.h5")
    weights = sorted((REPOSITORY / "assets" / "weights").glob("*.pt"))
    settings = write_settings(tmp_path, "inpaint")
    common = ("--settings", settings, "--checkpoint", "state", "--record", "record.json")
    command(
        tmp_path, "inpaint.py", *common, "--batch", batch, "--output", "1.h5", "--bundled", *weights
    )
    write_settings(tmp_path, "relax", **changes)
    model = REPOSITORY / "assets" / "potential" / "nequip-small.nequip.zip"
    command(
        tmp_path, "relax.py", *common, "--batch", "1.h5", "--output", "2.h5",
        "--mlip_file", model, "--threads", "2",
    )  # fmt: skip
    command(
        tmp_path, "select_candidates.py",
        "--batch", "2.h5", "--output", "3.h5", "--record", "record.json",
    )  # fmt: skip
    staged = read_batch(tmp_path / "3.h5")
    relaxed = staged.stages["relax_positions"].arrays
    assert answer.candidates["energy"].tolist() == relaxed["energy"].tolist()
    assert answer.candidates["rank"].tolist() == staged.stages["select"].arrays["rank"].tolist()
    best = int(np.flatnonzero(staged.stages["select"].arrays["selected"])[0])
    assert isinstance(answer.best, Atoms)
    expected = relaxed["positions"][staged.atoms_slice(best)]
    assert answer.best.positions.tobytes() == expected.tobytes()


def exact_frame(atoms: Atoms) -> str:
    """Return a frame of extended XYZ with all digits."""
    lattice = " ".join(repr(float(value)) for value in atoms.cell.array.ravel())
    rows = zip(atoms.symbols, atoms.positions.tolist(), strict=True)
    lines = [f"{symbol} {x!r} {y!r} {z!r}" for symbol, (x, y, z) in rows]
    head = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 id={atoms.info["id"]} pbc="T T T"'
    return "\n".join([str(len(atoms)), head, *lines]) + "\n"


def test_the_answer_has_minima_and_candidates(answer: Answer, tmp_path: Path) -> None:
    assert (answer.id, answer.status, answer.message) == ("brucite", "ok", "")
    assert len(answer.candidates) == 2
    assert answer.minima["n_candidates"].sum() == 2
    first = answer.minima.iloc[0]
    assert first["energy_above_best"] == 0.0
    assert (first["bond"], first["space_group"]) == ("O-H", "P-3m1")
    assert 0.9 < first["shortest_bond"] < 1.1
    text = answer.to_cif(tmp_path / "out.cif")
    assert (tmp_path / "out.cif").read_text() == text
    assert Structure.from_str(text, fmt="cif").composition.reduced_formula == "Mg(HO)2"
    with pytest.raises(InputError, match="no crystal number 9"):
        answer.to_cif(number=9)


def test_the_answer_in_a_notebook_needs_no_network(answer: Answer) -> None:
    page = answer._repr_html_()
    assert "P-3m1" in page
    assert "scatter3d" in page
    assert 'src="http' not in page
    assert "src=&quot;http" not in page


def test_restore_gives_the_likeliest_number() -> None:
    host = bulk("Mg", "hcp", a=3.2, c=5.2)  # nothing tells how much hydrogen a metal lacks
    host.info["id"] = "mg"
    found = xtalfill.restore(
        host, n_missing="auto", n_tries=2, mu=-3.4, method="random", **FAST | {"samples": 1}
    )
    assert isinstance(found, Answer)
    assert found.counts["probability"].sum() == pytest.approx(1)
    likely = found.counts[found.counts["n_missing"] > 0].iloc[0]
    assert (found.id, len(found.best)) == (likely["filled_as"], 2 + likely["n_missing"])


def test_a_list_gives_the_answers_of_singles_and_keeps_what_fails(
    answer: Answer, brucite_host: Atoms
) -> None:
    named = brucite_host.copy()
    named.info["id"] = "brucite"
    structure = AseAtomsAdaptor.get_structure(brucite_host)
    before = (torch.get_default_dtype(), torch.get_num_threads())
    free = Atoms("MgO2", positions=np.eye(3))
    found = xtalfill.restore(
        [free, named, structure, "no/such/file.cif"], n_missing=np.int64(2), **FAST
    )
    assert (torch.get_default_dtype(), torch.get_num_threads()) == before
    assert [one.status for one in found] == ["failed", "ok", "ok", "failed"]
    assert "not periodic" in found[0].message
    assert "no such file" in found[3].message
    assert found[0].best is None
    # other crystals in the batch change the rounding of the relaxations (docs/usage.md)
    alone, together = answer.candidates["energy"], found[1].candidates["energy"]
    assert np.allclose(alone, together, rtol=0, atol=1e-4)
    assert isinstance(found[2].best, Structure)


def test_the_only_structure_is_refused_in_one_line(brucite_host: Atoms, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n_missing") as caught:
        xtalfill.restore(brucite_host, **FAST)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"no such file"):
        xtalfill.restore(tmp_path / "none.cif")
    with pytest.raises(InputError, match="int is not supported; give ASE Atoms"):
        xtalfill.restore(3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"samples": 0}, "--samples is 0; it is at least 1"),
        ({"samples": "2"}, 'samples is "2"; it must be an integer'),
        ({"method": "none"}, "method none is unknown; choose from host"),
        ({"method": "potential"}, "method potential runs pw.x"),
        ({"mlip": "nequix-oam-1"}, "download it with bin/fetch_potential.py --name nequix-oam-1"),
        ({"model": "no/such.pt"}, "model 'no/such.pt' does not exist; name a file or folder"),
        ({"device": "tpu"}, "device is 'tpu'; choose from cpu, cuda"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_all_settings(options)
    assert says in str(caught.value)


def test_own_weights_are_used_and_read_again_after_a_change(tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    bundled = REPOSITORY / "assets" / "weights" / "host.pt"
    other = tmp_path / "other.pt"
    save_weights(load_weights(bundled), other, training={"seed": 1})
    for source in (bundled, other):
        shutil.copyfile(source, own)
        os.utime(own, ns=(0, len(source.name)))
        settings = make_all_settings({"model": own})
        given = tuple((path, _changed(path)) for path in settings.models)
        assert _score_models(("host",), given, "cpu").checksums == {"own.pt": file_sha256(source)}


def test_the_defaults_are_those_of_the_pipeline() -> None:
    settings = make_all_settings({})
    assert (settings.check.samples, settings.relax.samples) == (10, 10)
    assert settings.check.seed == 42
    assert (settings.inpaint.device, settings.relax.device) == ("cpu", "cpu")
    assert settings.relax.mlip == settings.check.mlip
    assert SCHEMA.is_file()
    assert PotentialFiles(None).of("7net-0") is None


def test_a_stored_potential_ranks_as_in_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"stands in for the published file"
    entry = replace(POTENTIALS["nequix-oam-1"], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(POTENTIALS, "nequix-oam-1", entry)
    store = {"potential_dir": tmp_path}
    assert make_all_settings(store).relax.mlip_rank is None
    file = tmp_path / "nequix-oam-1.nqx"
    file.write_bytes(content)
    found = make_all_settings(store)
    assert (found.check.mlip_rank, found.relax.mlip_rank) == ("nequix-oam-1", str(file))
    assert make_all_settings(store | {"mlip_rank": "none"}).relax.mlip_rank is None
    assert make_all_settings(store | {"mlip_rank": "7net-0"}).relax.mlip_rank == "7net-0"
    alone = make_all_settings(store | {"mlip": "nequix-oam-1"})
    assert (alone.relax.mlip, alone.relax.mlip_rank) == (str(file), None)
    file.write_bytes(b"another")
    with pytest.raises(ConfigError, match="is not the published file"):
        make_all_settings(store)
    with pytest.raises(ConfigError, match="is not a folder"):
        make_all_settings({"potential_dir": tmp_path / "absent"})


def test_one_potential_ranks_by_default() -> None:
    assert [name for name, entry in POTENTIALS.items() if entry.ranks] == ["nequix-oam-1"]


def test_ids_follow_from_the_content(brucite_host: Atoms, brucite: Atoms) -> None:
    def ids(*atoms: Atoms) -> list[str]:
        return [one.entry.fallback_id for one in read_given(list(atoms))]

    host, whole = ids(brucite_host, brucite)
    assert host != whole
    assert ids(brucite, brucite_host) == [whole, host]
    assert ids(brucite, brucite) == [whole, f"{whole}_2"]
    brucite.positions[0] += 1e-9
    assert ids(brucite) != [whole]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("inpaint: host, 5/10 candidates\n", ("inpaint", "5", "10")),
        ("relax_sites: 3/10 done, 0 failed, ETA 1 min\n", ("relax_sites", "3", "10")),
        ("device: H100, 70.0 of 80.0 GB free\n", None),
    ],
)
def test_the_bar_reads_the_lines_of_the_stages(
    line: str, found: tuple[str, str, str] | None
) -> None:
    match = _LINE.search(line)
    assert (match and match.group("step", "done", "total")) == found


def test_the_bar_starts_again_with_each_step() -> None:
    progress = Progress(console=Console(file=io.StringIO(), force_terminal=True))
    bars = _Bars(progress)
    for line in ("inpaint: host, 5/10 candidates", "inpaint: host, 10/10 candidates"):
        print(line, file=bars)
    (task,) = progress.tasks
    assert (task.description, task.completed, task.total) == ("inpaint", 10, 10)
    print("relax_sites: 1/9 done, 0 failed, ETA 1 min", file=bars, flush=True)
    assert (task.description, task.completed, task.total) == ("relax_sites", 1, 9)


def test_importing_xtalfill_is_cheap() -> None:
    code = (
        "import sys, xtalfill; dir(xtalfill);"
        "assert not {'torch', 'numpy', 'pandas', 'ase'} & set(sys.modules), sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={"PYTHONPATH": str(REPOSITORY / "bin")},
        timeout=60,
    )
    assert {"restore", "read_results", "Answer"} <= set(dir(xtalfill))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = xtalfill.nothing
