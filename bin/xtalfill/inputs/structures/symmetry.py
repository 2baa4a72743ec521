"""The symmetry declared in a CIF: operations, else Hall symbol, else name, else number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import gemmi
import numpy as np

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.cifblock import CifBlock

# Relative tolerance for the lattice lengths under a rotation.
METRIC_TOLERANCE = 0.01
_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_magn_operation_xyz",
)
_CENTRINGS = ("_space_group_symop_magn_centering_xyz",)
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NAMES = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m_ref",
)
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_SETTING = ("_space_group_it_coordinate_system_code",)
_SUPERSPACE = ("_space_group_symop_ssg_operation_algebraic", "_space_group_ssg_name")


@dataclass(frozen=True)
class Symmetry:
    """Symmetry operations in fractional coordinates: x' = rotation x + translation.

    Attributes:
        rotations: (n, 3, 3) integers.
        translations: (n, 3).
        notes: Assumptions, for the user.
    """

    rotations: np.ndarray
    translations: np.ndarray
    notes: tuple[str, ...] = ()


def read_symmetry(block: CifBlock, cell: np.ndarray) -> list[Symmetry]:
    """Return the symmetry of a block, or all possible ones, the most likely first.

    Several are returned only if a name or number does not determine the origin or the axes.

    Args:
        block: The data block.
        cell: (3, 3) Angstrom, rows are lattice vectors.

    Raises:
        InputError: An operation or symbol cannot be read, or does not fit the cell.
    """
    if any(block.has(tag) for tag in _SUPERSPACE):
        raise InputError("a modulated structure (superspace group); give a commensurate supercell")
    for tag in _OPERATIONS:
        if texts := block.column(tag):
            return [_from_operations(block, tag, texts, cell)]
    hall, tag = block.first(_HALL)
    if hall is not None:
        return [_from_hall(hall, tag, cell)]
    name, tag = block.first(_NAMES)
    number, _ = block.first(_NUMBERS)
    if name is not None:
        setting, _ = block.first(_SETTING)
        found = _named(name, setting)
        if found or number is None:
            return _settings(found, f"the name {one_line(name, limit=40)!r}", tag, cell)
    if number is not None:
        return _settings(
            _numbered(number), f"the number {one_line(number, limit=20)}", _NUMBERS[0], cell
        )
    return [_symmetry(gemmi.symops_from_hall("P 1"), ["no symmetry is declared; P 1 is assumed"])]


def _from_operations(block: CifBlock, tag: str, texts: Sequence[str], cell: np.ndarray) -> Symmetry:
    listed = [_operation(text, tag) for text in texts]
    for centring in _CENTRINGS:
        shifts = [_operation(text, centring) for text in block.column(centring) or ()]
        listed = [shift * op for shift in shifts or [gemmi.Op()] for op in listed]
    triplets = {op.wrap().triplet() for op in listed}
    group = gemmi.GroupOps([gemmi.Op(triplet) for triplet in sorted(triplets)])
    group.add_missing_elements()
    if len(group) != len(triplets):
        raise InputError(
            f"the {len(triplets)} operations of {tag} do not form a group (it has {len(group)}); "
            "complete them"
        )
    name, _ = block.first(_NAMES)
    named = _named(name, None) if name else ()
    notes = []
    if named and len(named[0].operations()) != len(group):
        notes.append(
            f"the {len(group)} listed operations are used; the name "
            f"{one_line(name, limit=40)!r} implies {len(named[0].operations())}"
        )
    symmetry = _symmetry(group, notes)
    if not _fits(symmetry, cell):
        raise InputError(
            f"the operations of {tag} do not fit the cell (hexagonal axes on a rhombohedral "
            "cell, or another unique axis?); correct one of them"
        )
    return symmetry


def _operation(text: str, tag: str) -> gemmi.Op:
    # A magnetic operation ends with its time reversal.
    bare = re.sub(r",\s*[+-]?1\s*$", "", text) if text.count(",") == 3 else text
    try:
        op = gemmi.Op(bare)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{tag}: {one_line(text, limit=60)!r} is not a symmetry operation; "
            "write it as x,y+1/2,-z"
        ) from error
    if abs(round(float(np.linalg.det(np.array(op.rot) / gemmi.Op.DEN)))) != 1:
        raise InputError(f"{tag}: {one_line(text, limit=60)!r} is not a rotation; correct it")
    return op


def _from_hall(hall: str, tag: str, cell: np.ndarray) -> Symmetry:
    try:
        symmetry = _symmetry(gemmi.symops_from_hall(hall), [])
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{tag}: {one_line(hall, limit=40)!r} is not a Hall symbol "
            f"({one_line(error, limit=80)}); add the operations (_space_group_symop_operation_xyz)"
        ) from error
    if not _fits(symmetry, cell):
        raise InputError(f"{tag}: {one_line(hall, limit=40)!r} does not fit the cell; correct it")
    return symmetry


@lru_cache(maxsize=256)  # the files of a database repeat few names
def _named(name: str, setting: str | None) -> tuple[gemmi.SpaceGroup, ...]:
    """Return the possible settings of a name; one if it determines origin and axes."""
    clean = re.sub(r"\s+", " ", name.replace("_", "")).strip()
    # AMCSD and ICSD: "F d -3 m S" and "Z" are origins 1 and 2, "R -3 m H" and "R" axes.
    clean = re.sub(r"[ :]*\(?origin(?: choice)? ?([12])\)?$", r":\1", clean, flags=re.IGNORECASE)
    clean = re.sub(r"(?<=[^ :])[ :]+([SZ])$", lambda m: ":" + "12"["SZ".index(m[1])], clean)
    if setting and ":" not in clean and setting.upper() in ("1", "2", "H", "R"):
        clean = f"{clean}:{setting.upper()}"
    found: gemmi.SpaceGroup | None = gemmi.find_spacegroup_by_name(clean)
    if found is None:
        return ()
    if ":" in clean or re.search(r"^R.* [HR]$", clean):
        return (found,)
    return tuple(other for other in gemmi.spacegroup_table() if other.hm == found.hm)


def _numbered(text: str) -> list[gemmi.SpaceGroup]:
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= 230:
        raise InputError(
            f"{_NUMBERS[0]}: {one_line(text, limit=20)!r} is not a space-group number; "
            "give 1 to 230"
        )
    settings = [other for other in gemmi.spacegroup_table() if other.number == int(text)]
    return sorted(settings, key=lambda one: not one.is_reference_setting())


def _settings(
    found: Sequence[gemmi.SpaceGroup], what: str, tag: str, cell: np.ndarray
) -> list[Symmetry]:
    """Return the settings that fit the cell and share the name of the first that does."""
    if not found:
        raise InputError(
            f"{tag}: {what} is not a known space group; add its operations "
            "(_space_group_symop_operation_xyz) or write the CIF in P 1"
        )
    fitting = [one for one in found if _fits(_symmetry(one.operations(), []), cell)]
    if not fitting:
        raise InputError(f"{tag}: {what} does not fit the cell; correct one of them")
    # Most structures with two origin choices are deposited with origin 2, the centre of symmetry.
    same = sorted((one for one in fitting if one.hm == fitting[0].hm), key=_origin)
    ambiguous = len(found) > 1
    return [
        _symmetry(
            one.operations(),
            [f"only {what} is given; setting {one.xhm()} is assumed"] if ambiguous else [],
        )
        for one in same
    ]


def _origin(one: gemmi.SpaceGroup) -> bool:
    return bool(one.ext == "1")


def _symmetry(group: gemmi.GroupOps, notes: list[str]) -> Symmetry:
    ops = list(group)
    return Symmetry(
        rotations=np.array([op.rot for op in ops], dtype=float) / gemmi.Op.DEN,
        translations=np.array([op.tran for op in ops], dtype=float) / gemmi.Op.DEN,
        notes=tuple(notes),
    )


def _fits(symmetry: Symmetry, cell: np.ndarray) -> bool:
    """Return whether every rotation conserves the lengths and angles of the lattice."""
    metric = cell @ cell.T
    turned = np.einsum("nji,jk,nkl->nil", symmetry.rotations, metric, symmetry.rotations)
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    return bool((np.abs(turned - metric) / scale < 2 * METRIC_TOLERANCE).all())
