"""The files of the project that the package reads beside its own."""

from __future__ import annotations

from pathlib import Path

# A checkout has them around bin/; the wheel, which has no checkout, inside the package (setup.py).
_PACKAGED = Path(__file__).resolve().parents[1] / "_project"
PROJECT = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).resolve().parents[3]
SCHEMA = PROJECT / "nextflow_schema.json"
WEIGHTS = PROJECT / "assets" / "weights"
BUNDLED_POTENTIALS = PROJECT / "assets" / "potential"
SSSP = PROJECT / "assets" / "sssp" / "sssp_1.3.0_pbe_efficiency.json"
GEMNET_SCALES = PROJECT / "assets" / "gemnet-dT.json"
