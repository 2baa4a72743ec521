"""References: matched by id, same crystal as the filled host, missing sites identified."""

import numpy as np
import pytest
from ase import Atoms

from xtalfill.inputs.hosts import CheckedHost, Refusal
from xtalfill.inputs.references import Reference, match_references
from xtalfill.inputs.structures import Entry


def host_of(atoms: Atoms, *, n_missing: int = 2, name: str = "b") -> CheckedHost:
    return CheckedHost(id=name, source="h", atoms=atoms, element=1, n_missing=n_missing)


def matched(atoms: Atoms | None, host: CheckedHost) -> tuple[Reference | None, str]:
    """Return the reference of a host, and the message if it was refused."""
    entry = Entry(source="r", fallback_id=host.id, atoms=atoms)
    entry.error = None if atoms is not None else "cannot be read"
    references, failures = match_references([entry], [host])
    assert len(references) + len(failures) == 1
    return references.get(host.id), failures[0].message if failures else ""


def test_host_sites_come_first_and_nothing_moves(brucite: Atoms, brucite_host: Atoms) -> None:
    shuffled = brucite[[4, 1, 0, 3, 2]]
    reference, _ = matched(shuffled, host_of(brucite_host))
    assert reference is not None
    assert reference.n_host == 3
    assert reference.atoms.numbers.tolist() == [8, 12, 8, 1, 1]
    assert np.array_equal(reference.atoms.positions, shuffled.positions[[1, 2, 4, 0, 3]])
    assert np.array_equal(reference.atoms.cell, brucite.cell)


def test_kept_sites_are_distinguished_from_missing_ones(rocksalt: Atoms) -> None:
    host = host_of(rocksalt[[0, 2, 3, 4, 6, 7]], n_missing=2)  # 1 and 5, hydrogens, are missing
    turn = np.linalg.qr(np.arange(9).reshape(3, 3) + np.eye(3))[0]
    reference_atoms = rocksalt.copy()
    # Another orientation, another image and a small strain, as in a relaxed reference.
    reference_atoms.set_cell(np.asarray(rocksalt.cell) @ turn * 1.02, scale_atoms=True)
    reference_atoms.positions += reference_atoms.cell[0] - 2 * reference_atoms.cell[1]
    reference, message = matched(reference_atoms, host)
    assert reference is not None, message
    missing = reference.atoms[reference.n_host :].get_scaled_positions()
    expected = rocksalt[[1, 5]].get_scaled_positions()
    delta = missing[:, None] - expected[None]
    close = np.abs(delta - np.round(delta)).max(axis=-1) < 1e-9
    assert close.any(axis=1).all()
    assert close.any(axis=0).all()


def test_kept_site_that_the_reference_lacks(rocksalt: Atoms) -> None:
    host = rocksalt[[0, 1, 2, 4, 6]]
    host.positions[1] += [1.02, 1.02, 1.02]
    _, message = matched(rocksalt, host_of(host, n_missing=3))
    assert "is 1.77 Å from the nearest one of the reference" in message


@pytest.mark.parametrize("n_missing", [1, 3])
def test_another_number_of_missing_sites(
    brucite: Atoms, brucite_host: Atoms, n_missing: int
) -> None:
    reference, message = matched(brucite, host_of(brucite_host, n_missing=n_missing))
    assert reference is None
    assert message.startswith("has the formula H2MgO2, the filled structure H")


def test_another_host_or_a_fault_of_the_reference(brucite: Atoms, brucite_host: Atoms) -> None:
    other = brucite.copy()
    other.numbers[0] = 20
    assert "has the formula H2CaO2" in matched(other, host_of(brucite_host))[1]
    assert "has the formula" in matched(brucite.repeat((2, 1, 1)), host_of(brucite_host))[1]
    close = brucite.copy()
    close.positions[3] = close.positions[1]
    assert "overlapping" in matched(close, host_of(brucite_host))[1]
    assert matched(None, host_of(brucite_host))[1] == "cannot be read"


def test_references_without_a_structure_or_with_a_shared_id(
    brucite: Atoms, brucite_host: Atoms
) -> None:
    entries = [
        Entry(source="1", fallback_id="b", atoms=brucite),
        Entry(source="2", fallback_id="elsewhere", atoms=brucite),
        Entry(source="3", fallback_id="twice", atoms=brucite),
        Entry(source="4", fallback_id="twice", atoms=brucite),
    ]
    hosts = [host_of(brucite_host, name=name) for name in ("b", "twice", "no-reference")]
    references, failures = match_references(entries, hosts)
    assert list(references) == ["b"]
    assert [failure.id for failure in failures] == ["elsewhere", "twice", "twice"]
    assert isinstance(failures[0], Refusal)
    assert "no structure with this id" in failures[0].message
    assert "share this id" in failures[1].message
