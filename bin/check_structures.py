#!/usr/bin/env python3
"""CHECK: read the structures, refuse what cannot be used, write batches/*.h5 and check.json."""

import argparse

from xtalfill.core.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="sheet, folder or file of structures")
    parser.add_argument("--references", help="true structures, matched by id")
    parser.add_argument("--element", required=True, help="element to fill")
    parser.add_argument(
        "--n_missing", type=int, help="missing sites a cell, if the input is silent"
    )
    parser.add_argument("--remove_existing", action="store_true", help="remove its sites first")
    parser.add_argument("--method", required=True, help="proposal methods, comma-separated")
    parser.add_argument("--samples", type=int, required=True, help="candidates a structure")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True, help="most structures a batch")
    parser.add_argument(
        "--potentials", nargs="*", default=[], help="that will relax: their elements are checked"
    )
    parser.add_argument("--outdir", default=".", help="where batches/ and check.json go")
    args = parser.parse_args()

    from xtalfill.inputs.check import CheckOptions, run_check

    options = CheckOptions(
        element=args.element,
        n_missing=args.n_missing,
        remove_existing=args.remove_existing,
        methods=tuple(word.strip() for word in args.method.split(",")),
        samples=args.samples,
        seed=args.seed,
        batch_size=args.batch_size,
        potentials=tuple(args.potentials),
    )
    run_check(args.input, references=args.references, options=options, outdir=args.outdir)


if __name__ == "__main__":
    run_command(main)
