#!/usr/bin/env python3
"""STORE: write the structures of one batch into the results database."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, required=True, help="part of check.json of the batch")
    parser.add_argument("--batch", type=Path, help="batch after EVALUATE; none if all were refused")
    parser.add_argument("--run", type=Path, required=True, help="JSON: database, uid, recipe")
    args = parser.parse_args()

    from xtalfill.core.io import read_json
    from xtalfill.database.connect import open_database
    from xtalfill.database.recipe import read_recipe
    from xtalfill.database.records import read_records
    from xtalfill.database.store import add

    given = read_json(args.run)
    batches = [] if args.batch is None else [args.batch]
    records = list(read_records(read_json(args.check), batches))
    with open_database(given["database"]) as database:
        add(database, records, uid=given["uid"], recipe=read_recipe(given["recipe"]))


if __name__ == "__main__":
    run_command(main)
