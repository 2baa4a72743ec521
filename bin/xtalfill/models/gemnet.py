"""GemNetScore: MatterGen's GemNet as a score model for all sites, with a time for each site.

The network is mattergen's GemNetT (arXiv:2312.03687; GemNet-dT, arXiv:2106.08903), used as a
library. This module adds the encoding of the times, the symmetric form of the cell, and the
conversion to fractional coordinates. With `per_site_times` every site has its own time, as in
TD-Paint (arXiv:2410.09306) and XtalPaint (arXiv:2601.01959). Parameter names are those under
``diffusion_module.model`` in a MatterGen checkpoint.

Two limitations of the network remain. It uses the angles between edges and lattice vectors, so
the result depends on the order of the lattice vectors. If `max_neighbors` truncates a neighbour
list, ties in distance are resolved by the order of the sites, so the result can depend on that
order. GemNet's prediction for the cell is not computed: cells are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xtalfill.models.crystal_graph import CrystalGraph, crystal_graph
from xtalfill.models.crystals import Crystals

MAX_ATOMIC_NUMBER = 100
_LONGEST_PERIOD = 10_000.0  # of the time encoding, in radians


@dataclass(frozen=True)
class GemNetConfig:
    """Architecture of a GemNetScore and its training noise; defaults are MatterGen's.

    Attributes:
        hidden_dim: Features of a site, of its element and of its encoded time; even.
        emb_size_edge: Features of an edge.
        emb_size_trip: Features of an edge inside the triplet interaction.
        emb_size_rbf: Features of the shared projection of distances.
        emb_size_cbf: Features of the shared projection of angles.
        emb_size_bil_trip: Features of an edge after the bilinear layer.
        num_radial: Gaussians of the distance expansion.
        num_spherical: Legendre polynomials of the angle expansion.
        num_blocks: Interaction blocks.
        max_neighbors: Maximum number of edges that end on a site; the shortest are kept.
        max_cell_images_per_dim: Number of images searched along each lattice vector.
        cutoff: Longest edge, Angstrom.
        sigma_min: Noise at time 0 in fractional coordinates, times n_sites ** (1 / 3).
        sigma_max: The same at time 1.
        three_fields: Whether elements are denoised too; adds a mask element.
        per_site_times: Whether sites of one crystal may have different times.
    """

    hidden_dim: int = 512
    emb_size_edge: int = 512
    emb_size_trip: int = 64
    emb_size_rbf: int = 16
    emb_size_cbf: int = 16
    emb_size_bil_trip: int = 64
    num_radial: int = 128
    num_spherical: int = 7
    num_blocks: int = 4
    max_neighbors: int = 50
    max_cell_images_per_dim: int = 5
    cutoff: float = 7.0
    sigma_min: float = 0.01
    sigma_max: float = 5.0
    three_fields: bool = False
    per_site_times: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values."""
        return asdict(self)

    @property
    def n_elements(self) -> int:
        """Number of element types, including the mask."""
        return MAX_ATOMIC_NUMBER + int(self.three_fields)


def config_from_shapes(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Return the fields of a `GemNetConfig` that follow from tensor shapes.

    Args:
        state: State dict of a `GemNetScore`.

    Raises:
        KeyError: A required tensor is missing.
        ValueError: A tensor has the wrong number of dimensions.
    """
    n_elements, hidden_dim = state["gemnet.atom_emb.embeddings.weight"].shape
    emb_size_rbf, num_radial = state["gemnet.mlp_rbf3.linear.weight"].shape
    num_spherical, _, emb_size_cbf = state["gemnet.mlp_cbf3.weight"].shape
    triplets = "gemnet.int_blocks.0.trip_interaction"
    emb_size_trip, emb_size_edge = state[f"{triplets}.down_projection.linear.weight"].shape
    _, emb_size_bil_trip = state[f"{triplets}.up_projection_ca.linear.weight"].shape
    blocks = {name.split(".")[2] for name in state if name.startswith("gemnet.int_blocks.")}
    return {
        "hidden_dim": hidden_dim,
        "emb_size_edge": emb_size_edge,
        "emb_size_trip": emb_size_trip,
        "emb_size_rbf": emb_size_rbf,
        "emb_size_cbf": emb_size_cbf,
        "emb_size_bil_trip": emb_size_bil_trip,
        "num_radial": num_radial,
        "num_spherical": num_spherical,
        "num_blocks": len(blocks),
        "three_fields": n_elements == MAX_ATOMIC_NUMBER + 1,
    }


class TimeEncoding(nn.Module):
    """Times -> sines and cosines of geometrically spaced frequencies (arXiv:1706.03762, 3.5)."""

    def __init__(self, width: int) -> None:
        """Make an encoding of an even `width`."""
        super().__init__()
        self.div_term: Tensor
        powers = torch.arange(0, width, 2, dtype=torch.float32)
        self.register_buffer("div_term", torch.exp(powers * (-math.log(_LONGEST_PERIOD) / width)))

    def forward(self, times: Tensor) -> Tensor:
        """Return the encoding (n, width) of times (n,), alternating sine and cosine."""
        angles = times[:, None] * self.div_term
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class _PerSiteLatents:
    """Latents of the sites, where GemNetT expects latents of the crystals.

    GemNetT uses its latents once, as ``z[batch]``, to copy them to the sites. This object returns
    the latents of the sites for that expression, so the code of GemNetT needs no change.
    """

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def __getitem__(self, structure: Tensor) -> Tensor:
        return self._latents


class _DoublePrecision(TorchFunctionMode):
    """Runs mattergen's code in double precision although it requests single in places."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.float:
            return args[0].double()
        if kwargs.get("dtype") is torch.float32:
            kwargs = {**kwargs, "dtype": torch.float64}
        return func(*args, **kwargs)


def gemnet_graph(
    crystals: Crystals, times: Tensor, config: GemNetConfig, *, dtype: torch.dtype = torch.float32
) -> CrystalGraph:
    """Validate crystals and times for a network and build its graph, on the CPU.

    Args:
        crystals: Noised crystals; atomic numbers up to `MAX_ATOMIC_NUMBER`.
        times: (n,) diffusion time of each site.
        config: Configuration of the network.
        dtype: Precision of the network; coordinates are rounded to it.

    Raises:
        ValueError: An element is not supported, or times differ within a crystal without
            `per_site_times`.
    """
    crystals, times = crystals.to(torch.device("cpu")), times.cpu()
    if int(crystals.numbers.max()) > MAX_ATOMIC_NUMBER:
        raise ValueError(f"the network supports atomic numbers up to {MAX_ATOMIC_NUMBER}")
    graph = crystal_graph(
        _wrapped(crystals.fractions, dtype),
        crystals.cell,
        crystals.structure,
        cutoff=config.cutoff,
        max_neighbors=config.max_neighbors,
        max_images=config.max_cell_images_per_dim,
    )
    first = (graph.n_sites.cumsum(0) - graph.n_sites)[crystals.structure]
    if not config.per_site_times and not torch.equal(times, times[first]):
        raise ValueError("the network takes one time for all sites of a crystal")
    return graph


class GemNetScore(nn.Module):
    """MatterGen's GemNet as a `xtalfill.models.crystals.CrystalScore`."""

    def __init__(self, config: GemNetConfig, *, scale_file: Path | None = None) -> None:
        """Create the network with random weights from torch's global generator.

        Args:
            config: Architecture.
            scale_file: GemNet's scale factors (assets/gemnet-dT.json). They are part of the
                state dict; None if one is loaded afterwards.

        Raises:
            ConfigError: mattergen is not installed, or `scale_file` cannot be read.
        """
        super().__init__()
        self.config = config
        self.gemnet = _make_gemnet(config, scale_file)
        self.noise_level_encoding = TimeEncoding(config.hidden_dim)
        # predicts the elements of the three-field model; present in every checkpoint
        self.fc_atom = nn.Linear(config.hidden_dim, config.n_elements)
        self.float()  # independent of torch's default dtype

    @property
    def per_site_times(self) -> bool:
        """Whether sites of one crystal may have different times (TD-Paint)."""
        return self.config.per_site_times

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.fc_atom.weight.device

    def scaled_score(
        self, crystals: Crystals, times: Tensor, graph: CrystalGraph | None = None
    ) -> Tensor:
        """Return the score of each site times the standard deviation of its noise.

        With `graph` this method does not synchronise with a GPU. mattergen's code does: once for
        each crystal and about ten more times to pair edges and list triplets, and in its sums for
        the numbers of triplets, sites and crystals.

        Args:
            crystals: Noised crystals on the device of the network; atomic numbers up to
                `MAX_ATOMIC_NUMBER`. Computed in the precision of the network.
            times: (n,) diffusion time in (0, 1] of each site.
            graph: Result of `gemnet_graph` on the same device; None to compute it.

        Returns:
            (n, 3) in fractional coordinates, dimensionless, in the dtype of the coordinates; zero
            if no two sites of any crystal are within the cutoff.

        Raises:
            ValueError: Without `graph`: as `gemnet_graph`.
        """
        structure, dtype = crystals.structure, self.fc_atom.weight.dtype
        if graph is None:
            graph = gemnet_graph(crystals, times, self.config, dtype=dtype).to(structure.device)
        if not graph.edges.shape[1]:  # GemNet cannot process an empty graph
            return torch.zeros_like(crystals.fractions)
        with _precision(dtype):
            output = self.gemnet(
                z=_PerSiteLatents(self.noise_level_encoding(times.to(dtype))),
                frac_coords=_wrapped(crystals.fractions, dtype),
                atom_types=crystals.numbers,
                num_atoms=graph.n_sites,
                batch=structure,
                lattice=graph.cell.to(dtype),
                edge_index=graph.edges,
                to_jimages=graph.images.to(dtype),
                num_bonds=graph.counts,
            )
        inverse = graph.inverse.to(dtype)[structure]
        # transformed like displacements, not like gradients, as in the training of MatterGen
        scaled = (inverse.mT @ output.forces[:, :, None])[:, :, 0]
        return scaled.to(crystals.fractions.dtype)


def _wrapped(fractions: Tensor, dtype: torch.dtype) -> Tensor:
    """Return fractional coordinates (n, 3) wrapped to [0, 1)."""
    return fractions.to(dtype).remainder(1.0)


def _make_gemnet(config: GemNetConfig, scale_file: Path | None) -> nn.Module:
    """Create mattergen's network, with the lattice output that every checkpoint contains."""
    from xtalfill.models.mattergen_compat import enable_mattergen

    enable_mattergen(scale_file=scale_file)
    from mattergen.common.gemnet.gemnet import GemNetT
    from mattergen.common.gemnet.layers.embedding_block import AtomEmbedding

    network = GemNetT(
        num_targets=1,
        latent_dim=config.hidden_dim,
        atom_embedding=AtomEmbedding(config.hidden_dim, with_mask_type=config.three_fields),
        num_spherical=config.num_spherical,
        num_radial=config.num_radial,
        num_blocks=config.num_blocks,
        emb_size_atom=config.hidden_dim,
        emb_size_edge=config.emb_size_edge,
        emb_size_trip=config.emb_size_trip,
        emb_size_rbf=config.emb_size_rbf,
        emb_size_cbf=config.emb_size_cbf,
        emb_size_bil_trip=config.emb_size_bil_trip,
        cutoff=config.cutoff,
        max_neighbors=config.max_neighbors,
        max_cell_images_per_dim=config.max_cell_images_per_dim,
        otf_graph=False,
        regress_stress=True,
    )
    for part in (network.mlp_rbf_lattice, *network.lattice_out_blocks):
        part.forward = _zero
    return cast("nn.Module", network)


def _zero(*_arguments: Any, **_named: Any) -> float:
    """Replace the parts of GemNet that predict a change of the cell."""
    return 0.0


def _precision(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which mattergen's code computes in `dtype`."""
    return _DoublePrecision() if dtype == torch.float64 else nullcontext()
