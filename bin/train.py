#!/usr/bin/env python3
"""TRAIN: train a score model; the command `xtalfill train`."""

import sys

from xtalfill.cli import main

if __name__ == "__main__":  # processes that draw parts import this file again
    main(["train", *sys.argv[1:]])
