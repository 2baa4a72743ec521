"""CHECK, the first stage: from any input to batches, and a line for what cannot be used."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from xtalfill.core.batch import REFERENCE, write_batch
from xtalfill.core.counts import counted_groups, structure_of
from xtalfill.core.errors import ConfigError, InputError
from xtalfill.core.io import write_json
from xtalfill.inputs.batching import build_batch, plan_batches
from xtalfill.inputs.duplicates import find_duplicates
from xtalfill.inputs.hosts import CheckedHost, Refusal, check_structures, parse_element
from xtalfill.inputs.known import Divide, Known, together
from xtalfill.inputs.missing import AUTO, NO_COUNT, is_auto, parse_count
from xtalfill.inputs.references import Reference, match_references
from xtalfill.inputs.structures import read_structures, stream_structures
from xtalfill.relax.elements import known_elements

# More notes than these would hide the failures in a log; check.json holds all.
MAX_NOTES = 20


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """The parameters of the stage CHECK.

    Attributes:
        element: Element to fill where the input names none.
        n_missing: Missing sites per cell where the input gives no number, "auto" or None.
        remove_existing: Remove the sites of the element from the input first.
        method: Proposal methods, separated by commas.
        samples: Candidates for each structure and method.
        oversample: Proposals for each candidate.
        seed: The seed of the run.
        batch_size: Most structures in a batch.
        n_tries: Numbers to compare where "auto" finds none; 0 refuses such a structure.
        duplicates: "keep" fills each structure, "fill_once" each crystal.
        mlip: First potential; a structure with an element that it does not know is refused.
        mlip_rank: Second potential, or None; the same.
    """

    element: str
    n_missing: str | int | None
    remove_existing: bool
    method: str
    samples: int
    oversample: int
    seed: int
    batch_size: int
    n_tries: int
    duplicates: Literal["keep", "fill_once"]
    mlip: str
    mlip_rank: str | None

    @property
    def methods(self) -> tuple[str, ...]:
        """The proposal methods."""
        return tuple(word.strip() for word in self.method.split(","))

    @property
    def potentials(self) -> tuple[str, ...]:
        """The potentials that relax."""
        return tuple(name for name in (self.mlip, self.mlip_rank) if name)

    def recorded(self) -> dict[str, Any]:
        """Return the parameters for check.json."""
        return {
            "element": self.element,
            "n_missing": self.n_missing,
            "remove_existing": self.remove_existing,
            "methods": list(self.methods),
            "samples": self.samples,
            "oversample": self.oversample,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "n_tries": self.n_tries,
            "duplicates": self.duplicates,
            "potentials": list(self.potentials),
        }

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: One of them cannot be used.
        """
        try:
            parse_element(self.element)
        except InputError as error:
            raise ConfigError(f"--element: {error}") from error
        for name, least in {"samples": 1, "oversample": 1, "batch_size": 1, "n_tries": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} is {getattr(self, name)}; it is at least {least}")
        if not _is_count(self.n_missing):
            raise ConfigError(f"--n_missing is {self.n_missing}; give 1 or more, or {AUTO}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it is 0 or more, below 2^63")
        words = all(method.isidentifier() and method != REFERENCE for method in self.methods)
        if not words or len(set(self.methods)) < len(self.methods):
            raise ConfigError(f"--method is {self.method!r}; name each method once, as host,random")


def _is_count(n_missing: str | int | None) -> bool:
    try:
        return n_missing is None or is_auto(n_missing) or parse_count(n_missing) >= 1
    except InputError:
        return False


def run_check(
    source: str | Path,
    *,
    references: str | Path | None,
    settings: CheckSettings,
    outdir: str | Path,
    divide: Divide = None,
) -> dict[str, Any]:
    """Read, check and batch an input; write batches/*.h5 and check.json.

    Every structure or reference that cannot be used gets one line on stderr. Of a duplicate, only
    check.json tells: it is in no batch. With a results database, structures that it has are left
    out of the batches, too, and parts/*.json have the part of check.json that belongs to a batch,
    or to the refused structures.

    Args:
        source: The input: sheet, folder or file of structures.
        references: True structures, matched by id, or None.
        settings: What to fill, and how often.
        outdir: Where the results go.
        divide: Tells which structures a results database has; None without one.

    Returns:
        The content of check.json.

    Raises:
        InputError: The input cannot be read as a whole, or no structure in it can be used.
    """
    checked, failures = check_structures(
        (streamed.entry for streamed in stream_structures(source)),
        element=settings.element,
        n_missing=settings.n_missing,
        remove_existing=settings.remove_existing,
        n_tries=settings.n_tries,
        known=elements_by_potential(settings.potentials),
    )
    given = [] if references is None else read_structures(references)
    found, unmatched = match_references(given, checked)
    same = find_duplicates(checked) if settings.duplicates == "fill_once" else {}
    first = [host for host in checked if host.id not in same]
    known = Known() if divide is None else together(divide(first))
    hosts = [host for host in first if host.id not in known.stored]
    _log(hosts, failures, unmatched, known, len(same))
    sizes = {host.id: len(host.numbers) for host in hosts}
    plan = plan_batches(sizes, batch_size=settings.batch_size)
    report = _report(hosts, failures, found, unmatched, plan, settings, known)
    report["duplicates"] = [_duplicate(host, same[host.id]) for host in checked if host.id in same]
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    write_json(outdir / "check.json", report, sort_keys=True)
    if not checked:
        raise InputError(_none_usable(source, failures))
    _write_batches(outdir / "batches", plan, hosts, found, settings)
    if divide is not None:
        _write_parts(outdir / "parts", report)
    return report


def _none_usable(source: str | Path, failures: list[Refusal]) -> str:
    first = failures[0]
    return (
        f"{source}: none of the {len(failures)} structures can be used; "
        f"the first, {first.id}: {first.message}"
    )


def _write_parts(folder: Path, report: dict[str, Any]) -> None:
    """Write the part of check.json that belongs to each batch and to the refused structures."""
    folder.mkdir(exist_ok=True)
    nothing: dict[str, Any] = {
        "structures": [],
        "failures": [],
        "reference_failures": [],
        "stored": [],
        "duplicates": [],
    }
    by_batch: dict[str, list[dict[str, Any]]] = {}
    for entry in report["structures"]:
        by_batch.setdefault(Path(entry["batch"]).stem, []).append(entry)
    for name, entries in by_batch.items():
        write_json(folder / f"{name}.json", {**report, **nothing, "structures": entries})
    if report["failures"]:
        refused = {**report, **nothing, "failures": report["failures"]}
        write_json(folder / "refused.json", refused)


def _write_batches(
    folder: Path,
    plan: dict[str, list[str]],
    hosts: list[CheckedHost],
    references: dict[str, Reference],
    settings: CheckSettings,
) -> None:
    """Write the candidates of each planned batch, without their missing sites."""
    folder.mkdir(exist_ok=True)
    host_of = {host.id: host for host in hosts}
    for batch_name, ids in plan.items():
        batch = build_batch(
            [host_of[name] for name in ids],
            references,
            methods=settings.methods,
            samples=settings.samples,
            oversample=settings.oversample,
            seed=settings.seed,
        )
        write_batch(batch, folder / f"{batch_name}.h5")


def elements_by_potential(potentials: tuple[str, ...]) -> dict[str, frozenset[int]]:
    """Return the elements of each potential that tells them."""
    told = {name: known_elements(name) for name in potentials}
    return {name: elements for name, elements in told.items() if elements is not None}


def _log(
    hosts: list[CheckedHost],
    failures: list[Refusal],
    unmatched: list[Refusal],
    known: Known,
    n_duplicates: int,
) -> None:
    for kind, items in (("SKIPPED", failures), ("REFERENCE", unmatched)):
        for item in items:
            print(f"{kind} {item.id} ({item.source}): {item.message}", file=sys.stderr)
    if lacking := sum(item.message.startswith(NO_COUNT) for item in failures):
        print(
            f"HINT skipped for want of n_missing: {lacking}; write the numbers into the column "
            "n_missing of the sheet, or the key of the frame or row (`xtalfill scan` leaves it "
            "empty where the evidence does not decide it), or give --n_missing for all",
            file=sys.stderr,
        )
    notes = [
        f"NOTE {structure_of(host.id)} ({host.source}): {note}"
        for host in hosts
        for note in host.notes
    ]
    notes = list(dict.fromkeys(notes))
    for note in notes[:MAX_NOTES]:
        print(note, file=sys.stderr)
    if len(notes) > MAX_NOTES:
        print(f"NOTE {len(notes) - MAX_NOTES} more notes are in check.json", file=sys.stderr)
    usable = len(hosts) + len(known.stored)
    same = f", {n_duplicates} duplicates" if n_duplicates else ""
    if compared := counted_groups(host.id for host in hosts):
        print(
            f"COUNT {len(compared)} structures: the evidence does not decide the number of missing "
            "sites; each number is filled, and the energy decides",
            file=sys.stderr,
        )
    print(f"CHECK: {usable} usable, {len(failures)} skipped{same}", file=sys.stderr)
    if known.database:
        counts = sorted(Counter(known.reasons.values()).items())
        todo = ", ".join(f"{number} {reason}" for reason, number in counts) or "none"
        print(
            f"DATABASE {known.database}: {len(known.stored)} stored with equal input and settings; "
            f"to fill: {todo}",
            file=sys.stderr,
        )


def _report(
    hosts: list[CheckedHost],
    failures: list[Refusal],
    found: dict[str, Reference],
    unmatched: list[Refusal],
    plan: dict[str, list[str]],
    settings: CheckSettings,
    known: Known,
) -> dict[str, Any]:
    batch_of = {name: f"{batch}.h5" for batch, names in plan.items() for name in names}
    structures = [
        {
            **_described(host),
            "reference": found[host.id].source if host.id in found else None,
            "batch": batch_of[host.id],
        }
        for host in hosts
    ]
    database = {
        "database": known.database,
        "stored": [{"id": name, **entry} for name, entry in sorted(known.stored.items())],
        "reasons": known.reasons,
    }
    return {
        "structures": structures,
        "failures": [vars(failure) for failure in failures],
        "reference_failures": [vars(failure) for failure in unmatched],
        "parameters": settings.recorded(),
        "n_batches": len(plan),
        **(database if known.database else {}),
    }


def _described(host: CheckedHost) -> dict[str, Any]:
    """Return what check.json says about a host."""
    return {
        "id": host.id,
        "formula": _formula(host.numbers),
        "n_atoms": len(host.numbers),
        "host_formula": _formula(host.atoms.numbers),
        "n_host": len(host.atoms),
        "element": chemical_symbols[host.element],
        "n_missing": host.n_missing,
        "volume": round(abs(float(host.atoms.cell.volume)), 3),  # Angstrom^3
        "source": host.source,
        "notes": list(host.notes),
    }


def _duplicate(host: CheckedHost, first: str) -> dict[str, Any]:
    """Return what check.json says about a host that is not filled because another one is."""
    return {**_described(host), "duplicate_of": first}


def _formula(numbers: np.ndarray) -> str:
    symbols = [chemical_symbols[number] for number in numbers]
    return str(Formula.from_list(symbols).format("metal"))
