#!/usr/bin/env python3
"""Train a small potential on labels of a large one (docs/distillation.md)."""

import argparse
import logging
from pathlib import Path

import numpy as np

from xtalfill.core.checkpoint import Checkpoint
from xtalfill.relax.nqx_file import NequixConfig, NequixWeights, read_weights
from xtalfill.relax.nqx_writer import random_weights
from xtalfill.relax.potentials import neighbour_graph
from xtalfill.training.labels import Labelled, LabelSampler, read_labels, usual_elements
from xtalfill.training.potential import PotentialTrainer, PotentialTraining, train_potential


def new_weights(labels: list[Labelled], args: argparse.Namespace) -> NequixWeights:
    """Return random weights for the elements and typical values of the labels."""
    energies = usual_elements(labels, least=args.least)
    rng = np.random.default_rng(args.seed)
    some = [labels[i] for i in rng.choice(len(labels), size=min(500, len(labels)), replace=False)]
    pairs, _ = neighbour_graph([one.crystal for one in some], args.cutoff)
    config = NequixConfig(
        atomic_numbers=tuple(energies),
        hidden=dict(enumerate(args.features)),
        lmax=len(args.features) - 1,
        cutoff=args.cutoff,
        n_layers=args.layers,
        n_basis=8,
        radial_width=args.radial_width,
        radial_depth=2,
        envelope_power=6.0,
        avg_neighbors=pairs.shape[1] / sum(len(one.crystal.numbers) for one in some),
        scale=1.0,
        shift=0.0,
    )
    return random_weights(config, np.array(list(energies.values())), generator=rng)


def main() -> None:
    """Train, or continue a training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, nargs="+", required=True, help="folders of parts")
    parser.add_argument("--held_out", type=Path, nargs="+", required=True, help="folders of parts")
    parser.add_argument("--start", type=Path, help=".nqx file with the initial weights")
    parser.add_argument("--features", type=int, nargs="+", default=[96, 64, 32], help="by degree")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--radial_width", type=int, default=32)
    parser.add_argument("--cutoff", type=float, default=5.5, help="Angstrom")
    parser.add_argument("--least", type=int, default=20, help="structures needed for an element")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--hosts", type=int, default=8, help="of a micro-batch")
    parser.add_argument("--parts", type=int, default=1, help="threads with a micro-batch each")
    parser.add_argument("--learning_rate", type=float, default=5e-3)
    parser.add_argument("--validate_every", type=int, default=1000, help="steps")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--teacher", required=True, help="origin of the labels, for the record")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    labels, held_out = read_labels(args.labels), read_labels(args.held_out)
    weights = read_weights(args.start) if args.start else new_weights(labels, args)
    known = frozenset(weights.config.atomic_numbers)
    train, validation = (
        [one for one in some if known.issuperset(one.crystal.numbers.tolist())]
        for some in (labels, held_out)
    )
    logging.info(
        "%d elements, %d of %d training structures, %d of %d held out",
        len(known), len(train), len(labels), len(validation), len(held_out),
    )  # fmt: skip
    config = PotentialTraining(
        steps=args.steps,
        hosts=args.hosts,
        parts=args.parts,
        learning_rate=args.learning_rate,
        validate_every=args.validate_every,
        seed=args.seed,
    )
    args.output.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(args.output, key="potential", previous=args.output)
    checkpoint.handle_sigterm()
    train_potential(
        PotentialTrainer(weights, config),
        LabelSampler(train, hosts=args.hosts, seed=args.seed),
        validation,
        args.output,
        about={"labels": args.teacher},
        checkpoint=checkpoint,
    )


if __name__ == "__main__":
    main()
