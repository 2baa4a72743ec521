"""Comparison with references on crystals with known results, with StructureMatcher."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell, molecule

from hand_made_batches import Case, Made, add_dft, brucite, build, lithium_hydride
from xtalfill.core.batch import REFERENCE, Stage, read_batch, write_batch
from xtalfill.core.errors import InputError
from xtalfill.evaluate import match
from xtalfill.evaluate.dft import evaluate_dft
from xtalfill.evaluate.match import Filled, compare, evaluate_batch, site_class


def moved(atoms: Atoms, site: int, by: tuple[float, float, float]) -> Atoms:
    atoms = atoms.copy()
    atoms.positions[site] += by
    return atoms


def with_two(atoms: Atoms) -> Filled:
    """Return a crystal whose last two atoms are restored sites."""
    return Filled(atoms, n_missing=2)


def test_equivalent_descriptions_match() -> None:
    true = brucite()
    other = true[[0, 2, 1, 4, 3]]
    other.positions += (0.3, -0.7, 1.9)
    other.rotate(40, (1, 2, 3), rotate_cell=True)
    result = compare(with_two(other), with_two(true))
    assert result.matched
    assert result.host_matched
    assert result.rmsd == pytest.approx(0.0, abs=1e-6)


def test_a_supercell_matches_its_primitive_cell() -> None:
    true = brucite()
    double = make_supercell(true, np.diag([1, 1, 2]))
    double = double[np.argsort(double.numbers == 1, kind="stable")]
    both = (Filled(double, n_missing=4), with_two(true))
    for pair in (both, both[::-1]):
        result = compare(*pair)
        assert result.matched
        assert result.host_matched


@pytest.mark.parametrize("distance", [0.05, 0.2, 0.4])
def test_rmsd_is_that_of_the_displacements_without_their_mean(distance: float) -> None:
    true = brucite()
    ours = moved(true, 3, (0, 0, distance))
    displacement = ours.positions - true.positions
    displacement -= displacement.mean(axis=0)
    expected = np.sqrt((displacement**2).sum() / len(true))
    result = compare(with_two(ours), with_two(true))
    assert result.matched
    assert result.rmsd == pytest.approx(expected, rel=1e-3)


def test_a_site_in_the_wrong_place_does_not_match_but_its_host_does() -> None:
    true = brucite()
    result = compare(with_two(moved(true, 3, (0, 0, 2.2))), with_two(true))
    assert not result.matched
    assert result.host_matched
    assert np.isnan(result.rmsd)


def test_distorted_host_does_not_match() -> None:
    true = brucite()
    result = compare(with_two(moved(true, 1, (1.2, 0.8, 0.9))), with_two(true))
    assert not result.matched
    assert not result.host_matched


def _boxed(name: str) -> Atoms:
    atoms = molecule(name, cell=[6.0] * 3, pbc=True)
    return atoms[np.argsort(atoms.numbers == 1, kind="stable")]


@pytest.mark.parametrize(
    ("atoms", "n_missing", "expected"),
    [
        (brucite(), 2, "O-H"),
        (lithium_hydride(), 4, "metal/other-H"),
        (_boxed("NH3"), 3, "N-H"),
        (_boxed("CH4"), 4, "C-H"),
        (Atoms("ArH2", [[0, 0, 0], [3, 3, 3], [3, 3, 3.74]], cell=[6] * 3, pbc=True), 2, "H-H"),
        (Atoms("HeH", [[0, 0, 0], [15, 15, 15]], cell=[30] * 3, pbc=True), 1, "metal/other-H"),
    ],
)
def test_site_class(atoms: Atoms, n_missing: int, expected: str) -> None:
    assert site_class(atoms, n_missing=n_missing) == expected


def test_site_class_names_the_missing_element() -> None:
    oxide = Atoms("OLi2", [[0, 0, 0], [1.6, 0, 0], [-1.6, 0, 0]], cell=[6] * 3, pbc=True)
    assert site_class(oxide, n_missing=2) == "O-Li"


WRONG = (0, 0, 2.2)


def evaluated(*candidates: Made, **options: object) -> dict[str, np.ndarray]:
    batch = build([Case("mg", brucite(), 2, list(candidates), **options)])
    return evaluate_batch(batch).arrays


def test_les_is_a_match_or_a_lower_energy_and_a_tie_is_neither() -> None:
    found = evaluated(
        Made(energy=0.5),
        Made(relaxed=WRONG, energy=-0.5),
        Made(relaxed=WRONG, energy=0.0),
        Made(relaxed=WRONG, energy=0.5),
    )
    assert found["matched"].tolist() == [True, False, False, False, False]
    assert found["les"].tolist() == [True, True, False, False, False]
    assert found["energy_above_reference"][:4] == pytest.approx([0.1, -0.1, 0.0, 0.1])
    assert found["has_reference"].tolist() == [True] * 4 + [False]  # not the reference itself


@pytest.mark.parametrize("status", ["failed", "unconverged"])
def test_failed_and_unconverged_candidates_count_as_wrong(status: str) -> None:
    found = evaluated(Made(status=status, message="relax_positions: why"), Made())
    assert found["has_reference"][0]
    for name in ("matched", "les", "host_matched"):
        assert found[name][:2].tolist() == [False, True]
    for name in ("rmsd", "rmsd_per_site", "energy_above_reference"):
        assert np.isnan(found[name][0])
    assert found["matched_inpaint"][0]  # its proposal was close nevertheless


def test_rmsd_per_site_spreads_the_displacement_over_the_missing_sites() -> None:
    found = evaluated(Made(relaxed=[(0, 0, 0.3), (0, 0, 0)]))
    assert found["rmsd_per_site"][0] == pytest.approx(found["rmsd"][0] * np.sqrt(5 / 2))


def test_a_proposal_is_matched_before_any_relaxation() -> None:
    found = evaluated(Made(proposed=WRONG), Made(proposed=(0.1, 0, 0), relaxed=WRONG))
    assert found["matched_inpaint"][:2].tolist() == [False, True]
    assert found["matched"][:2].tolist() == [True, False]


def test_no_evaluation_without_a_reference() -> None:
    found = evaluated(Made(), with_reference=False)
    assert not found["has_reference"].any()
    assert not found["les"].any()
    assert np.isnan(found["energy_above_reference"]).all()
    assert found["site_class"].tolist() == [""]


def test_a_reference_that_did_not_relax_is_not_used_and_says_why() -> None:
    found = evaluated(Made(), reference_status="unconverged")
    assert not found["has_reference"].any()
    assert "reference is not usable (relax_positions: not converged)" in found["message"][0]
    assert found["matched_inpaint"][0]


def test_matcher_error_affects_one_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = match.compare, []

    def breaks_once(*args: Filled) -> match.Comparison:
        calls.append(1)
        if len(calls) == 2:
            raise np.linalg.LinAlgError("Singular\nmatrix")
        return real(*args)

    monkeypatch.setattr(match, "compare", breaks_once)
    found = evaluated(Made(), Made(energy=-0.1), Made())
    assert found["matched"][:3].tolist() == [True, False, True]
    assert found["les"][:3].tolist() == [True, True, True]
    assert found["message"][1] == (
        "evaluate: StructureMatcher failed on relax_positions (LinAlgError: Singular matrix)"
    )


def test_matcher_error_after_dft_keeps_the_energies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = build([Case("mg", brucite(), 2, [Made(energy=-0.1), Made(energy=0.1)])])
    add_dft(batch, message="")

    def breaks(*_args: object, **_options: object) -> None:
        raise np.linalg.LinAlgError("Singular\nmatrix")

    monkeypatch.setattr(match, "compare", breaks)
    found = evaluate_dft(batch)
    assert found["dft_les"].tolist() == [True, False, False]
    assert found["dft_matched"].tolist() == [False] * 3
    assert found["dft_rank"].tolist()[:2] == [0, 1]
    assert found["dft_energy_above_reference"][:2] == pytest.approx([-0.03, 0.03])
    assert found["dft_evaluate_message"][0] == (
        "evaluate: StructureMatcher failed on dft (LinAlgError: Singular matrix)"
    )


def test_another_composition_is_never_a_success() -> None:
    batch = build([Case("mg", brucite(), 2, [Made(energy=-5.0)])])
    reference = batch.atoms_slice(int(np.flatnonzero(batch.method == REFERENCE)[0]))
    batch.atomic_numbers[reference.start] = 20
    found = evaluate_batch(batch).arrays
    assert not found["les"][0]
    assert np.isnan(found["energy_above_reference"][0])
    assert "composition" in found["message"][0]


def test_a_reference_in_a_supercell_is_compared_per_atom() -> None:
    found = evaluated(Made(energy=0.5), reference_repeat=(1, 1, 2))
    assert found["matched"][0]
    assert found["energy_above_reference"][0] == pytest.approx(0.5 / 5)


def test_energies_and_positions_are_those_of_the_last_relaxation() -> None:
    case = Case("mg", brucite(), 2, [Made(), Made(relaxed=(0, 0, 2.2))])
    batch = build([case])
    after = batch.stages["relax_positions"].arrays
    ranked = {name: array.copy() for name, array in after.items()}
    ranked["positions"][:5], ranked["positions"][5:10] = (
        after["positions"][5:10],
        after["positions"][:5],
    )
    ranked["energy"] = np.array([-7.0, -9.0, -8.0])
    batch.stages["relax_rank"] = Stage(ranked)
    found = evaluate_batch(batch)
    assert found.attrs["relaxed"] == "relax_rank"
    assert found.arrays["matched"].tolist() == [False, True, False]
    np.testing.assert_allclose(found.arrays["energy_above_reference"][:2], [1 / 5, -1 / 5])


def test_a_batch_that_was_not_relaxed_is_refused() -> None:
    batch = build([Case("mg", brucite(), 2, [Made()])])
    del batch.stages["relax_positions"]
    with pytest.raises(InputError, match="no stage 'relax_positions'"):
        evaluate_batch(batch)


def test_the_command_adds_the_stage_and_writes_a_record(tmp_path: Path, repository: Path) -> None:
    batch = build([Case("mg", brucite(), 2, [Made(), Made(status="failed", message="x")])])
    write_batch(batch, tmp_path / "in.h5")
    outputs = []
    for name in ("one", "two"):
        command = [sys.executable, repository / "bin" / "evaluate.py", "--batch", "in.h5"]
        command += ["--output", f"{name}.h5", "--record", f"{name}.json"]
        subprocess.run(command, cwd=tmp_path, check=True)
        outputs.append((tmp_path / f"{name}.h5").read_bytes())
    assert outputs[0] == outputs[1]
    assert read_batch(tmp_path / "one.h5").stages["evaluate"].arrays["matched"].tolist() == [
        True,
        False,
        False,
    ]
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["stage"] == "evaluate"
    assert record["counts"] == {"ok": 2, "unconverged": 0, "failed": 1, "dropped": 0, "absent": 0}
