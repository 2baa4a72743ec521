"""The convolution of NequIP-type potentials on a CPU: gather, tensor product, scatter in one.

e3nn computes the tensor product of all edges path by path, in tensors of n_edges x thousands,
so on a CPU it waits for memory. The kernels here keep an edge in the cache: the same sums, so
energies and forces agree to float rounding, in a fraction of the time. `fuse_sevennet` and
`fuse_nequip` put them where these packages put their own fused GPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from e3nn import o3

from xtalfill.relax.kernels import MAX_L, convolve, pull_back

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]


def fuse_sevennet(model: Any) -> int:
    """Replace the convolutions of a SevenNet model in place; return how many were."""
    from sevenn.nn.convolution import IrrepsConvolution, IrrepsScatterGatterFusedConvolution

    found = [
        (name, module)
        for name, module in model.named_children()
        if isinstance(module, IrrepsConvolution)
    ]
    replaced = 0
    for name, module in found:
        convolution = fused(module.convolution)
        if convolution is not None:
            new = IrrepsScatterGatterFusedConvolution.from_irreps_convolution(module)
            new.convolution = convolution
            model.replace_module(name, new)
            replaced += 1
    return replaced


def fuse_nequip(model: torch.nn.Module) -> int:
    """Replace the convolutions of an eager nequip model in place; return how many were."""
    replaced = 0
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            # By name: a packaged model brings its own copies of nequip's and e3nn's classes.
            if type(module).__name__ != "TensorProductScatter":
                continue
            convolution = fused(module.tp)
            if convolution is not None:
                setattr(parent, name, _NequipConvolution(convolution))
                replaced += 1
    return replaced


def fused(product: o3.TensorProduct) -> EdgeConvolution | None:
    """Return a convolution that stands for this tensor product, or None where none can.

    Args:
        product: It must have "uvu" instructions with weights from outside, a second operand
            of multiplicity 1 and no irrep above `MAX_L`.
    """
    irreps = (product.irreps_in1, product.irreps_in2, product.irreps_out)
    suitable = all(
        instruction.connection_mode == "uvu"
        and instruction.has_weight
        and product.irreps_in2[instruction.i_in2].mul == 1
        for instruction in product.instructions
    ) and all(ir.l <= MAX_L for some in irreps for _, ir in some)
    if not suitable:
        return None
    convolution = EdgeConvolution(product)
    return convolution if _can_stand_for(convolution, product) else None


class _NequipConvolution(torch.nn.Module):
    """`EdgeConvolution` with the order of arguments that nequip calls it with."""

    def __init__(self, convolution: EdgeConvolution) -> None:
        super().__init__()
        self._convolution = convolution

    def forward(
        self,
        x: torch.Tensor,
        edge_attr: torch.Tensor,
        edge_weight: torch.Tensor,
        edge_dst: torch.Tensor,
        edge_src: torch.Tensor,
    ) -> torch.Tensor:
        """Return the convolution; see `EdgeConvolution`."""
        result: torch.Tensor = self._convolution(x, edge_attr, edge_weight, edge_src, edge_dst)
        return result


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        src: torch.Tensor,
        dst: torch.Tensor,
        tables: Tables,
        dim_out: int,
    ) -> torch.Tensor:
        out = x.new_zeros((x.shape[0], dim_out))
        ctx.arrays = tuple(t.detach().contiguous().numpy() for t in (x, y, w, src, dst))
        ctx.tables = tables
        convolve(*ctx.arrays, *tables, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y, w = ctx.arrays[:3]
        g_x, g_y, g_w = np.zeros_like(x), np.zeros_like(y), np.zeros_like(w)
        g_out = grad_outputs[0].contiguous().numpy()
        with_x = ctx.needs_input_grad[0]
        pull_back(*ctx.arrays, *ctx.tables, g_out, g_x, g_y, g_w)
        found = [torch.from_numpy(g) for g in (g_x, g_y, g_w)]
        return (found[0] if with_x else None, found[1], found[2], None, None, None, None)


class EdgeConvolution(torch.nn.Module):
    """out[dst] += tensor_product(x[src], edge attributes, edge weights), on the CPU.

    Args:
        product: e3nn's tensor product, with "uvu" instructions, weights from outside and a
            second operand of multiplicity 1, as in NequIP.
    """

    def __init__(self, product: o3.TensorProduct) -> None:
        super().__init__()
        self._irreps_x = product.irreps_in1
        self._irreps_out = product.irreps_out
        self._paths, self._terms, self._coefficients = _tables(product)

    def forward(
        self,
        x: torch.Tensor,
        edge_attr: torch.Tensor,
        weight: torch.Tensor,
        edge_src: torch.Tensor,
        edge_dst: torch.Tensor,
    ) -> torch.Tensor:
        """Return the convolution.

        Args:
            x: (n_atoms, dim_x) features.
            edge_attr: (n_edges, dim_y) spherical harmonics.
            weight: (n_edges, n_weights).
            edge_src: (n_edges,) the atom a message comes from.
            edge_dst: (n_edges,) the atom it goes to.

        Returns:
            (n_atoms, dim_out) sums over the edges of each atom.
        """
        tables: Tables = (self._paths, self._terms, self._coefficients.astype(_numpy_dtype(x)))
        out = _Convolve.apply(
            _transposed(x, self._irreps_x, component_first=True),
            edge_attr,
            weight,
            edge_src,
            edge_dst,
            tables,
            self._irreps_out.dim,
        )
        return _transposed(out, self._irreps_out, component_first=False)


def _can_stand_for(convolution: EdgeConvolution, product: o3.TensorProduct) -> bool:
    """Compare with e3nn's own arithmetic on a few edges: a package may hold another e3nn."""
    reference = next(product.buffers(), torch.zeros(0))
    dtype = reference.dtype if reference.is_floating_point() else torch.float32
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    x, y = draw(4, product.irreps_in1.dim), draw(4, product.irreps_in2.dim)
    weight, same = draw(4, product.weight_numel), torch.arange(4)
    return torch.allclose(
        convolution(x, y, weight, same, same), product(x, y, weight), rtol=1e-4, atol=1e-4
    )


def _numpy_dtype(tensor: torch.Tensor) -> type:
    return np.float64 if tensor.dtype == torch.float64 else np.float32


def _transposed(x: torch.Tensor, irreps: o3.Irreps, *, component_first: bool) -> torch.Tensor:
    """Swap multiplicity and component within each irrep: e3nn has the multiplicity first."""
    blocks = []
    for where, (mul, ir) in zip(irreps.slices(), irreps, strict=True):
        shape = (mul, ir.dim) if component_first else (ir.dim, mul)
        blocks.append(x[:, where].reshape(-1, *shape).transpose(1, 2).reshape(len(x), -1))
    return torch.cat(blocks, dim=1)


def _tables(product: o3.TensorProduct) -> Tables:
    """Return `paths`, `terms` and `coefficients` as the kernels want them."""
    starts = [_starts(irreps) for irreps in (product.irreps_in1, product.irreps_in2)]
    starts_out = _starts(product.irreps_out)
    paths: list[tuple[int, ...]] = []
    terms: list[tuple[int, int]] = []
    coefficients: list[float] = []
    first_weight = 0
    for instruction in product.instructions:
        mul, ir_x = product.irreps_in1[instruction.i_in1]
        ir_y = product.irreps_in2[instruction.i_in2].ir
        ir_out = product.irreps_out[instruction.i_out].ir
        coupling = instruction.path_weight * o3.wigner_3j(
            ir_x.l, ir_y.l, ir_out.l, dtype=torch.float64
        )
        begin = len(terms)
        for m_x, m_y, m_out in np.argwhere(np.abs(coupling.numpy()) > 1e-12):
            terms.append((m_out * ir_x.dim + m_x, starts[1][instruction.i_in2] + m_y))
            coefficients.append(float(coupling[m_x, m_y, m_out]))
        firsts = (starts[0][instruction.i_in1], first_weight, starts_out[instruction.i_out])
        paths.append((*firsts, mul, ir_x.dim, ir_out.dim, begin, len(terms)))
        first_weight += mul
    return np.array(paths, np.uint64), np.array(terms, np.uint64), np.array(coefficients)


def _starts(irreps: o3.Irreps) -> Sequence[int]:
    return [where.start for where in irreps.slices()]
