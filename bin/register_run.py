#!/usr/bin/env python3
"""REGISTER: note the run in the results database, print when that was first done."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--run", type=Path, required=True, help="JSON: database, uid, params, workflow"
    )
    args = parser.parse_args()

    from xtalfill.core.io import read_json
    from xtalfill.database.connect import open_database
    from xtalfill.database.runs import RunRecord, register

    given = read_json(args.run)
    with open_database(given["database"], create=True) as database:
        print(register(database, RunRecord(given["uid"], given["params"], given["workflow"])))


if __name__ == "__main__":
    run_command(main)
