#!/usr/bin/env python3
"""COMPILE_POTENTIAL: compile a packaged nequip model, or pass it unchanged with the reason."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Write the compiled model, or a copy of the packaged one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help=".nequip.zip")
    parser.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    parser.add_argument(
        "--outdir", type=Path, required=True, help="gets .nequip.pt2 or .nequip.zip"
    )
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.core.record import file_sha256, write_record
    from xtalfill.core.settings import read_settings
    from xtalfill.relax.compiled import CompileSettings, compile_model

    settings = read_settings(args.settings, CompileSettings)
    output = args.outdir / args.model.name.replace(".nequip.zip", ".nequip.pt2")
    problem = compile_model(args.model, output, device=settings.device)
    if problem:
        print(f"WARNING: {args.model.name} runs eagerly: {problem}", file=sys.stderr)
        output = args.outdir / args.model.name
        shutil.copyfile(args.model, output)
    write_record(
        args.record,
        stage="compile_potential",
        batch=args.model.name,
        seconds=time.monotonic() - begin,
        parameters={"device": settings.device, "model": output.name, "not_compiled": problem},
        counts={},
        weights={name.name: file_sha256(name) for name in (args.model, output)},
    )


if __name__ == "__main__":
    run_command(main)
