"""Read CIF. gemmi parses the file and provides the space groups; sites are expanded here."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import cellpar_to_cell

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line, shortened
from xtalfill.inputs.structures.cifblock import CifBlock, parse_document, unit_cell
from xtalfill.inputs.structures.cifsites import X_TAG, SiteRow, read_rows
from xtalfill.inputs.structures.entry import Entry, fill_entry, note_isotopes
from xtalfill.inputs.structures.evidence import Evidence, HydrogenCount
from xtalfill.inputs.structures.expand import ExpandedCell, ListedSite, expand
from xtalfill.inputs.structures.formula import formula_units, in_ratio, parse_formula
from xtalfill.inputs.structures.pairs import close_pairs
from xtalfill.inputs.structures.symmetry import Symmetry, read_symmetry

HYDROGEN = 1
# Closer sites of an ordered crystal show that the origin or the axes were guessed wrong.
_MIN_DISTANCE = 0.5


def read_cif(text: str, *, source: str, stem: str) -> list[Entry]:
    """Read every data block of a CIF that lists atom sites.

    Symmetry is expanded to the cell given in the CIF; the cell is not reduced.

    Args:
        text: Content of the file.
        source: Its name, for messages.
        stem: The id of its structure, or with several blocks the stem of their ids.

    Raises:
        InputError: The text is not CIF, or no block lists atom sites.
    """
    blocks = parse_document(text)
    crystals = [block for block in blocks if block.has(X_TAG)]
    if not crystals:
        cartesian = any(block.has("_atom_site_cartn_x") for block in blocks)
        raise InputError(
            "gives Cartesian coordinates only (_atom_site_Cartn_x); write fractional ones"
            if cartesian
            else "lists no atom sites (_atom_site_fract_x); the CIF is truncated or holds no "
            "crystal"
        )
    entries = []
    for number, block in enumerate(crystals):
        several = len(crystals) > 1
        entry = Entry(
            source=f"{source} block {one_line(block.name, limit=40)}" if several else source,
            fallback_id=f"{stem}_{number}" if several else stem,
        )
        fill_entry(entry, _fill_from_block, block, blocks, kind="CIF")
        entries.append(entry)
    return entries


def _fill_from_block(entry: Entry, block: CifBlock, blocks: list[CifBlock]) -> None:
    cell = _cell(entry, block, blocks)
    rows, notes = read_rows(block)
    entry.notes += notes
    formula = _formula(entry, block)
    located = [row for row in rows if row.fractional is not None]
    if not located:
        raise InputError("no site has coordinates; complete the CIF")
    sites = [
        ListedSite(
            label=row.label, number=row.number, fractional=row.fractional, occupancy=row.occupancy
        )
        for row in located
        if row.fractional is not None
    ]
    expanded, symmetry = _expand(sites, read_symmetry(block, cell), cell, formula)
    entry.notes += [*symmetry.notes, *expanded.notes]
    entry.atoms = _atoms(located, expanded, cell)
    entry.evidence = Evidence(
        formula=formula,
        unlocated=_unlocated(rows, located, expanded, order=len(symmetry.rotations)),
        attached=_attached(located, expanded),
        named=_named(located, expanded),
    )
    note_isotopes(entry, {row.isotope for row in rows} - {""})


def _cell(entry: Entry, block: CifBlock, blocks: list[CifBlock]) -> np.ndarray:
    """Return the cell (3, 3), or that of the only other block with a cell if this one has none."""
    found = unit_cell(block)
    if found is None:
        # A separate block may contain the shared cell.
        shared = [(one, unit_cell(one)) for one in blocks if not one.has(X_TAG)]
        others = [(one, cell) for one, cell in shared if cell is not None]
        if len(others) != 1:
            raise InputError(
                f"block {one_line(block.name, limit=40)!r} gives no cell (_cell_length_a, ...); "
                "add it"
            )
        ((other, found),) = others
        entry.notes.append(f"the cell is taken from block {one_line(other.name, limit=40)!r}")
    lengths_and_angles = [found.a, found.b, found.c, found.alpha, found.beta, found.gamma]
    return np.asarray(cellpar_to_cell(lengths_and_angles))


def _formula(entry: Entry, block: CifBlock) -> dict[int, float] | None:
    text = block.value("_chemical_formula_sum")
    if text is None:
        return None
    formula = parse_formula(text)
    if formula is None:
        entry.notes.append(
            f"the formula {one_line(text, limit=60)!r} cannot be parsed and is ignored"
        )
    return formula


def _expand(
    sites: list[ListedSite],
    choices: list[Symmetry],
    cell: np.ndarray,
    formula: dict[int, float] | None,
) -> tuple[ExpandedCell, Symmetry]:
    """Expand with the first symmetry that agrees with the formula and has no overlapping sites.

    If none agrees with the formula, use the first without overlapping sites.

    Raises:
        InputError: Sites overlap in every setting.
    """
    if len(choices) == 1:
        return expand(sites, choices[0], cell), choices[0]
    listed = np.array([site.number for site in sites])
    crystals = [(expand(sites, symmetry, cell), symmetry) for symmetry in choices]
    apart = [one for one in crystals if not _clashes(one[0], cell)]
    if not apart:
        raise InputError(
            f"{choices[0].notes[0]}, but its sites overlap, as in every other setting; add the "
            "operations (_space_group_symop_operation_xyz)"
        )
    matching = (
        one
        for one in apart
        if in_ratio(formula_units(listed[one[0].row], formula or {}, without=HYDROGEN))
    )
    return next(matching, apart[0])


def _clashes(expanded: ExpandedCell, cell: np.ndarray) -> bool:
    full = expanded.occupancy[expanded.row] >= 1
    return len(close_pairs(expanded.fractional[full], cell, _MIN_DISTANCE)) > 0


def _atoms(located: list[SiteRow], expanded: ExpandedCell, cell: np.ndarray) -> Atoms:
    numbers = np.array([row.number for row in located])[expanded.row]
    atoms = Atoms(numbers, positions=expanded.fractional @ cell, cell=cell, pbc=True)
    atoms.set_array("label", np.array([located[index].label for index in expanded.row]))
    occupancy = expanded.occupancy[expanded.row]
    if (occupancy < 1).any() or (occupancy > 1).any():
        atoms.set_array("occupancy", occupancy, dtype=float)
    return atoms


def _unlocated(
    rows: list[SiteRow], located: list[SiteRow], expanded: ExpandedCell, *, order: int
) -> dict[int, float]:
    """Return atomic number -> number of sites in the cell listed without coordinates.

    A listed multiplicity is used only if those of the located sites are correct, because the tag is
    also used for the order of the site symmetry.
    """
    listed = [row.multiplicity for row in located]
    trusted = all(
        given is not None and given == found
        for given, found in zip(listed, expanded.multiplicity, strict=True)
        if found > 0
    )
    counts: dict[int, float] = {}
    for row in rows:
        if row.fractional is None:
            each = row.multiplicity if trusted and row.multiplicity is not None else order
            counts[row.number] = counts.get(row.number, 0.0) + each * row.occupancy
    return counts


def _attached(located: list[SiteRow], expanded: ExpandedCell) -> HydrogenCount | None:
    """Return the sum of _atom_site_attached_hydrogens; None if all entries are 0."""
    rows = zip(located, expanded.filled, strict=True)
    with_hydrogen = [(row, each) for row, each in rows if row.attached]
    if not with_hydrogen:
        return None
    count = float(sum((row.attached or 0) * each for row, each in with_hydrogen))
    return HydrogenCount(count, count, "the attached hydrogens (_atom_site_attached_hydrogens)")


def _named(located: list[SiteRow], expanded: ExpandedCell) -> HydrogenCount | None:
    rows = zip(located, expanded.filled, strict=True)
    with_hydrogen = [(row, each) for row, each in rows if row.most_hydrogens]
    if not with_hydrogen:
        return None
    labels = [row.label for row, _ in with_hydrogen]
    return HydrogenCount(
        float(sum(row.fewest_hydrogens * each for row, each in with_hydrogen)),
        float(sum(row.most_hydrogens * each for row, each in with_hydrogen)),
        f"the label{'s' if len(labels) > 1 else ''} {shortened(labels)} of "
        f"{'/'.join(sorted({chemical_symbols[row.number] for row, _ in with_hydrogen}))}",
    )
