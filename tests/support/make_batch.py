"""Write a batch, cut off after a stage, and check.json: make_batch.py STAGE FILE."""

import sys
from pathlib import Path

from hand_made_batches import Case, Made, brucite, build, lithium_hydride, write_check
from xtalfill.core.batch import write_batch

CASES = [
    Case(
        "brucite", brucite(), 2, [Made(), Made(proposed=(0.0, 0.1, 0.0), relaxed=(0.6, 0.0, 0.0))]
    ),
    Case("lih", lithium_hydride(), 4, [Made(proposed=(0.05, 0.0, 0.0))]),
]
RELAXATION = {"mlip": "7net-0", "optimizer": "L-BFGS", "fmax": 0.05, "max_steps": 500}
SAMPLING = {"steps": 100, "predictor": "ancestral", "corrector_steps": 0}
ATTRS = {"inpaint": SAMPLING, "relax_sites": RELAXATION, "relax_positions": RELAXATION}


def main() -> None:
    """Write the files into the working folder."""
    batch = build(CASES)
    names = list(batch.stages)
    for name in names[names.index(sys.argv[1]) + 1 :]:
        del batch.stages[name]
    for name, stage in batch.stages.items():
        stage.attrs = ATTRS.get(name, {})
    write_batch(batch, sys.argv[2])
    write_check(Path("check.json"), CASES)


if __name__ == "__main__":
    main()
