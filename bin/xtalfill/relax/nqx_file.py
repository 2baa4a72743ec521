"""Weights files of Nequix (``.nqx``), read without jax and without pickle.

Nequix (Koker, Kotak and Smidt, arXiv:2508.16067) is a NequIP network written in jax. Its files have
one line of JSON, the hyperparameters, and then the arrays of the model in numpy's format, in the
order of the fields of its equinox modules. The file is data only: no code of it is run. The shapes
of all arrays follow from the first line and are checked before an array is read.
"""

from __future__ import annotations

import json
import math
import os
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from xtalfill.core.errors import ConfigError

SUFFIX = ".nqx"
MAX_L = 3
_MAX_LINE = 1 << 20  # bytes of the first line; published files have 4 kB
_MAX_HEADER = 1000  # characters of the header of an array; numpy writes about 120
_MAX_TAIL = 1 << 20  # bytes of scalars after the last array
_IRREP = re.compile(r"(\d{1,4})x([0-3])([eo])")
# Exceptions of numpy and Python for a damaged header of an array.
_BAD_HEADER = (
    EOFError,
    KeyError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)

Path3 = tuple[int, int, int]
ByDegree = Mapping[int, np.ndarray]


@dataclass(frozen=True)
class NequixConfig:
    """Hyperparameters of a Nequix model.

    Attributes:
        atomic_numbers: Supported elements, ascending.
        hidden: Degree l -> multiplicity of the hidden features; the parity is (-1)**l.
        lmax: Largest degree of the spherical harmonics.
        cutoff: Angstrom.
        n_layers: Number of convolutions.
        n_basis: Number of Bessel functions.
        radial_width: Width of the hidden layers of the radial networks.
        radial_depth: Number of hidden layers of the radial networks.
        envelope_power: Power p of the polynomial envelope.
        avg_neighbors: Mean number of neighbours in the training data.
        scale: eV.
        shift: eV.
    """

    atomic_numbers: tuple[int, ...]
    hidden: Mapping[int, int]
    lmax: int
    cutoff: float
    n_layers: int
    n_basis: int
    radial_width: int
    radial_depth: int
    envelope_power: float
    avg_neighbors: float
    scale: float
    shift: float

    def inputs(self, layer: int) -> Mapping[int, int]:
        """Return degree -> multiplicity of the input of a layer; the first gets the species."""
        return self.hidden if layer else {0: len(self.atomic_numbers)}

    def outputs(self, layer: int) -> Mapping[int, int]:
        """Return degree -> multiplicity of the output of a layer; the last has scalars only."""
        return self.hidden if layer < self.n_layers - 1 else {0: self.hidden[0]}

    def gated(self, layer: int) -> Mapping[int, int]:
        """Return degree -> multiplicity before the gate: one more scalar for each l > 0 feature."""
        outputs = dict(self.outputs(layer))
        outputs[0] = sum(outputs.values())
        return outputs

    def paths(self, layer: int) -> list[Path3]:
        """Return the (l_in, l_sh, l_out) of the tensor product, in the order of its weights."""
        outputs = self.outputs(layer)
        found = [
            (l_in, l_sh, l_out)
            for l_in in self.inputs(layer)
            for l_sh in range(self.lmax + 1)
            for l_out in range(abs(l_in - l_sh), l_in + l_sh + 1, 2)  # parity is conserved
            if l_out in outputs
        ]
        return sorted(found, key=lambda path: path[2])


@dataclass(frozen=True)
class NequixLayer:
    """Arrays of a layer; those of a linear map are (n_in, n_out) for each degree l.

    Attributes:
        radial: Layers of the radial network.
        linear_in: Linear map before the tensor product.
        linear_out: Linear map after the tensor product.
        skip: Linear map of the skip connection.
        norm: (multiplicity,) factors of the normalisation.
    """

    radial: Sequence[np.ndarray]
    linear_in: ByDegree
    linear_out: ByDegree
    skip: ByDegree
    norm: ByDegree


@dataclass(frozen=True)
class NequixWeights:
    """Content of a ``.nqx`` file.

    Attributes:
        config: Hyperparameters.
        atom_energies: (n_species,) energies of isolated atoms, eV.
        layers: One for each convolution.
        readout: (n_scalars, 1) last linear map.
    """

    config: NequixConfig
    atom_energies: np.ndarray
    layers: Sequence[NequixLayer]
    readout: np.ndarray


def read_config(path: str | Path) -> NequixConfig:
    """Read the first line of a ``.nqx`` file.

    Raises:
        ConfigError: The file cannot be read, or its first line is not a supported configuration.
    """
    with _open(path) as file:
        return _config(file, path)


def read_weights(path: str | Path) -> NequixWeights:
    """Read a ``.nqx`` file.

    Raises:
        ConfigError: The file cannot be read, is damaged, or holds a model that is not supported.
    """
    with _open(path) as file:
        config = _config(file, path)
        shapes: list[tuple[int, ...]] = [(len(config.atomic_numbers),)]
        for layer in range(config.n_layers):
            shapes += layer_shapes(config, layer)
        shapes.append((config.hidden[0], 1))
        needed = 4 * sum(math.prod(shape) for shape in shapes)
        if needed > os.fstat(file.fileno()).st_size - file.tell():
            raise _damaged(path, f"truncated: its arrays need {needed} bytes")
        arrays = iter([_array(file, shape, path) for shape in shapes])
        _check_tail(file, path)
    energies = next(arrays)
    layers = [split_layer(config, layer, arrays) for layer in range(config.n_layers)]
    return NequixWeights(config, energies, layers, next(arrays))


def _open(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


def _damaged(path: str | Path, why: str) -> ConfigError:
    return ConfigError(f"{path}: not a usable {SUFFIX} file: {why}; download the file again")


def _config(file: BinaryIO, path: str | Path) -> NequixConfig:
    try:
        line = file.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise ValueError(f"its first line does not end within {_MAX_LINE} bytes")
        settings = json.loads(line)
        if not isinstance(settings, dict):
            raise ValueError("its first line is not a JSON object")
        return _parsed(settings)
    except RecursionError as error:
        raise _damaged(path, "its first line is nested too deeply") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # JSON and UTF-8 errors are ValueErrors
        raise _damaged(path, " ".join(str(error).split())[:200]) from error


def _parsed(settings: Mapping[str, Any]) -> NequixConfig:
    """Check the settings that define the model; training settings are ignored."""
    if settings.get("index_weights") is not False or settings.get("layer_norm") is not True:
        raise ValueError("only index_weights = false with layer_norm = true is supported")
    lmax = _count(settings, "lmax", MAX_L, least=0)
    hidden = _hidden(settings.get("hidden_irreps"))
    if max(hidden) > lmax:
        raise ValueError("hidden_irreps has a degree above lmax")
    return NequixConfig(
        atomic_numbers=_atomic_numbers(settings.get("atomic_numbers")),
        hidden=hidden,
        lmax=lmax,
        cutoff=_number(settings, "cutoff", 0.1, 100.0),
        n_layers=_count(settings, "n_layers", 20),
        n_basis=_count(settings, "radial_basis_size", 100),
        radial_width=_count(settings, "radial_mlp_size", 10_000),
        radial_depth=_count(settings, "radial_mlp_layers", 20),
        envelope_power=_number(settings, "radial_polynomial_p", 2.0, 100.0),
        avg_neighbors=_number(settings, "avg_n_neighbors", 1e-3, 1e6),
        scale=_number(settings, "scale", -1e6, 1e6),
        shift=_number(settings, "shift", -1e6, 1e6),
    )


def _number(settings: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} is not a number from {low:g} to {high:g}")
    return float(value)


def _count(settings: Mapping[str, Any], name: str, most: int, *, least: int = 1) -> int:
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is not an integer from {least} to {most}")
    return value


def _atomic_numbers(found: Any) -> tuple[int, ...]:
    numbers = found if isinstance(found, list) else []
    sound = all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 119 for n in numbers)
    # The species are numbered in ascending order.
    if not numbers or not sound or sorted(set(numbers)) != numbers:
        raise ValueError("atomic_numbers is not an ascending list of atomic numbers")
    return tuple(numbers)


def _hidden(found: Any) -> dict[int, int]:
    matches = [_IRREP.fullmatch(part.strip()) for part in str(found).split("+")]
    irreps = [(int(m[1]), int(m[2]), m[3]) for m in matches if m is not None]
    degrees = [degree for _, degree, _ in irreps]
    sound = len(irreps) == len(matches) and degrees == sorted(set(degrees)) and degrees[0] == 0
    if not sound or not all(mul and parity == "eo"[degree % 2] for mul, degree, parity in irreps):
        raise ValueError("hidden_irreps is not of the form 8x0e + 4x1o + 4x2e + 4x3o")
    return {degree: mul for mul, degree, _ in irreps}


def layer_shapes(config: NequixConfig, layer: int) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of the arrays of a layer in the order of the file."""
    inputs, gated, paths = config.inputs(layer), config.gated(layer), config.paths(layer)
    n_weights = sum(inputs[l_in] for l_in, _, _ in paths)
    widths = [config.n_basis, *[config.radial_width] * config.radial_depth, n_weights]
    yield from pairwise(widths)
    yield from ((mul, mul) for mul in inputs.values())
    for degree, mul in gated.items():
        yield sum(inputs[l_in] for l_in, _, l_out in paths if l_out == degree), mul
    yield from ((mul, gated[degree]) for degree, mul in inputs.items() if degree in gated)
    yield from ((mul,) for mul in gated.values())


def split_layer(config: NequixConfig, layer: int, arrays: Iterator[np.ndarray]) -> NequixLayer:
    """Return a layer, given its arrays in the order of the file."""
    inputs, gated = config.inputs(layer), config.gated(layer)
    return NequixLayer(
        radial=[next(arrays) for _ in range(config.radial_depth + 1)],
        linear_in={degree: next(arrays) for degree in inputs},
        linear_out={degree: next(arrays) for degree in gated},
        skip={degree: next(arrays) for degree in inputs if degree in gated},
        norm={degree: next(arrays) for degree in gated},
    )


def _header(file: BinaryIO, path: str | Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("an array has another version of numpy's format")
        found: tuple[tuple[int, ...], bool, np.dtype] = npy.read_array_header_1_0(
            file, max_header_size=_MAX_HEADER
        )
    except _BAD_HEADER as error:
        raise _damaged(path, " ".join(str(error).split())[:120]) from error
    return found


def _array(file: BinaryIO, shape: tuple[int, ...], path: str | Path) -> np.ndarray:
    """Read an array of float32 whose shape is known."""
    found, fortran, dtype = _header(file, path)
    if found != shape or fortran or dtype != np.dtype("<f4"):
        raise _damaged(
            path, f"an array is {dtype} {found}, the first line demands float32 {shape}"[:200]
        )
    n_bytes = 4 * math.prod(shape)
    content = file.read(n_bytes)
    if len(content) < n_bytes:
        raise _damaged(path, "truncated")
    array = np.frombuffer(content, "<f4").reshape(shape)
    if not np.isfinite(array).all():
        raise _damaged(path, "an array has values that are not finite")
    return array


def _check_tail(file: BinaryIO, path: str | Path) -> None:
    """Check that no array follows.

    Published files may end with a line feed, or with the numbers of the configuration as arrays
    without dimensions; both are ignored.
    """
    tail = file.read(_MAX_TAIL + 1)
    if not tail.strip():
        return
    file.seek(-len(tail), os.SEEK_CUR)
    end = file.tell() + len(tail)
    while file.tell() < end:
        shape, _, dtype = _header(file, path)
        if len(tail) > _MAX_TAIL or shape or dtype.kind not in "bif":
            raise _damaged(path, "other data follows the last array")
        if len(file.read(dtype.itemsize)) < dtype.itemsize:
            raise _damaged(path, "truncated")
