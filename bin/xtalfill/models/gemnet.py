"""GemNetScore: MatterGen's GemNet as a score model over all sites, with a time for each site.

The network is mattergen's GemNetT (arXiv:2312.03687; GemNet-dT, arXiv:2106.08903), used as a
library. This module adds what lies around it: the encoding of the times, the cell in its
symmetric form, and the way back to fractional coordinates. With `per_site_times` every site
has a time of its own, as in TD-Paint (arXiv:2410.09306) and XtalPaint (arXiv:2601.01959).
Parameters have the names they have under ``diffusion_module.model`` of a MatterGen checkpoint.

Two limits of the network itself stay. It sees the angles between edges and lattice vectors, so
the order of the lattice vectors matters. Where `max_neighbors` cuts a neighbour list, edges are
kept by distance and by the order of the sites: neighbours at exactly the same distance make
the result depend on that order. The change of the cell, which GemNet predicts too, is not
computed: cells are fixed here.
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
_LONGEST_PERIOD = 10_000.0  # of the encoding of a time, in radians


@dataclass(frozen=True)
class GemNetConfig:
    """Shape of a GemNetScore and the noise it was trained with; defaults are MatterGen's.

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
        max_neighbors: Edges that end on one site, the shortest ones.
        max_cell_images_per_dim: Images of the cell searched along each lattice vector.
        cutoff: Angstrom, longest edge.
        sigma_min: Noise at time 0 in fractional coordinates, times n_sites ** (1 / 3).
        sigma_max: The same at time 1.
        three_fields: Whether elements are denoised too, which adds a masked element.
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
        """Number of elements the network knows, the mask included."""
        return MAX_ATOMIC_NUMBER + int(self.three_fields)


def config_from_shapes(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Return the fields of a `GemNetConfig` that the shapes of its tensors tell.

    Args:
        state: State dict of a `GemNetScore`.

    Raises:
        KeyError: A tensor that a size is read from is missing.
        ValueError: A tensor has another number of dimensions.
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
        """Return the encoding (n, width) of times (n,): sine and cosine alternate."""
        angles = times[:, None] * self.div_term
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class _PerSiteLatents:
    """The latent of each site where GemNetT expects one for each crystal.

    GemNetT touches its latents once, as ``z[batch]``, to spread them over the sites. Giving it
    an object that answers with what is spread already leaves the rest of its code as it is.
    """

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def __getitem__(self, structure: Tensor) -> Tensor:
        return self._latents


class _DoublePrecision(TorchFunctionMode):
    """Lets mattergen's graph, which asks for single precision in places, run in double."""

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
    """Check crystals and times for a network and find what it reads of them, on the CPU.

    Args:
        crystals: The noised crystals; atomic numbers up to `MAX_ATOMIC_NUMBER`.
        times: (n,) diffusion time of each site.
        config: Of the network.
        dtype: Precision of the network: coordinates are rounded to it.

    Raises:
        ValueError: An element is beyond the network, or times differ within a crystal and
            the network takes one for each.
    """
    crystals, times = crystals.to(torch.device("cpu")), times.cpu()
    if int(crystals.numbers.max()) > MAX_ATOMIC_NUMBER:
        raise ValueError(f"this network knows elements up to {MAX_ATOMIC_NUMBER}")
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
        raise ValueError("this network takes one time for all sites of a crystal")
    return graph


class GemNetScore(nn.Module):
    """MatterGen's GemNet as a `xtalfill.models.crystals.CrystalScore`."""

    def __init__(self, config: GemNetConfig, *, scale_file: Path | None = None) -> None:
        """Make the network; weights come from torch's generator, which the caller seeds.

        Args:
            config: Its shape.
            scale_file: GemNet's scale factors (assets/gemnet-dT.json). They are part of the
                state dict: None where one is loaded afterwards.

        Raises:
            ConfigError: mattergen is not installed, or `scale_file` cannot be read.
        """
        super().__init__()
        self.config = config
        self.gemnet = _make_gemnet(config, scale_file)
        self.noise_level_encoding = TimeEncoding(config.hidden_dim)
        # predicts the elements of the three-field model; a part of every checkpoint
        self.fc_atom = nn.Linear(config.hidden_dim, config.n_elements)
        self.float()  # whatever default type another library has set

    @property
    def per_site_times(self) -> bool:
        """Whether sites of one crystal may have different times (TD-Paint)."""
        return self.config.per_site_times

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.fc_atom.weight.device

    def scaled_score(
        self, crystals: Crystals, times: Tensor, graph: CrystalGraph | None = None
    ) -> Tensor:
        """Return the score of each site times the standard deviation of its noise.

        With `graph` given nothing here waits for a GPU. mattergen's code still does: where it
        pairs edges and lists triplets, once for each crystal and some ten times more; and for
        the largest number of triplets and for the numbers of sites and crystals, where it sums.

        Args:
            crystals: The noised crystals, on the device of the network; atomic numbers up to
                `MAX_ATOMIC_NUMBER`. Computed in the precision of the network.
            times: (n,) diffusion time in (0, 1] of each site.
            graph: What `gemnet_graph` found for them, on the same device.

        Returns:
            (n, 3) in fractional coordinates, dimensionless, in the type of the coordinates; zero
            where no two sites of any crystal are within the cutoff.

        Raises:
            ValueError: Without `graph`: as `gemnet_graph`.
        """
        structure, dtype = crystals.structure, self.fc_atom.weight.dtype
        if graph is None:
            graph = gemnet_graph(crystals, times, self.config, dtype=dtype).to(structure.device)
        if not graph.edges.shape[1]:  # GemNet takes no empty graph
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
        # turned as displacements are, not as gradients: so the network was trained
        scaled = (inverse.mT @ output.forces[:, :, None])[:, :, 0]
        return scaled.to(crystals.fractions.dtype)


def _wrapped(fractions: Tensor, dtype: torch.dtype) -> Tensor:
    """Return coordinates (n, 3) in [0, 1), where images of the cell are counted from."""
    return fractions.to(dtype).remainder(1.0)


def _make_gemnet(config: GemNetConfig, scale_file: Path | None) -> nn.Module:
    """Make the network of mattergen, whose lattice output every checkpoint has, too."""
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
    """Stand for the parts of GemNet that predict a change of the cell."""
    return 0.0


def _precision(dtype: torch.dtype) -> AbstractContextManager[object]:
    """Return the context in which mattergen's code computes in `dtype`."""
    return _DoublePrecision() if dtype == torch.float64 else nullcontext()
