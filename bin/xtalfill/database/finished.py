"""Import a finished run into the results database."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json
from xtalfill.core.record import file_sha256
from xtalfill.database.connect import open_database
from xtalfill.database.recipe import read_recipe
from xtalfill.database.records import Record, read_records
from xtalfill.database.runs import RunRecord, register
from xtalfill.database.store import add

# Structures in one transaction: an import that is stopped goes on where it was.
_AT_ONCE = 200


def read_finished(outdir: Path) -> tuple[dict[str, Any], dict[str, Any], list[Path]]:
    """Return provenance.json, check.json and the batches of a finished run.

    Raises:
        InputError: The folder is not that of a finished run.
    """
    files = [outdir / "provenance.json", outdir / "pipeline_info" / "check.json"]
    for path in files:
        if not path.is_file():
            raise InputError(f"{outdir}: not the --outdir of a finished run (no {path.name})")
    provenance, check = (read_json(path) for path in files)
    return provenance, check, sorted((outdir / "batches").glob("*.h5"))


def import_run(outdir: Path, url: str) -> int:
    """Store every structure of a finished run.

    Args:
        outdir: The --outdir of the run.
        url: The database; a file of SQLite is made if it is not there.

    Returns:
        The number of structures.

    Raises:
        InputError: The folder is not that of a finished run.
        ConfigError: The database cannot be used.
        TryAgainError: The database did not answer in time.
    """
    provenance, check, batches = read_finished(outdir)
    if not provenance.get("recipe"):
        raise InputError(
            f"{outdir}: provenance.json has no recipe, it is of an older release; repeat the run "
            "with -resume, which only writes the report again"
        )
    uid = f"import-{file_sha256(outdir / 'provenance.json')}"
    run = RunRecord(uid, provenance["parameters"], provenance["workflow"])
    recipe = read_recipe(provenance["recipe"])
    records, number = read_records(check, batches), 0
    with open_database(url, create=True) as database:
        register(database, run)
        while part := list[Record](islice(records, _AT_ONCE)):
            add(database, part, uid=uid, recipe=recipe)
            number += len(part)
    return number
