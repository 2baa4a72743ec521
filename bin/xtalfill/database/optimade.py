"""Write restored crystals as OPTIMADE JSON lines, with the fields of the provider `xtalfill`.

The first line is the header, the second describes the entry type, each other one is a structure
(OPTIMADE specification 1.2, https://github.com/Materials-Consortia/OPTIMADE).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from xtalfill.database.export import Restored

API_VERSION = "1.2.0"
PREFIX = "_xtalfill_"

# Field of the provider -> type, unit, meaning.
FIELDS: dict[str, tuple[str, str, str]] = {
    "energy": ("float", "eV", "Energy of the cell by the potential."),
    "energy_gap": ("float", "eV", "Energy from the structure to the next distinct minimum."),
    "dft_energy": ("float", "eV", "Energy of the cell by DFT after its relaxation."),
    "potential": ("string", "", "The potential that gave `_xtalfill_energy`."),
    "method": ("string", "", "Proposal method of the structure."),
    "status": ("string", "", "Whether the relaxation converged: ok or unconverged."),
    "restored_element": ("string", "", "Element of the restored sites."),
    "restored_sites": ("list", "", "Numbers of the restored sites in `species_at_sites`, from 0."),
    "run": ("string", "", "Identifier of the run that stored the structure."),
    "recipe": ("string", "", "The sha256 of the settings and weights of the run."),
}


def optimade_lines(structures: Iterable[Restored]) -> Iterator[str]:
    """Yield the lines of the file, without line breaks."""
    yield json.dumps({"x-optimade": {"meta": {"api_version": API_VERSION}}})
    yield json.dumps({"type": "info", "id": "structures", **_info()})
    for one in structures:
        yield json.dumps({"type": "structures", "id": one.id, "attributes": attributes(one)})


def _info() -> dict[str, Any]:
    properties = {
        PREFIX + name: {"type": kind, "description": meaning} | ({"unit": unit} if unit else {})
        for name, (kind, unit, meaning) in FIELDS.items()
    }
    return {"description": "Crystals restored by xtalfill", "properties": properties}


def attributes(one: Restored) -> dict[str, Any]:
    """Return the attributes of a structure."""
    atoms = one.crystal.atoms
    counts = Counter(atoms.symbols)
    elements = sorted(counts)
    provider: dict[str, Any] = {
        "energy": one.columns["energy"],
        "energy_gap": one.columns["energy_gap"],
        "dft_energy": one.columns["dft_energy"],
        "potential": one.potential,
        "method": one.columns["method"],
        "status": one.columns["status"],
        "restored_element": one.columns["element"],
        "restored_sites": [row for row, host in enumerate(one.crystal.is_host) if not host],
        "run": one.columns["run"],
        "recipe": one.recipe_digest,
    }
    return {
        "immutable_id": f"{one.columns['host_key']}-{one.recipe_digest}",
        "last_modified": one.stored.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": [counts[symbol] / len(atoms) for symbol in elements],
        "chemical_formula_descriptive": str(atoms.symbols.formula.format("hill")),
        "chemical_formula_reduced": one.columns["reduced_formula"],
        "chemical_formula_anonymous": _anonymous(one.columns["reduced_formula"]),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": atoms.cell.tolist(),
        "cartesian_site_positions": atoms.positions.tolist(),
        "nsites": len(atoms),
        "species": [
            {"name": symbol, "chemical_symbols": [symbol], "concentration": [1.0]}
            for symbol in elements
        ],
        "species_at_sites": list(atoms.symbols),
        "structure_features": [],
        **{PREFIX + name: value for name, value in provider.items()},
    }


def _anonymous(reduced: str) -> str:
    """Return a reduced formula with A, B, C and so on, the most frequent element first."""
    from ase.formula import Formula

    numbers = sorted(Formula(reduced).count().values(), reverse=True)
    letters = [chr(ord("A") + place % 26) for place in range(len(numbers))]
    names = [
        letter + ("" if place < 26 else chr(ord("a") + place // 26 - 1))
        for place, letter in enumerate(letters)
    ]
    return "".join(
        f"{name}{number if number > 1 else ''}" for name, number in zip(names, numbers, strict=True)
    )
