#!/usr/bin/env python3
"""RELAX: keep the best proposals, relax their sites in the fixed host, then all positions.

With --mlip_rank a second potential relaxes on from there and has the last word.
"""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read a batch, relax it, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch with a stage inpaint")
    parser.add_argument(
        "--keep", type=int, required=True, help="proposals of a structure and method to relax"
    )
    parser.add_argument("--mlip", required=True, help="potential: a name or a nequip model file")
    parser.add_argument("--mlip_rank", help="potential that relaxes on and ranks")
    parser.add_argument("--sites_fmax", type=float, required=True, help="relax_sites, eV/Å")
    parser.add_argument("--sites_max_steps", type=int, required=True)
    parser.add_argument("--fmax", type=float, required=True, help="later relaxations, eV/Å")
    parser.add_argument("--max_steps", type=int, required=True)
    parser.add_argument("--max_atoms_per_batch", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--threads", type=int, required=True, help="CPU threads")
    parser.add_argument("--output", type=Path, required=True, help="batch to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    import torch

    from xtalfill.batch import read_batch, write_batch
    from xtalfill.record import count_statuses, write_record
    from xtalfill.relax.potentials import load_potential
    from xtalfill.relax.screen import screen_batch
    from xtalfill.relax.stage import Settings, make_driver, relax_batch

    torch.set_num_threads(1)  # each group of crystals has one of --threads to itself
    names = ("sites_fmax", "sites_max_steps", "fmax", "max_steps", "max_atoms_per_batch", "threads")
    settings = Settings(**{name: getattr(args, name) for name in names})
    if args.device == "cuda":
        settings = replace(settings, threads=1)
    batch = read_batch(args.batch)
    potential = load_potential(args.mlip, device=args.device)
    ranking = load_potential(args.mlip_rank, device=args.device) if args.mlip_rank else None
    batch = screen_batch(batch, potential, make_driver(potential, settings), keep=args.keep)
    relax_batch(batch, potential, settings, ranking=ranking, device=args.device)
    write_batch(batch, args.output)
    write_record(
        args.record,
        stage="relax",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={
            "mlip": args.mlip,
            "mlip_rank": args.mlip_rank,
            "device": args.device,
            "keep": args.keep,
            **asdict(settings),
        },
        counts=count_statuses(batch.status),
        weights={**potential.weights, **(ranking.weights if ranking else {})},
    )


if __name__ == "__main__":
    run_command(main)
