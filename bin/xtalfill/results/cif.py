"""Write a restored crystal as CIF, with tags of the core and the TCOD dictionary.

Sites of the input have the flag `d`, restored ones `calc` and the host atom that they are next to.
Without symmetry the file has every site in the cell of the input (P1), with all digits. With
symmetry it has the asymmetric unit in the standard cell, so each atom is moved onto its symmetric
position; `SYMMETRY_TOLERANCE` limits by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gemmi
import numpy as np
import spglib
from ase import Atoms
from ase.cell import Cell
from ase.geometry import get_distances

import xtalfill
from xtalfill.core.relaxations import SITES
from xtalfill.core.text import one_line
from xtalfill.results.candidate_source import DFT

# Å. A crystal relaxed to 0.05 eV/Å is off its symmetric positions by some hundredths.
SYMMETRY_TOLERANCE = 0.05
# Positions in a cell of 100 Angstrom are read back within 1e-10 Angstrom.
_DIGITS = 12
_LONGEST_NAME = 75  # that CIF 1.1 allows
# Added to the atomic number of a restored site: symmetry must not mix it with one of the input.
_RESTORED = 1000
# Å, by which spglib's own symmetric positions may differ.
_EXACT = 1e-3


@dataclass(frozen=True)
class _Sites:
    """The sites that a file lists, and the group that makes the others from them."""

    cell: np.ndarray
    symbols: list[str]
    fractions: np.ndarray
    is_host: np.ndarray
    multiplicity: np.ndarray
    number: int = 1
    name: str = "P 1"
    operations: tuple[str, ...] = ("x,y,z",)
    attached: list[int] = field(default_factory=list)


def format_cif(
    atoms: Atoms,
    *,
    name: str,
    is_host: np.ndarray | None = None,
    tags: Mapping[str, Any] | None = None,
    symmetry: bool = False,
    digits: int = _DIGITS,
) -> str:
    """Return a crystal as CIF.

    A CIF holds the lengths and angles of the lattice vectors but not their orientation. In P1 the
    fractional coordinates refer to the same a, b, c as in the input and are not wrapped.

    Args:
        atoms: The crystal.
        name: Name of the data block; truncated to the 75 characters that CIF allows.
        is_host: (n_atoms,) True for a site of the input; None leaves out the flags.
        tags: More items of the data block; None is left out. `_tcod_total_energy`, in eV, is that
            of the given cell.
        symmetry: Write the asymmetric unit of the space group that spglib finds.
        digits: Decimals of lengths, angles and coordinates.
    """
    flags = np.ones(len(atoms), dtype=bool) if is_host is None else is_host
    sites = (_symmetric(atoms, flags) if symmetry else None) or _all_sites(atoms, flags)
    share = sites.multiplicity.sum() / len(atoms)  # of the cell of the input
    counts: dict[str, int] = {}
    for symbol, number in zip(sites.symbols, sites.multiplicity, strict=True):
        counts[symbol] = counts.get(symbol, 0) + int(number)
    order = sorted(counts, key=lambda symbol: (symbol not in "CH" or "C" not in counts, symbol))
    lengths = Cell(sites.cell).cellpar()
    items: dict[str, Any] = {"_audit_creation_method": f"xtalfill {xtalfill.__version__}"}
    items |= {key: value for key, value in (tags or {}).items() if value is not None}
    if "_tcod_total_energy" in items:
        items["_tcod_total_energy"] = round(items["_tcod_total_energy"] * share, 8)
    items["_chemical_formula_sum"] = " ".join(f"{symbol}{counts[symbol]}" for symbol in order)
    heads = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    items |= {
        f"_cell_{head}": f"{value:.{digits}f}" for head, value in zip(heads, lengths, strict=True)
    }
    items["_cell_volume"] = f"{abs(np.linalg.det(sites.cell)):.8f}"
    items["_space_group_name_H-M_alt"] = sites.name
    items["_space_group_IT_number"] = sites.number
    lines = [f"data_{_block_name(name)}", *(f"{key} {_value(item)}" for key, item in items.items())]
    lines += ["loop_", "_space_group_symop_id", "_space_group_symop_operation_xyz"]
    lines += [f"{number} '{text}'" for number, text in enumerate(sites.operations, start=1)]
    return (
        "\n".join([*lines, *_site_lines(sites, flagged=is_host is not None, digits=digits)]) + "\n"
    )


def cif_tags(
    history: Mapping[str, Mapping[str, Any]], *, stage: str, method: str, sample: int, seed: int
) -> dict[str, Any]:
    """Return the tags that say how a crystal was made.

    Args:
        history: Stage -> what it noted in the batch.
        stage: The relaxation that gave the positions.
        method: Of the proposal.
        sample: Number of the candidate.
        seed: Of the run.
    """
    noted = history[stage]
    tags = {
        "_computing_structure_solution": f"xtalfill {xtalfill.__version__}, method {method}, "
        f"sample {sample}, seed {seed}",
    }
    if stage == DFT:
        protocol = noted["protocol"]["name"]
        relaxed = f"pw.x, {noted['functional']}, protocol {protocol}, {noted['library']}"
        software, version = "Quantum ESPRESSO", ", ".join(noted["pw"])
    else:
        what = "restored sites in the fixed host" if stage == SITES else "all positions"
        relaxed = f"{what} with the potential {noted.get('mlip', 'of the run')}"
        software, version = "xtalfill", xtalfill.__version__
    return tags | {
        "_computing_structure_refinement": relaxed,
        "_tcod_software_package": software,
        "_tcod_software_package_version": version,
    }


def _site_lines(sites: _Sites, *, flagged: bool, digits: int) -> list[str]:
    keys = ["label", "type_symbol", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z"]
    keys += ["occupancy", *(["calc_flag", "calc_attached_atom"] if flagged else [])]
    numbers: dict[str, int] = {}
    labels = []
    for symbol in sites.symbols:
        numbers[symbol] = numbers.get(symbol, 0) + 1
        labels.append(f"{symbol}{numbers[symbol]}")
    lines = ["loop_", *(f"_atom_site_{key}" for key in keys)]
    for row, label in enumerate(labels):
        cells = [label, sites.symbols[row], str(sites.multiplicity[row])]
        cells += [f"{value:.{digits}f}" for value in sites.fractions[row]]
        cells.append("1")
        if flagged:
            host = sites.is_host[row]
            cells += ["d", "."] if host else ["calc", labels[sites.attached[row]]]
        lines.append(" ".join(cells))
    return lines


def _block_name(name: str) -> str:
    return "".join(char if char.isprintable() and char != " " else "_" for char in name)[
        :_LONGEST_NAME
    ]


def _value(value: Any) -> str:
    """Return a value as CIF writes it; text is quoted."""
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, int | np.integer):
        return str(value)
    text = str(gemmi.cif.quote(one_line(value, limit=1000)))
    return f"\n{text}" if text.startswith(";") else text  # a text field begins its own line


def _all_sites(atoms: Atoms, is_host: np.ndarray) -> _Sites:
    """Return every site, in the cell of the input."""
    cell = np.asarray(atoms.cell.array)
    fractions = np.linalg.solve(cell.T, atoms.positions.T).T
    return _Sites(
        cell=cell,
        symbols=list(atoms.symbols),
        fractions=fractions,
        is_host=is_host,
        multiplicity=np.ones(len(atoms), dtype=int),
        attached=_attached(cell, fractions, is_host),
    )


def _symmetric(atoms: Atoms, is_host: np.ndarray) -> _Sites | None:
    """Return the asymmetric unit in the standard cell; None if spglib finds no more than P1."""
    kinds = atoms.numbers + np.where(is_host, 0, _RESTORED)
    fractions = atoms.cell.scaled_positions(atoms.positions)
    found = spglib.get_symmetry_dataset(
        (atoms.cell.array, fractions, kinds), symprec=SYMMETRY_TOLERANCE
    )
    if found is None or found.number == 1:
        return None
    operations: Any = spglib.get_symmetry_from_database(found.hall_number)
    rotations, translations = operations["rotations"], operations["translations"]
    orbits = _orbits(found, rotations, translations)
    pairs = zip(rotations, translations, strict=True)
    group = gemmi.GroupOps([_operation(*pair) for pair in pairs])
    named = gemmi.find_spacegroup_by_ops(group)
    if orbits is None or named is None:
        return None
    rows = np.unique(orbits)
    attached = _attached(found.std_lattice, found.std_positions, found.std_types < _RESTORED)
    return _Sites(
        cell=found.std_lattice,
        symbols=[gemmi.Element(int(found.std_types[row] % _RESTORED)).name for row in rows],
        fractions=found.std_positions[rows],
        is_host=found.std_types[rows] < _RESTORED,
        multiplicity=np.array([(orbits == row).sum() for row in rows]),
        number=found.number,
        name=named.xhm(),
        operations=tuple(op.triplet() for op in group),
        attached=[int(np.searchsorted(rows, orbits[attached[row]])) for row in rows],
    )


def _operation(rotation: np.ndarray, translation: np.ndarray) -> gemmi.Op:
    operation = gemmi.Op()
    operation.rot = (rotation * gemmi.Op.DEN).tolist()
    operation.tran = np.rint(translation * gemmi.Op.DEN).astype(int).tolist()
    return operation


def _orbits(found: Any, rotations: np.ndarray, translations: np.ndarray) -> np.ndarray | None:
    """Return the first site of each site's orbit; None if an image of a site is no site."""
    positions, kinds = found.std_positions, found.std_types
    first = np.full(len(kinds), -1)
    for row in range(len(kinds)):
        if first[row] >= 0:
            continue
        images = rotations @ positions[row] + translations
        away = images[:, None] - positions[None]
        away -= np.rint(away)
        distance = np.linalg.norm(away @ found.std_lattice, axis=2)
        distance[:, kinds != kinds[row]] = np.inf
        nearest = distance.argmin(axis=1)
        if distance.min(axis=1).max() > _EXACT or (first[nearest] >= 0).any():
            return None
        first[nearest] = row
    return first


def _attached(cell: np.ndarray, fractions: np.ndarray, is_host: np.ndarray) -> list[int]:
    """Return the host site that is next to each site; a host site has itself."""
    nearest = np.arange(len(fractions))
    host = np.flatnonzero(is_host)
    if len(host) < len(fractions):
        positions = fractions @ cell
        _, lengths = get_distances(positions[~is_host], positions[host], cell=cell, pbc=True)
        nearest[~is_host] = host[lengths.argmin(axis=1)]
    return [int(row) for row in nearest]
