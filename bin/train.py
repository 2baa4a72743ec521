#!/usr/bin/env python3
"""TRAIN: train a score model, as `xtalfill train` does."""

import argparse

from xtalfill.cli.train import add_arguments, run
from xtalfill.core.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_arguments(parser)
    run(parser.parse_args())


if __name__ == "__main__":  # the processes that draw parts import this file again
    run_command(main)
