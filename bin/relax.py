#!/usr/bin/env python3
"""RELAX: keep the best proposals, relax their sites in the fixed host, then all positions.

With the parameter mlip_rank a second potential continues the relaxation; its energies rank. At the
end the lowest candidate of each structure and method is symmetrised and relaxed again.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.arguments import add_restart_arguments
from xtalfill.core.errors import run_command

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch
    from xtalfill.core.checkpoint import Checkpoint


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--batch", type=Path, required=True, help="batch with a stage inpaint")
    top.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    top.add_argument("--mlip_file", type=Path, help="model file to use as the parameter mlip")
    top.add_argument("--mlip_rank_file", type=Path, help="model file to use as mlip_rank")
    top.add_argument("--threads", type=int, required=True, help="CPU threads")
    add_restart_arguments(top)
    top.add_argument("--output", type=Path, required=True, help="batch to write")
    top.add_argument("--record", type=Path, required=True, help="JSON record to write")
    return top


def main() -> None:
    """Read a batch, relax it, write it."""
    args = parser().parse_args()
    begin = time.monotonic()

    import torch

    from xtalfill.checks.symmetrised import relax_symmetrised
    from xtalfill.core.batch import read_batch, write_batch
    from xtalfill.core.record import count_statuses, write_record
    from xtalfill.core.settings import read_settings
    from xtalfill.relax.potentials import load_potential
    from xtalfill.relax.screen import screen_batch
    from xtalfill.relax.settings import RelaxStageSettings
    from xtalfill.relax.stage import make_driver, relax_batch

    torch.set_num_threads(1)  # each group of crystals has one of --threads to itself
    settings = read_settings(args.settings, RelaxStageSettings).on_this_machine(
        mlip_file=args.mlip_file, mlip_rank_file=args.mlip_rank_file, threads=args.threads
    )
    batch, device, relaxation = read_batch(args.batch), settings.device, settings.relaxation
    potential = load_potential(settings.mlip, device=device)
    ranking = load_potential(settings.mlip_rank, device=device) if settings.mlip_rank else None
    driver = make_driver(potential, relaxation)
    batch = screen_batch(batch, potential, driver, keep=settings.samples)
    checkpoint = checkpoint_of(args, batch, begin)
    relax_batch(batch, potential, relaxation, ranking=ranking, device=device, checkpoint=checkpoint)
    relax_symmetrised(batch, ranking or potential, relaxation)
    write_batch(batch, args.output)
    checkpoint.remove()
    write_record(
        args.record,
        stage="relax",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters=settings.recorded(),
        counts=count_statuses(batch.status),
        weights={**potential.weights, **(ranking.weights if ranking else {})},
    )


def checkpoint_of(args: argparse.Namespace, batch: "Batch", begin: float) -> "Checkpoint":
    """Return the checkpoint of the task; it handles SIGTERM from now on."""
    from xtalfill.core.checkpoint import Checkpoint
    from xtalfill.relax.relax_checkpoint import key_of

    checkpoint = Checkpoint(
        args.checkpoint,
        key=key_of(batch, args.batch.name),
        previous=args.previous,
        seconds=args.max_seconds,
        begin=begin,
    )
    checkpoint.handle_sigterm()
    return checkpoint


if __name__ == "__main__":
    run_command(main)
