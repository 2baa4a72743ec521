#!/usr/bin/env python3
"""FETCH_INPUT: write the structures of a server as JSON lines."""

import argparse
import time
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Write NAME.jsonl, NAME from the URL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=Path, required=True, help="file with the URL")
    parser.add_argument("--outdir", type=Path, required=True, help="folder of NAME.jsonl")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.core.record import file_sha256, write_record
    from xtalfill.inputs.structures.servers import download

    url = args.url.read_text(encoding="utf-8").strip()
    path, count = download(url, args.outdir)
    print(f"FETCH_INPUT: {count} records", flush=True)
    write_record(
        args.record,
        stage="fetch_input",
        batch=path.name,
        seconds=time.monotonic() - begin,
        parameters={"url": url, "records": count, "sha256": file_sha256(path)},
        counts={},
        weights={},
    )


if __name__ == "__main__":
    run_command(main)
