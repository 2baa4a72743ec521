"""New Nequix models: random weights, and the writer of ``.nqx`` files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from xtalfill.core.io import replacing
from xtalfill.relax.nqx_file import (
    NequixConfig,
    NequixLayer,
    NequixWeights,
    layer_shapes,
    split_layer,
)

_SILU_GAIN = 1.7  # keeps the variance of a hidden layer: 1 / sqrt(E[silu(z)^2])


def random_weights(
    config: NequixConfig, atom_energies: np.ndarray, *, generator: np.random.Generator
) -> NequixWeights:
    """Return the weights of an untrained network.

    Args:
        config: Hyperparameters.
        atom_energies: (n_species,) energies of isolated atoms, eV.
        generator: Random generator of the weights.
    """

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    layers = []
    for number in range(config.n_layers):
        arrays = [draw(*shape) for shape in layer_shapes(config, number)]
        for row in range(config.radial_depth + 1):  # the other maps divide by sqrt(n_in) themselves
            gain = _SILU_GAIN if row else 1.0
            arrays[row] *= np.float32(gain / math.sqrt(len(arrays[row])))
        for row, array in enumerate(arrays):
            if array.ndim == 1:  # factors of the normalisation
                arrays[row] = np.ones_like(array)
        layers.append(split_layer(config, number, iter(arrays)))
    energies = np.asarray(atom_energies, dtype=np.float32)
    return NequixWeights(config, energies, layers, draw(config.hidden[0], 1))


def write_weights(path: str | Path, weights: NequixWeights, *, about: dict[str, str]) -> None:
    """Write a ``.nqx`` file that `read_weights` reads.

    Args:
        path: File to write.
        weights: Weights.
        about: Further entries of the first line, such as the origin of the labels.
    """
    config = weights.config
    irreps = [f"{mul}x{degree}{'eo'[degree % 2]}" for degree, mul in config.hidden.items()]
    settings = about | {
        "atomic_numbers": list(config.atomic_numbers),
        "hidden_irreps": " + ".join(irreps),
        "lmax": config.lmax,
        "cutoff": config.cutoff,
        "n_layers": config.n_layers,
        "radial_basis_size": config.n_basis,
        "radial_mlp_size": config.radial_width,
        "radial_mlp_layers": config.radial_depth,
        "radial_polynomial_p": config.envelope_power,
        "avg_n_neighbors": config.avg_neighbors,
        "scale": config.scale,
        "shift": config.shift,
        "index_weights": False,
        "layer_norm": True,
    }
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(settings).encode() + b"\n")
        for array in _arrays(weights):
            npy.write_array(file, np.ascontiguousarray(array, "<f4"), version=(1, 0))


def _arrays(weights: NequixWeights) -> Iterator[np.ndarray]:
    """Yield all arrays in the order of the file."""
    yield weights.atom_energies
    for layer in weights.layers:
        yield from _layer_arrays(layer)
    yield weights.readout


def _layer_arrays(layer: NequixLayer) -> Iterator[np.ndarray]:
    yield from layer.radial
    for by_degree in (layer.linear_in, layer.linear_out, layer.skip, layer.norm):
        yield from by_degree.values()
