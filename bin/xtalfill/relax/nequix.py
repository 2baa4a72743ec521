"""Nequix, a NequIP network with normalised layers, in torch.

Koker, Kotak and Smidt, arXiv:2508.16067. The network is written here from the paper, because the
package of its authors needs jax. Features of degree l are stored component first,
(n_atoms, 2l + 1, multiplicity), as the kernels of `EdgeConvolution` need them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from e3nn import o3
from torch.nn.functional import silu

from xtalfill.relax.convolution import EdgeConvolution, component_columns, merged_columns
from xtalfill.relax.nqx_file import ByDegree, NequixConfig, NequixLayer, NequixWeights
from xtalfill.relax.radial import RadialTable, tabulate

# Makes the second moment of silu 1 for a normal argument, with the rounding of e3nn-jax 0.21; the
# exact moment is 0.59646921.
_SILU_NORM = 1.0 / 0.59645772
_NORM_EPS = 1e-12

Features = dict[int, torch.Tensor]


class NequixNetwork(torch.nn.Module):
    """The network: pairs of atoms in, energies of atoms out; float32.

    Args:
        weights: Weights, as `read_weights` returns them.
        fused: Use the kernels of `EdgeConvolution`, on a CPU only.
        trainable: Keep all weights as parameters; slower, because the radial networks are then no
            tables.
    """

    _index: torch.Tensor
    _atom_energies: torch.Tensor

    def __init__(self, weights: NequixWeights, *, fused: bool, trainable: bool = False) -> None:
        super().__init__()
        self.config = weights.config
        index = torch.full((max(self.config.atomic_numbers) + 1,), -1)
        index[list(self.config.atomic_numbers)] = torch.arange(len(weights.atom_energies))
        self.register_buffer("_index", index)
        energies = torch.tensor(weights.atom_energies, dtype=torch.float64)
        self.register_buffer("_atom_energies", energies)
        self._readout = torch.nn.Parameter(_scaled(weights.readout))
        self._layers = torch.nn.ModuleList(
            _Layer(self.config, number, layer, fused=fused, trainable=trainable)
            for number, layer in enumerate(weights.layers)
        )
        self._degrees = list(range(self.config.lmax + 1))

    def forward(
        self, numbers: torch.Tensor, pairs: torch.Tensor, vectors: torch.Tensor
    ) -> torch.Tensor:
        """Return the energies of the atoms.

        Args:
            numbers: (n_atoms,) atomic numbers.
            pairs: (2, n_edges) indices i, j.
            vectors: (n_edges, 3) from i to j, Angstrom, float32.

        Returns:
            (n_atoms,) eV, float64: the isolated atom is up to 10 eV of it.
        """
        species = self._index[numbers]
        receivers, senders = pairs
        distance = torch.linalg.vector_norm(vectors, dim=1)
        harmonics = o3.spherical_harmonics(
            self._degrees, vectors, normalize=True, normalization="component"
        )
        features: Features = {}
        for layer in self._layers:
            features = layer(features, species, harmonics, distance, senders, receivers)
        energies = (features[0][:, 0] @ self._readout)[:, 0].double()
        return energies * self.config.scale + self.config.shift + self._atom_energies[species]

    def weights(self) -> NequixWeights:
        """Return the weights of a trainable network, for `write_weights`."""
        return NequixWeights(
            config=self.config,
            atom_energies=self._atom_energies.numpy(force=True).astype(np.float32),
            layers=[layer.weights() for layer in self._layers if isinstance(layer, _Layer)],
            readout=_unscaled(self._readout),
        )


class _Layer(torch.nn.Module):
    """A convolution with skip connection, normalisation and gate."""

    def __init__(
        self,
        config: NequixConfig,
        number: int,
        weights: NequixLayer,
        *,
        fused: bool,
        trainable: bool,
    ) -> None:
        super().__init__()
        self._is_first = number == 0
        self._outputs = dict(config.outputs(number))
        self._gathered = {degree: len(array) for degree, array in weights.linear_out.items()}
        self._config = config
        self._radial = torch.nn.ParameterList(torch.tensor(array) for array in weights.radial)
        table = None if trainable or not fused else _table(config, weights.radial)
        self._is_tabulated = table is not None
        product = tensor_product(config, number)
        self._convolution = (
            EdgeConvolution(product, table, component_first=True)
            if fused
            else _PlainConvolution(product)
        )
        self._linear_in = _linear(weights.linear_in)
        self._factor = 1.0 / math.sqrt(config.avg_neighbors)
        self._linear_out = _linear(weights.linear_out, self._factor)
        self._skip = _linear(weights.skip)
        self._norm = _parameters({degree: torch.tensor(w) for degree, w in weights.norm.items()})

    def forward(
        self,
        features: Features,
        species: torch.Tensor,
        harmonics: torch.Tensor,
        distance: torch.Tensor,
        senders: torch.Tensor,
        receivers: torch.Tensor,
    ) -> Features:
        """Return the features of the next layer."""
        radial = distance
        if not self._is_tabulated:
            radial = _radial_weights(_radial_basis(distance, self._config), self._radial)
        if self._is_first:  # the features are the species, one-hot: a linear map selects rows
            messages = self._linear_in["0"][species]
            skip = {0: self._skip["0"][species][:, None]}
        else:
            messages = _joined(_apply(self._linear_in, features))
            skip = _apply(self._skip, features)
        gathered = self._convolution(messages, harmonics, radial, senders, receivers)
        found = _apply(self._linear_out, _chunks(gathered, self._gathered))
        for degree, chunk in skip.items():
            found[degree] = found[degree] + chunk
        return self._gate(self._normalised(found))

    def weights(self) -> NequixLayer:
        """Return the weights of a trainable layer."""
        return NequixLayer(
            radial=[one.numpy(force=True) for one in self._radial],
            linear_in=_arrays(self._linear_in),
            linear_out=_arrays(self._linear_out, self._factor),
            skip=_arrays(self._skip),
            norm={int(degree): one.numpy(force=True) for degree, one in self._norm.items()},
        )

    def _normalised(self, features: Features) -> Features:
        """Divide by a norm of the features of the atom.

        The published weights belong to this norm: the mean over the degrees of the sum of squares
        divided by (2l + 1)**2, not a mean over the channels.
        """
        squares = [
            chunk.square().sum(dim=(1, 2)) / (2 * degree + 1) ** 2
            for degree, chunk in features.items()
        ]
        square = torch.stack(squares).sum(dim=0)
        factor = torch.rsqrt(square / len(features) + _NORM_EPS)[:, None, None]
        return {
            degree: chunk * self._norm[str(degree)] * factor for degree, chunk in features.items()
        }

    def _gate(self, features: Features) -> Features:
        activated = silu(features[0]) * _SILU_NORM
        scalars, *gates = activated.split(list(self._outputs.values()), dim=2)
        others = [degree for degree in self._outputs if degree]
        gated = {
            degree: features[degree] * gate for degree, gate in zip(others, gates, strict=True)
        }
        return {0: scalars, **gated}


def _radial_basis(distance: torch.Tensor, config: NequixConfig) -> torch.Tensor:
    """Return the (n_edges, n_basis) Bessel functions times the polynomial envelope."""
    p, scaled = config.envelope_power, distance[:, None] / config.cutoff
    counts = torch.arange(1, config.n_basis + 1, dtype=distance.dtype, device=distance.device)
    bessel = 2.0 / config.cutoff * torch.sin(math.pi * counts * scaled) / distance[:, None]
    envelope = 1.0 - scaled**p * (
        (p + 1.0) * (p + 2.0) / 2.0 - p * (p + 2.0) * scaled + p * (p + 1.0) / 2.0 * scaled**2
    )
    return bessel * torch.where(scaled < 1.0, envelope, 0.0)


def _radial_weights(basis: torch.Tensor, layers: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the (n_edges, n_weights) weights of the tensor product."""
    *hidden, last = layers
    for layer in hidden:
        basis = silu(basis @ layer)
    return basis @ last


def _table(config: NequixConfig, radial: Sequence[np.ndarray]) -> RadialTable | None:
    """Return the radial network as a table, if it can be one."""
    layers = [torch.tensor(array, dtype=torch.float64) for array in radial]
    return tabulate(
        lambda distance: _radial_weights(_radial_basis(distance, config), layers),
        cutoff=config.cutoff,
    )


class _PlainConvolution(torch.nn.Module):
    """`EdgeConvolution` with component-first features by e3nn, for any device."""

    _to_e3nn: torch.Tensor
    _merged: torch.Tensor

    def __init__(self, product: o3.TensorProduct) -> None:
        super().__init__()
        self._product = product
        merged = component_columns(product.irreps_out)[merged_columns(product.irreps_out)]
        self.register_buffer("_to_e3nn", torch.argsort(component_columns(product.irreps_in1)))
        self.register_buffer("_merged", merged)

    def forward(
        self,
        x: torch.Tensor,
        edge_attr: torch.Tensor,
        weight: torch.Tensor,
        edge_src: torch.Tensor,
        edge_dst: torch.Tensor,
    ) -> torch.Tensor:
        """Return the convolution; see `EdgeConvolution`."""
        messages = self._product(x[:, self._to_e3nn][edge_src], edge_attr, weight)
        out = x.new_zeros((len(x), messages.shape[1])).index_add(0, edge_dst, messages)
        return out[:, self._merged]


def tensor_product(config: NequixConfig, number: int) -> o3.TensorProduct:
    """Return the tensor product of a layer, paths ordered as in `NequixConfig.paths`."""

    def irrep(degree: int) -> o3.Irrep:
        return o3.Irrep(degree, (-1) ** degree)

    inputs, paths = config.inputs(number), config.paths(number)
    place = {degree: i for i, degree in enumerate(inputs)}
    return o3.TensorProduct(
        o3.Irreps([(mul, irrep(degree)) for degree, mul in inputs.items()]),
        o3.Irreps.spherical_harmonics(config.lmax),
        o3.Irreps([(inputs[l_in], irrep(l_out)) for l_in, _, l_out in paths]),
        [(place[l_in], l_sh, k, "uvu", True) for k, (l_in, l_sh, _) in enumerate(paths)],
        irrep_normalization="component",
        path_normalization="none",
        shared_weights=False,
        internal_weights=False,
    )


def _scaled(weight: np.ndarray, factor: float = 1.0) -> torch.Tensor:
    """Return a linear map that keeps the variance of its input."""
    return torch.tensor(weight * np.float32(factor / math.sqrt(len(weight))))


def _unscaled(weight: torch.Tensor, factor: float = 1.0) -> np.ndarray:
    """Return the stored form of a linear map, the inverse of `_scaled`."""
    array: np.ndarray = weight.numpy(force=True) / np.float32(factor / math.sqrt(len(weight)))
    return array


def _arrays(linear: torch.nn.ParameterDict, factor: float = 1.0) -> dict[int, np.ndarray]:
    return {int(degree): _unscaled(weight, factor) for degree, weight in linear.items()}


def _linear(weights: ByDegree, factor: float = 1.0) -> torch.nn.ParameterDict:
    return _parameters({degree: _scaled(array, factor) for degree, array in weights.items()})


def _parameters(tensors: Mapping[int, torch.Tensor]) -> torch.nn.ParameterDict:
    return torch.nn.ParameterDict({str(degree): tensor for degree, tensor in tensors.items()})


def _apply(linear: torch.nn.ParameterDict, features: Features) -> Features:
    return {int(degree): features[int(degree)] @ weight for degree, weight in linear.items()}


def _joined(features: Features) -> torch.Tensor:
    return torch.cat([chunk.flatten(1) for chunk in features.values()], dim=1)


def _chunks(joined: torch.Tensor, multiplicities: Mapping[int, int]) -> Features:
    sizes = [(2 * degree + 1) * mul for degree, mul in multiplicities.items()]
    parts = zip(multiplicities.items(), joined.split(sizes, dim=1), strict=True)
    return {degree: part.unflatten(1, (-1, mul)) for (degree, mul), part in parts}
