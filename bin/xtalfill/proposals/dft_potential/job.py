"""JSON files of the potential method: a host to fill, and the result for it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal
from xtalfill.dft.serialization import (
    check_crystal,
    check_key,
    input_errors,
    read_content,
    write_content,
)
from xtalfill.proposals.dft_potential.restore import Placement

METHOD = "potential"
FORMAT = "xtalfill-potential-job 1"
RESULT_FORMAT = "xtalfill-potential-result 1"


@dataclass(frozen=True)
class HostJob:
    """One host to fill.

    Attributes:
        key: "<batch>.<number>", unique in a run; a safe file name.
        id: Id of the structure.
        element: Atomic number of the missing element.
        n_sites: Number of missing sites.
        samples: Number of candidates.
        seed: Seed of the run.
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
        """The atoms that are present."""
        return Crystal(self.numbers, self.positions, self.cell)

    @property
    def symbols(self) -> list[str]:
        """Symbols of the atoms that are present, then of the missing ones."""
        numbers = [*self.numbers.tolist(), *[self.element] * self.n_sites]
        return [chemical_symbols[number] for number in numbers]

    def generator(self) -> np.random.Generator:
        """Return the random generator of the structure."""
        digest = hashlib.sha256(f"{METHOD}|{self.id}".encode()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest[:8], "big")])


def jobs_of(batch: Batch, name: str) -> list[HostJob]:
    """Return one job for each structure of a batch with candidates of the method.

    Args:
        batch: A batch after CHECK.
        name: Name of the batch, e.g. "batch_0007".
    """
    jobs = []
    for members in batch.groups_by_method():
        first = members[0]
        if batch.method[first] != METHOD:
            continue
        here = batch.atoms_slice(first)
        is_host, numbers = batch.is_host[here], batch.atomic_numbers[here]
        jobs.append(
            HostJob(
                key=f"{name}.{first}",
                id=str(batch.id[first]),
                element=int(numbers[~is_host][0]),
                n_sites=int((~is_host).sum()),
                samples=int(batch.sample[members].max()) + 1,
                seed=int(batch.seed[first]),
                numbers=numbers[is_host],
                positions=batch.positions[here][is_host],
                cell=batch.cell[first],
            )
        )
    return jobs


def write_job(job: HostJob, path: Path) -> None:
    """Write a job as JSON."""
    content = asdict(job)
    content |= {name: content[name].tolist() for name in ("numbers", "positions", "cell")}
    write_content(content, path, FORMAT)


def read_job(path: Path) -> HostJob:
    """Read and check a job.

    Raises:
        InputError: The file is not a job that `write_job` wrote.
    """
    with input_errors(path, "a job of PLAN_POTENTIAL"):
        content = read_content(path, FORMAT, [item.name for item in fields(HostJob)])
        content["numbers"] = np.asarray(content["numbers"], dtype=np.int64)
        for name in ("positions", "cell"):
            content[name] = np.asarray(content[name], dtype=np.float64)
        job = HostJob(**content)
        check_key(job.key)
        check_crystal(len(job.numbers), job.positions, job.cell)
    return job


@dataclass(frozen=True)
class PlacementResult:
    """The result for a host.

    Attributes:
        key: Key of the job.
        candidates: One placement per sample.
        runs: Runs of pw.x and pp.x.
        parameters: Parameters of the method.
    """

    key: str
    candidates: list[Placement]
    runs: list[dict[str, Any]]
    parameters: dict[str, Any]


def write_result(result: PlacementResult, path: Path) -> None:
    """Write a result as JSON."""
    content = {
        "key": result.key,
        "candidates": [one.as_json() for one in result.candidates],
        "runs": result.runs,
        "parameters": result.parameters,
    }
    write_content(content, path, RESULT_FORMAT)


def read_result(path: Path) -> dict[str, Any]:
    """Read and check a result; the sites of its candidates become arrays (n, 3) or None.

    Raises:
        InputError: The file is not a result that `write_result` wrote.
    """
    with input_errors(path, "a result of PLACE_POTENTIAL"):
        names = [item.name for item in fields(PlacementResult)]
        content = read_content(path, RESULT_FORMAT, names)
        for one in content["candidates"]:
            if one["sites"] is not None:
                one["sites"] = np.asarray(one["sites"], dtype=np.float64).reshape(-1, 3)
            one["message"], one["pinball"] = str(one["message"]), bool(one["pinball"])
    return content
