"""The page of each crystal: its minima side by side with pictures, 3-D views, CIF files, values.

The pages are made here and packed in chunks; the browser unpacks those that it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import cell_to_cellpar
from jinja2 import Environment
from scipy.spatial import cKDTree

from xtalfill.checks.answer import Checks
from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.relaxations import final_stage
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.cif import format_cif
from xtalfill.results.columns import columns_of
from xtalfill.results.report.answers import Answer, Minimum, support_sentences
from xtalfill.results.report.drawing import Drawing, atom_labels, draw_crystal
from xtalfill.results.report.figures import energy_strip
from xtalfill.results.report.picture import draw_picture
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import Tables

MAX_MINIMA = 4
_MAX_SITES = 24
_NEIGHBOURS = 3
_CIF_DIGITS = 6  # 1e-5 Angstrom; the files in structures/ have all digits
_SAME_CELL = 0.02  # Angstrom and degrees; CIF files round both
_CHECKS = frozenset(item.name for item in fields(Checks))
_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))


class CrystalPages:
    """Makes the pages of crystals one after the other.

    Attributes:
        numbers: Atomic numbers of all drawn elements, filled while pages are made.
    """

    def __init__(self, tables: Tables, environment: Environment) -> None:
        self.numbers: set[int] = set()
        self._environment = environment
        self._batch_of = tables.batch_of
        self._candidates: dict[str, list[CandidateRow]] = {}
        for row in tables.candidates:
            self._candidates.setdefault(row.id, []).append(row)

    def make(self, answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
        """Return the page of each answer; each batch is read once.

        Args:
            answers: What to show.

        Returns:
            Id -> "card" and "page" (HTML), "pictures" (SVG), "views" (see `Drawing.payload`) and
            "cifs" of the minima, "figure" (energies).
        """
        of_batch: dict[Any, list[Answer]] = {}
        for answer in answers:
            of_batch.setdefault(self._batch_of[answer.id], []).append(answer)
        found = {}
        for path in sorted(of_batch):
            batch = read_batch(path)
            index_of = {
                (batch.id[i], batch.method[i], int(batch.sample[i])): i
                for i in range(batch.n_systems)
            }
            for answer in of_batch[path]:
                found[answer.id] = self._page(answer, batch, index_of)
        return {answer.id: found[answer.id] for answer in answers}

    def _page(
        self, answer: Answer, batch: Batch, index_of: dict[tuple[str, str, int], int]
    ) -> dict[str, Any]:
        minima = answer.minima[:MAX_MINIMA]
        systems = [index_of[_key(minimum)] for minimum in minima]
        crystals = [batch.to_ase(index, stage=final_stage(batch)) for index in systems]
        drawings = [
            draw_view(batch, index, atoms) for index, atoms in zip(systems, crystals, strict=True)
        ]
        self.numbers |= set(crystals[0].numbers.tolist())
        figure = energy_strip(self._candidates[answer.id])
        about = {
            "answer": answer,
            "minima": minima,
            "support": support_sentences(answer),
            "neighbours": nearest_neighbours(crystals[0], drawings[0].is_host, _MAX_SITES),
            "checks": list(_checks(minima)),
            "values": list(_values(answer)),
            "elements": element_names(drawings[0]),
            "with_reference_sites": len(drawings[0].reference) > 0,
            "figure_label": figure["label"] if figure else "",
        }
        return {
            "card": self._environment.get_template("card.html").render(about),
            "page": self._environment.get_template("crystal.html").render(about),
            "pictures": [
                draw_picture(drawing, label=_picture_label(answer, number))
                for number, drawing in enumerate(drawings)
            ],
            "views": [drawing.payload() for drawing in drawings],
            "cifs": [
                format_cif(atoms, name=answer.id, is_host=drawing.is_host, digits=_CIF_DIGITS)
                for atoms, drawing in zip(crystals, drawings, strict=True)
            ],
            "figure": figure,
        }


def _key(minimum: Minimum) -> tuple[str, str, int]:
    row = minimum.lowest
    return row.id, row.method, row.sample


def _picture_label(answer: Answer, number: int) -> str:
    name = f"{answer.row.formula} with {answer.row.n_missing} restored {answer.row.element}"
    if number == 0:
        return f"Crystal {answer.id}: {name}, lowest minimum"
    above = 1000 * answer.minima[number].above
    return f"Crystal {answer.id}: {name}, minimum {number + 1}, {above:.1f} meV/atom higher"


def element_names(drawing: Drawing) -> list[str]:
    """Return the elements of the host, for the key of the colours."""
    return [chemical_symbols[z] for z in sorted(set(drawing.numbers[drawing.is_host].tolist()))]


def _values(answer: Answer) -> Iterator[dict[str, Any]]:
    """Yield the other known columns of results.csv with the value for each method."""
    rows = [asdict(row) for row in answer.rows]
    for item in columns_of(StructureRow):
        values = [row[item.name] for row in rows]
        if item.name not in _CHECKS and any(map(is_known, values)):
            yield {"name": item.name, "unit": item.unit, "meaning": item.meaning, "values": values}


def _checks(minima: Sequence[Minimum]) -> Iterator[dict[str, Any]]:
    """Yield every check that applies, with the value of each minimum."""
    rows = [asdict(minimum.lowest) for minimum in minima]
    for item in columns_of(CandidateRow):
        values = [row[item.name] for row in rows]
        if item.name in _CHECKS and any(map(is_known, values)):
            yield {"name": item.name, "unit": item.unit, "meaning": item.meaning, "values": values}


def is_known(value: Any) -> bool:
    """Return whether a cell of a table holds something."""
    return not (value is None or value == "" or (isinstance(value, float) and math.isnan(value)))


def nearest_neighbours(
    atoms: Atoms, is_host: np.ndarray, at_most: int
) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return the nearest atoms of the restored sites.

    Args:
        atoms: The crystal, n atoms.
        is_host: (n,) False at restored sites.
        at_most: Number of sites to look at.

    Returns:
        Label of the site, and labels and distances in Angstrom of its nearest atoms.
    """
    labels = atom_labels(atoms.numbers)
    images = (atoms.positions[None] + (_IMAGES @ atoms.cell.array)[:, None]).reshape(-1, 3)
    sites = np.flatnonzero(~is_host)[:at_most]
    away, which = cKDTree(images).query(atoms.positions[sites], k=_NEIGHBOURS + 1)
    return [
        (
            labels[site],
            [(labels[w % len(atoms)], float(d)) for d, w in zip(ds[1:], ws[1:], strict=True)],
        )
        for site, ds, ws in zip(sites, away, which, strict=True)
    ]


def draw_view(batch: Batch, index: int, atoms: Atoms) -> Drawing:
    """Return what is drawn of a candidate, with the sites of its reference.

    Args:
        batch: A batch after EVALUATE.
        index: Number of the candidate's system.
        atoms: The relaxed candidate.
    """
    reference = batch.reference_of(batch.id[index])
    sites = None if reference is None else _reference_sites(batch, index, reference)
    return draw_crystal(atoms, batch.is_host[batch.atoms_slice(index)], reference_sites=sites)


def _reference_sites(batch: Batch, index: int, reference: int) -> np.ndarray | None:
    """Return the relaxed sites of the reference in the cell of the candidate, (m, 3) Angstrom.

    None if the two cells differ in more than their orientation.
    """
    ours, true = batch.cell[index], batch.cell[reference]
    if not np.allclose(cell_to_cellpar(ours), cell_to_cellpar(true), rtol=0, atol=_SAME_CELL):
        return None
    there = batch.atoms_slice(reference)
    positions = batch.stages[final_stage(batch)].arrays["positions"][there]
    sites = positions[~batch.is_host[there]]
    return np.linalg.solve(true.T, sites.T).T @ ours if np.isfinite(sites).all() else None
