"""mattergen's denoiser with the weights of a GemNetScore: the peer of our code around GemNet."""

import importlib.util
from pathlib import Path
from typing import Any

from torch import nn

from xtalfill.models.crystals import Crystals
from xtalfill.models.gemnet import GemNetConfig
from xtalfill.models.mattergen_compat import enable_mattergen

SCALE_FILE = Path(__file__).resolve().parents[1] / "assets" / "gemnet-dT.json"
TD_GEMNET = Path("src", "xtalpaint", "time_dependent", "gemnet.py")


def upstream_denoiser(config: GemNetConfig, network: type[nn.Module] | None = None) -> nn.Module:
    """Return mattergen's GemNetTDenoiser with its GemNetT or another network."""
    enable_mattergen(scale_file=SCALE_FILE)
    from mattergen.common.gemnet.gemnet import GemNetT
    from mattergen.common.gemnet.layers.embedding_block import AtomEmbedding
    from mattergen.denoiser import GemNetTDenoiser

    sizes = config.to_dict()
    for name in ("hidden_dim", "three_fields", "per_site_times", "sigma_min", "sigma_max"):
        del sizes[name]
    gemnet = (network or GemNetT)(
        num_targets=1,
        latent_dim=config.hidden_dim,
        atom_embedding=AtomEmbedding(config.hidden_dim, with_mask_type=config.three_fields),
        emb_size_atom=config.hidden_dim,
        otf_graph=True,
        regress_stress=True,
        **sizes,
    )
    return GemNetTDenoiser(
        gemnet, hidden_dim=config.hidden_dim, denoise_atom_types=config.three_fields
    )


def upstream_batch(crystals: Crystals) -> Any:
    """Return crystals as the denoiser takes them, in their precision."""
    from mattergen.common.data.chemgraph import ChemGraph
    from mattergen.common.data.collate import collate
    from mattergen.common.data.transform import symmetrize_lattice

    graphs = []
    for number, cell in enumerate(crystals.cell):
        ours = crystals.structure == number
        graph = ChemGraph(
            atomic_numbers=crystals.numbers[ours],
            pos=crystals.fractions[ours],
            cell=cell[None],
            num_atoms=ours.sum()[None],
        )
        graphs.append(symmetrize_lattice(graph))
    return collate(graphs)


def td_gemnet(xtalpaint: Path) -> type[nn.Module]:
    """Return TDGemNetT, the network with a time for each site, of a checkout of XtalPaint.

    Raises:
        FileNotFoundError: The checkout has no such file.
    """
    enable_mattergen(scale_file=SCALE_FILE)
    path = xtalpaint / TD_GEMNET
    if not path.is_file():
        raise FileNotFoundError(f"{path}: give the root of a checkout of XtalPaint")
    spec = importlib.util.spec_from_file_location("xtalpaint_gemnet", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[nn.Module] = module.TDGemNetT
    return found
