"""What the tasks of the potential method pass on: a host to fill, and what was found for it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from xtalfill.baseline.restore import Candidate
from xtalfill.baseline.sites import Crystal
from xtalfill.batch import Batch
from xtalfill.dft.pseudos import Table
from xtalfill.errors import InputError

METHOD = "potential"
FORMAT = "xtalfill-potential-job"
RESULT_FORMAT = "xtalfill-potential-result"
VERSION = 1
_KEY = re.compile(r"[A-Za-z0-9_]+\.\d{1,9}")


@dataclass(frozen=True)
class HostJob:
    """One host to fill.

    Attributes:
        key: "<batch>.<number>", unique in a run; a safe file name.
        id: The structure's name.
        element: Atomic number of the missing element.
        n_sites: How many are missing.
        samples: Candidates wanted.
        seed: Of the run.
        numbers: (n,) atomic numbers of the host.
        positions: (n, 3) Angstrom.
        cell: (3, 3) Angstrom; rows are a, b, c.
    """

    key: str
    id: str
    element: int
    n_sites: int
    samples: int
    seed: int
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray

    @property
    def host(self) -> Crystal:
        """The atoms that are there."""
        return Crystal(self.numbers, self.positions, self.cell)

    @property
    def symbols(self) -> list[str]:
        """Symbols of the atoms that are there, then of the missing ones."""
        numbers = [*self.numbers.tolist(), *[self.element] * self.n_sites]
        return [chemical_symbols[number] for number in numbers]

    def generator(self) -> np.random.Generator:
        """Return the structure's own source of randomness."""
        digest = hashlib.sha256(f"{METHOD}|{self.id}".encode()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest[:8], "big")])

    def refusal(self, table: Table, valence: dict[str, float], *, max_electrons: int) -> str:
        """Say why pw.x cannot calculate the host; empty when it can."""
        unknown = sorted(set(self.symbols) - set(table))
        if unknown:
            return f"no pseudopotential for {', '.join(unknown)}"
        electrons = sum(valence[symbol] for symbol in self.symbols)
        if electrons > max_electrons:
            return f"{electrons:g} valence electrons, more than --max_electrons {max_electrons}"
        return ""


def jobs_of(batch: Batch, name: str) -> list[HostJob]:
    """Return a job for each structure of a batch with candidates of the method.

    Args:
        batch: After INPAINT.
        name: Of the batch, e.g. "batch_0007".
    """
    jobs = []
    for members in batch.groups_by_method():
        first = members[0]
        wanted = [i for i in members if batch.status[i] != "failed"]
        if batch.method[first] != METHOD or not wanted:
            continue
        here = batch.atoms_slice(first)
        is_host, numbers = batch.is_host[here], batch.atomic_numbers[here]
        jobs.append(
            HostJob(
                key=f"{name}.{first}",
                id=str(batch.id[first]),
                element=int(numbers[~is_host][0]),
                n_sites=int((~is_host).sum()),
                samples=int(batch.sample[wanted].max()) + 1,
                seed=int(batch.seed[first]),
                numbers=numbers[is_host],
                positions=batch.positions[here][is_host],
                cell=batch.cell[first],
            )
        )
    return jobs


def write_job(job: HostJob, path: Path) -> None:
    """Write a job as JSON."""
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(job)}
    for name in ("numbers", "positions", "cell"):
        content[name] = content[name].tolist()
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_job(path: Path) -> HostJob:
    """Read and check a job.

    Raises:
        InputError: It is not a job that `write_job` wrote.
    """
    try:
        content = _content(path, FORMAT, {item.name for item in fields(HostJob)})
        content["numbers"] = np.asarray(content["numbers"], dtype=np.int64)
        for name in ("positions", "cell"):
            content[name] = np.asarray(content[name], dtype=np.float64)
        job = HostJob(**content)
        if not _KEY.fullmatch(job.key):
            raise ValueError(f"key {job.key!r} is unsafe")
        if job.positions.shape != (len(job.numbers), 3) or job.cell.shape != (3, 3):
            raise ValueError("positions or cell are not of their shape")
        if not (np.isfinite(job.positions).all() and np.isfinite(job.cell).all()):
            raise ValueError("positions or cell are not finite")
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path.name}: not a job of PLAN_POTENTIAL ({reason}); run it again"
        ) from error
    return job


@dataclass(frozen=True)
class Result:
    """What was found for a host.

    Attributes:
        key: Of the job.
        candidates: One a sample.
        runs: Of pw.x and pp.x.
        parameters: What the method was run with.
    """

    key: str
    candidates: list[Candidate]
    runs: list[dict[str, Any]]
    parameters: dict[str, Any]


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    content = {
        "format": RESULT_FORMAT,
        "version": VERSION,
        "key": result.key,
        "candidates": [one.as_json() for one in result.candidates],
        "runs": result.runs,
        "parameters": result.parameters,
    }
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_result(path: Path) -> dict[str, Any]:
    """Read and check a result; the sites of its candidates become arrays (n, 3) or None.

    Raises:
        InputError: It is not one that `write_result` wrote.
    """
    try:
        content = _content(path, RESULT_FORMAT, {item.name for item in fields(Result)})
        for one in content["candidates"]:
            if one["sites"] is not None:
                one["sites"] = np.asarray(one["sites"], dtype=np.float64).reshape(-1, 3)
            one["message"], one["pinball"] = str(one["message"]), bool(one["pinball"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path.name}: not a result of PLACE_POTENTIAL ({reason})") from error
    return content


def _content(path: Path, form: str, names: Iterable[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if (content.pop("format"), content.pop("version")) != (form, VERSION):
        raise ValueError(f"not of format {form} {VERSION}")
    if set(content) != set(names):
        raise ValueError("has other entries")
    return content
