"""What a run need not fill again: structures that are stored with the same host and recipe.

CHECK decides it, once for a run: what it leaves out is in no batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xtalfill.core.errors import ConfigError
from xtalfill.core.text import listed
from xtalfill.database.connect import open_database, shown
from xtalfill.database.recipe import Recipe, host_key, read_recipe
from xtalfill.database.schema import recipe as recipes
from xtalfill.database.schema import run, structure
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.inputs.known import Known

FAILED, ALL = "failed", "all"
NEW = "new"
# Statuses of pw.x after which --redo failed asks again; `refused` would be refused again.
_DFT_FAILED = ("failed", "unconverged")
# Values in one statement; SQLite of Debian 12 takes 32,766.
_MOST = 5000


@dataclass(frozen=True)
class Request:
    """What the pipeline asks of a results database.

    Attributes:
        url: The database.
        recipe: What decides a result of this run.
        redo: Words of --redo: `FAILED`, `ALL`, or ids.
    """

    url: str
    recipe: Recipe
    redo: frozenset[str]


def read_request(content: dict[str, Any]) -> Request:
    """Return the request in JSON of the pipeline: database, redo, recipe.

    Raises:
        ConfigError: It has no recipe.
    """
    words = frozenset(word.strip() for word in (content.get("redo") or "").split(","))
    return Request(content["database"], read_recipe(content["recipe"]), words - {""})


def divide(hosts: Sequence[CheckedHost], request: Request) -> Known:
    """Divide the structures of a run into those that are stored and those to fill.

    A structure is left out if its host is stored with the same recipe and a result: any status but
    `failed`. The name may differ. A database that does not exist yet is made.

    Raises:
        ConfigError: --redo names a structure that the input does not have, or the database cannot
            be used.
        TryAgainError: The database did not answer.
    """
    ids = {host.id for host in hosts}
    if unknown := sorted(request.redo - ids - {FAILED, ALL}):
        raise ConfigError(
            f"--redo {listed(unknown)}: the input has no such structure that can be used; give "
            f"ids of the input, {FAILED} or {ALL}"
        )
    keys = {host.id: _key(host) for host in hosts}
    rows, different = _read(keys, request)
    by_key: dict[str, list[sa.RowMapping]] = {}
    by_name: dict[str, list[sa.RowMapping]] = {}
    for row in rows:
        by_key.setdefault(row["host_key"], []).append(row)
        by_name.setdefault(row["name"], []).append(row)
    stored, reasons = {}, {}
    for name, key in keys.items():
        equal = [row for row in by_key.get(key, []) if not different[row["recipe_id"]]]
        # The row of this name before others, then the latest.
        equal.sort(key=lambda row: (row["name"] == name, row["stored"]), reverse=True)
        if not equal:
            reasons[name] = _change(by_key.get(key, []), by_name.get(name, []), different)
        elif reason := _again(name, equal[0], request.redo):
            reasons[name] = reason
        else:
            stored[name] = _described(equal[0])
    return Known(shown(request.url), stored, reasons)


def _key(host: CheckedHost) -> str:
    atoms = host.atoms
    return host_key(
        atoms.cell.array,
        atoms.numbers,
        atoms.positions,
        element=host.element,
        n_missing=host.n_missing,
    )


def _read(
    keys: dict[str, str], request: Request
) -> tuple[list[sa.RowMapping], dict[int, list[str]]]:
    """Return the stored rows of these hosts or names, and how each recipe differs."""
    wanted = [structure.c[name] for name in ("name", "host_key", "recipe_id", "status", "stored")]
    wanted += [structure.c[name] for name in ("energy", "dft_status")]
    statement = sa.select(*wanted, run.c.uid.label("run")).select_from(structure.join(run))
    rows: dict[tuple[str, str, int], sa.RowMapping] = {}
    # Made here if it is new: a database that cannot be used stops the run before it computes.
    with (
        open_database(request.url, create=True) as database,
        database.transaction() as connection,
    ):
        different = {
            row.id: request.recipe.differences(row.content)
            for row in connection.execute(sa.select(recipes.c.id, recipes.c.content))
        }
        for column, values in (("host_key", keys.values()), ("name", keys.keys())):
            for part in _parts(sorted(set(values))):
                found = connection.execute(statement.where(structure.c[column].in_(part)))
                for row in found.mappings():
                    rows[row["name"], row["host_key"], row["recipe_id"]] = row
    return list(rows.values()), different


def _parts(values: list[str]) -> Iterable[list[str]]:
    return (values[start : start + _MOST] for start in range(0, len(values), _MOST))


def _change(
    same_host: list[sa.RowMapping], same_name: list[sa.RowMapping], different: dict[int, list[str]]
) -> str:
    """Return why a host without an equal row is filled."""
    if same_host:
        fewest = min((different[row["recipe_id"]] for row in same_host), key=len)
        return f"changed: {listed(fewest)}"
    return "changed: input" if any(row["host_key"] for row in same_name) else NEW


def _again(name: str, row: sa.RowMapping, redo: frozenset[str]) -> str:
    """Return why a stored host is filled again; empty if it is not."""
    if name in redo or ALL in redo:
        return "--redo"
    if row["status"] == "failed":
        return "failed before"
    bad = row["status"] != "ok" or row["dft_status"] in _DFT_FAILED
    return f"--redo {FAILED}" if bad and FAILED in redo else ""


def _described(row: sa.RowMapping) -> dict[str, Any]:
    return {key: row[key] for key in ("name", "status", "energy", "dft_status", "stored", "run")}
