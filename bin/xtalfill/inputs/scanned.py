"""One structure of a scan: its judgement, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.hosts import safe_id
from xtalfill.inputs.scan import COMPLETE, MISSING, Judgement, formula_of, judge
from xtalfill.inputs.structures import Streamed
from xtalfill.inputs.structures.entry import MAX_SECONDS, time_limit


@dataclass(frozen=True)
class Scanned:
    """A structure of the database, and its judgement or why there is none.

    Attributes:
        id: Its id, safe as a file name; not unique.
        source: Where it was read.
        formula: Of the listed sites; None if there are none.
        n_atoms: Number of listed sites; None if there are none.
        judgement: None if it cannot be judged.
        message: Why it cannot be judged.
        file: The whole path of its file, if that holds no other structure.
        host: The listed sites of a structure that is to be filled and has no such file.
    """

    id: str
    source: str
    formula: str | None = None
    n_atoms: int | None = None
    judgement: Judgement | None = None
    message: str = ""
    file: Path | None = None
    host: Atoms | None = None

    @property
    def flagged(self) -> Judgement | None:
        """The judgement of a structure that is not complete."""
        found = self.judgement
        return found if found is not None and found.status != COMPLETE else None


def scan_one(streamed: Streamed) -> Scanned:
    """Judge one structure; what cannot be judged has its reason."""
    entry = streamed.entry
    if entry.id_is_name:  # another structure may share it
        entry.id, entry.id_is_name = None, False
    name = safe_id(entry.id or "") or safe_id(entry.fallback_id) or "structure"
    atoms, message, judgement = entry.atoms, "", None
    try:
        with time_limit(MAX_SECONDS):
            judgement = judge(entry)
    except InputError as error:
        message = one_line(error, limit=400)
    to_fill = judgement is not None and judgement.status == MISSING
    return Scanned(
        id=name,
        source=entry.source,
        formula=None if atoms is None else formula_of(atoms),
        n_atoms=None if atoms is None else len(atoms),
        judgement=judgement,
        message=message,
        file=streamed.file.resolve() if to_fill and streamed.file is not None else None,
        host=atoms if to_fill and streamed.file is None else None,
    )
