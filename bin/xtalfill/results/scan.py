"""Scan a database for incomplete structures: scan.csv, and the sheet of those to fill."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.data import chemical_symbols

from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer, make_folder, replacing, write_csv
from xtalfill.inputs.scan import MISSING
from xtalfill.inputs.scanned import Scanned, scan_one
from xtalfill.inputs.sheet import COLUMNS
from xtalfill.inputs.structures import stream_structures
from xtalfill.results.columns import column, make_row

TABLE, SHEET, HOSTS = "scan.csv", "hosts.csv", "hosts"
FAILED = "failed"


@dataclass(frozen=True)
class ScanRow:
    """A row of scan.csv."""

    id: str = column(meaning="id of the structure", value=lambda s: s.id)
    source: str = column(meaning="file, and frame, row, block or crystal", value=lambda s: s.source)
    status: str = column(
        meaning="`missing`, `suspect`, `complete`, or `failed` if it cannot be judged",
        value=lambda s: s.judgement.status if s.judgement else FAILED,
    )
    element: str | None = column(
        meaning="element that is missing or suspect",
        value=lambda s: chemical_symbols[s.flagged.element] if s.flagged else None,
    )
    score: float | None = column(
        meaning="0 to 1; 1 if the input states that sites are missing",
        value=lambda s: round(s.judgement.score, 3) if s.judgement else None,
    )
    n_missing: int | None = column(
        meaning="number of missing sites in the cell, if the evidence decides it",
        value=lambda s: s.flagged.n_missing if s.flagged else None,
    )
    formula: str | None = column(
        meaning="formula of the listed sites",
        value=lambda s: s.formula,
    )
    n_atoms: int | None = column(
        meaning="number of listed sites",
        value=lambda s: s.n_atoms,
    )
    evidence: str = column(
        meaning="what was found, `kind: what`, separated by semicolons",
        value=lambda s: "; ".join(s.judgement.evidence) if s.judgement else "",
    )
    sites: str = column(
        meaning="numbers of the atoms that lack a proton, counted from 1",
        value=lambda s: " ".join(str(site + 1) for site in s.flagged.sites) if s.flagged else "",
    )
    message: str = column(meaning="why it cannot be judged", value=lambda s: s.message)


@dataclass(frozen=True)
class Findings:
    """What a scan found.

    Attributes:
        counts: Status -> number of structures.
        n_uncounted: Rows of hosts.csv without a number of missing sites.
    """

    counts: Counter[str]
    n_uncounted: int


def scan(source: str | Path, outdir: str | Path) -> Findings:
    """Judge every structure of an input; write scan.csv, hosts.csv and hosts/.

    Structures are read and written one by one. Of those before, only the ids in hosts.csv stay in
    memory.

    Args:
        source: The input, as in `stream_structures`.
        outdir: Where the results go; files of an earlier scan are replaced.

    Returns:
        The numbers of structures.

    Raises:
        InputError: The input cannot be read as a whole, or no structure can be judged.
    """
    structures = stream_structures(source)
    first = next(structures)  # an input that cannot be read fails before anything is written
    return write_findings(map(scan_one, itertools.chain([first], structures)), outdir, source)


def write_findings(
    structures: Iterable[Scanned], outdir: str | Path, source: str | Path
) -> Findings:
    """Write scan.csv, hosts.csv and hosts/ of judged structures, one by one.

    Args:
        structures: In the order of the input.
        outdir: Where the results go; files of an earlier scan are replaced.
        source: The input, for messages.

    Returns:
        The numbers of structures.

    Raises:
        InputError: No structure can be judged.
    """
    outdir = Path(outdir)
    counts: Counter[str] = Counter()
    uncounted = 0
    make_folder(outdir)

    def rows() -> Iterator[ScanRow]:
        nonlocal uncounted
        with atomic_writer(outdir / SHEET) as file:
            sheet = _HostSheet(csv.writer(file, lineterminator="\n"), outdir / HOSTS)
            for scanned in structures:
                row = make_row(ScanRow, scanned)
                counts[row.status] += 1
                if row.status == MISSING:
                    sheet.add(scanned)
                    uncounted += row.n_missing is None
                yield row

    write_csv(outdir / TABLE, ScanRow, rows())
    if counts.total() == counts[FAILED]:
        raise InputError(
            f"{source}: none of the {counts.total()} structures can be judged; "
            f"{outdir / TABLE} has the reasons"
        )
    return Findings(counts, uncounted)


class _HostSheet:
    """The sheet of the structures to fill, and the files of those that have none of their own."""

    def __init__(self, writer: Any, folder: Path) -> None:
        self._writer, self._folder = writer, folder
        self._ids: set[str] = set()
        writer.writerow(COLUMNS)

    def add(self, scanned: Scanned) -> None:
        """Add a structure; one that shares its file with others gets a file of its own."""
        judgement = scanned.judgement
        if judgement is None:
            return
        name = scanned.id
        if name in self._ids:
            digest = hashlib.sha256(f"{scanned.source} {len(self._ids)}".encode()).hexdigest()[:8]
            name = f"{name[:91]}-{digest}"
        self._ids.add(name)
        place = str(scanned.file)
        if scanned.host is not None:
            self._folder.mkdir(exist_ok=True)
            place = f"{self._folder.name}/{name}.extxyz"
            host = scanned.host
            bare = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
            with replacing(self._folder / f"{name}.extxyz") as temporary:
                ase.io.write(temporary, bare, format="extxyz")
        count = "" if judgement.n_missing is None else judgement.n_missing
        self._writer.writerow([name, place, chemical_symbols[judgement.element], count])
