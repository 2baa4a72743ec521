#!/usr/bin/env python3
"""TRAIN: train a score model; the command `xtalfill train`."""

import sys

from xtalfill.cli import main

main(["train", *sys.argv[1:]])
