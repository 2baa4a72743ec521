"""Fused convolution of NequIP-type potentials on the CPU: gather, tensor product, scatter.

e3nn computes the tensor product path by path for all edges, with intermediate tensors of
n_edges x thousands, and is limited by memory bandwidth on a CPU. The kernels here process one
edge at a time in the cache, with weights from a table where they depend on the length of the edge
alone. Energies and forces agree to float rounding. `fuse_sevennet` and `fuse_nequip` install them
where these packages install their fused GPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from e3nn import o3
from torch.autograd.function import once_differentiable

from xtalfill.relax.kernels import MAX_L, convolve, pull_back, pull_back_twice
from xtalfill.relax.radial import RadialTable, tabulate

EDGES_AT_ONCE = 64  # the radial weights (about 1000 for each edge) fit in the L2 cache

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]


def fuse_sevennet(model: Any) -> int:
    """Replace the convolutions of a SevenNet model in place; return the number replaced."""
    import sevenn._keys as KEY
    from sevenn.nn.convolution import IrrepsConvolution, IrrepsScatterGatterFusedConvolution

    found = [
        (name, module)
        for name, module in model.named_children()
        if isinstance(module, IrrepsConvolution)
    ]
    replaced = 0
    for name, module in found:
        table = _sevennet_table(model, module)
        convolution = fused(module.convolution, table)
        if convolution is not None:
            new = IrrepsScatterGatterFusedConvolution.from_irreps_convolution(module)
            new.convolution = convolution
            if table is not None:
                new.weight_nn, new.key_weight_input = torch.nn.Identity(), KEY.EDGE_LENGTH
            model.replace_module(name, new)
            replaced += 1
    return replaced


def _sevennet_table(model: Any, module: Any) -> RadialTable | None:
    """Return the radial network of a convolution as a table, if it can be one."""
    import sevenn._keys as KEY

    if module.key_weight_input != KEY.EDGE_EMBEDDING:
        return None
    embedding, network = model.get_submodule("edge_embedding"), module.weight_nn

    def weights(distance: torch.Tensor) -> torch.Tensor:
        basis = embedding.basis_function(distance)
        result: torch.Tensor = network(basis * embedding.cutoff_function(distance)[:, None])
        return result

    kink = getattr(embedding.cutoff_function, "r_on", None)
    for part in (embedding, network):
        part.double()  # loses nothing, nor does the way back
    table = tabulate(weights, cutoff=float(model.cutoff), kink=kink)
    for part in (embedding, network):
        part.float()
    return table


def fuse_nequip(model: torch.nn.Module) -> int:
    """Replace the convolutions of an eager nequip model in place; return the number replaced."""
    replaced = 0
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            # By name: a packaged model contains its own copies of the nequip and e3nn classes.
            if type(module).__name__ != "TensorProductScatter":
                continue
            convolution = fused(module.tp)
            if convolution is not None:
                setattr(parent, name, _NequipConvolution(convolution))
                replaced += 1
    return replaced


def fused(product: o3.TensorProduct, radial: RadialTable | None = None) -> EdgeConvolution | None:
    """Return a fused convolution equivalent to a tensor product; None if not supported.

    Args:
        product: Tensor product. Supported are "uvu" instructions with external weights, a second
            operand of multiplicity 1 and irreps up to `MAX_L`.
        radial: Table of the weights; see `EdgeConvolution`.
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
    convolution = EdgeConvolution(product, radial)
    return convolution if _can_stand_for(convolution, product, radial) else None


class _NequipConvolution(torch.nn.Module):
    """`EdgeConvolution` with nequip's order of arguments."""

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


class EdgeConvolution(torch.nn.Module):
    """out[dst] += tensor_product(x[src], edge attributes, edge weights), on the CPU.

    Args:
        product: e3nn tensor product with "uvu" instructions, external weights and a second
            operand of multiplicity 1, as in NequIP.
        radial: Weights as functions of the length of an edge. If given, the convolution takes
            lengths and evaluates them for a few edges at a time, so that the weights of all edges,
            by far the largest tensor of the model, are never stored.
        component_first: Whether the columns of the features are ordered (component, multiplicity)
            and, in the result, equal irreps are merged. By default they are ordered as in e3nn,
            (multiplicity, component), with the irreps of `product`.
    """

    def __init__(
        self,
        product: o3.TensorProduct,
        radial: RadialTable | None = None,
        *,
        component_first: bool = False,
    ) -> None:
        super().__init__()
        self._radial = radial
        self._dim_out = product.irreps_out.dim
        self._paths, self._terms, self._coefficients = _tables(product)
        if component_first:
            self._order_x = torch.arange(product.irreps_in1.dim)
            self._order_out = merged_columns(product.irreps_out)
        else:
            self._order_x = component_columns(product.irreps_in1)
            self._order_out = torch.argsort(component_columns(product.irreps_out))
        self._back_x, self._back_out = torch.argsort(self._order_x), torch.argsort(self._order_out)

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
            weight: (n_edges, n_weights); with a table (n_edges,), lengths in Angstrom.
            edge_src: (n_edges,) sending atom.
            edge_dst: (n_edges,) receiving atom.

        Returns:
            (n_atoms, dim_out) sums over the edges of each atom.
        """
        result: torch.Tensor = _Convolve.apply(x, edge_attr, weight, edge_src, edge_dst, self)
        return result

    def run(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        src: torch.Tensor,
        dst: torch.Tensor,
    ) -> torch.Tensor:
        """Compute `forward` outside autograd."""
        out = x.new_zeros((len(x), self._dim_out))
        xc = x.index_select(1, self._order_x).numpy()
        tables, total = self._tables_as(xc.dtype), out.numpy()
        ys, ws, sources, targets = (tensor.numpy() for tensor in (y, w, src, dst))
        for part in self._parts(len(y)):
            edges = (ys[part], self._weights(ws[part]), sources[part], targets[part])
            convolve(xc, *edges, *tables, total)
        return out.index_select(1, self._order_out)

    def pull(
        self,
        inputs: tuple[torch.Tensor, ...],
        grad_out: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients with respect to x, y and w, the first three of `inputs`."""
        x, y, w, src, dst = inputs
        xc = x.index_select(1, self._order_x).numpy()
        tables = self._tables_as(xc.dtype)
        ys, ws, sources, targets = (tensor.numpy() for tensor in (y, w, src, dst))
        given, g_xc = grad_out.index_select(1, self._back_out).numpy(), np.zeros_like(xc)
        g_y, g_w = np.zeros_like(ys), np.zeros_like(ws)
        for part in self._parts(len(y)):
            weights = self._weights(ws[part])
            g_weights = g_w[part] if self._radial is None else np.zeros_like(weights)
            edges = (ys[part], weights, sources[part], targets[part])
            pull_back(xc, *edges, *tables, given, g_xc, g_y[part], g_weights)
            if self._radial is not None:
                g_w[part] = self._radial.pull(ws[part], g_weights)
        g_x = torch.from_numpy(g_xc).index_select(1, self._back_x)
        return g_x, torch.from_numpy(g_y), torch.from_numpy(g_w)

    def pull_twice(
        self,
        inputs: Sequence[torch.Tensor],
        grad_out: torch.Tensor,
        cotangents: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the gradients of the result of `pull`, times `cotangents`.

        Returns:
            The gradients with respect to x, y, w and `grad_out`.

        Raises:
            NotImplementedError: The convolution has a table.
        """
        if self._radial is not None:
            raise NotImplementedError("a convolution with a table has no second derivative")
        (x, y, w, src, dst), (h_x, h_y, h_w) = inputs, cotangents
        xc, h_xc = (one.index_select(1, self._order_x).numpy() for one in (x, h_x))
        g_out, gg_xc = grad_out.index_select(1, self._back_out), np.zeros_like(xc)
        gg_y, gg_w, gg_out = torch.zeros_like(y), torch.zeros_like(w), torch.zeros_like(grad_out)
        pull_back_twice(
            xc, y.numpy(), w.numpy(), h_xc, h_y.numpy(), h_w.numpy(), src.numpy(), dst.numpy(),
            *self._tables_as(xc.dtype), g_out.numpy(), gg_xc, gg_y.numpy(), gg_w.numpy(),
            gg_out.numpy(),
        )  # fmt: skip
        gg_x = torch.from_numpy(gg_xc).index_select(1, self._back_x)
        return gg_x, gg_y, gg_w, gg_out.index_select(1, self._order_out)

    def _weights(self, w: np.ndarray) -> np.ndarray:
        return w if self._radial is None else self._radial.values(w)

    def _parts(self, n_edges: int) -> list[slice]:
        size = max(n_edges, 1) if self._radial is None else EDGES_AT_ONCE
        return [slice(first, first + size) for first in range(0, n_edges, size)]

    def _tables_as(self, dtype: np.dtype) -> Tables:
        return self._paths, self._terms, self._coefficients.astype(dtype)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        src: torch.Tensor,
        dst: torch.Tensor,
        convolution: EdgeConvolution,
    ) -> torch.Tensor:
        inputs = tuple(t.contiguous() for t in (x, y, w, src, dst))
        ctx.save_for_backward(*inputs)
        ctx.convolution = convolution
        return convolution.run(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = _PullBack.apply(*ctx.saved_tensors, grad_outputs[0], ctx.convolution)
        return *gradients, None, None, None


class _PullBack(torch.autograd.Function):
    """The gradients of `_Convolve`, which the loss of forces differentiates once more."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        src: torch.Tensor,
        dst: torch.Tensor,
        g: torch.Tensor,
        convolution: EdgeConvolution,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x, y, w, src, dst, g)
        ctx.convolution = convolution
        ctx.set_materialize_grads(False)  # of a first layer, nothing depends on x
        return convolution.pull((x, y, w, src, dst), g)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        *inputs, g = ctx.saved_tensors
        given = [
            torch.zeros_like(one) if cotangent is None else cotangent.contiguous()
            for one, cotangent in zip(inputs[:3], cotangents, strict=True)
        ]
        of_x, of_y, of_w, of_g = ctx.convolution.pull_twice(inputs, g, given)
        return of_x, of_y, of_w, None, None, of_g, None


def _can_stand_for(
    convolution: EdgeConvolution, product: o3.TensorProduct, radial: RadialTable | None
) -> bool:
    """Compare with e3nn on a few edges: a packaged model may contain another e3nn version."""
    reference = next(product.buffers(), torch.zeros(0))
    dtype = reference.dtype if reference.is_floating_point() else torch.float32
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    x, y = draw(4, product.irreps_in1.dim), draw(4, product.irreps_in2.dim)
    if radial is None:
        given = weight = draw(4, product.weight_numel)
    else:
        given = torch.linspace(0.8, 2.0, 4, dtype=dtype)
        weight = torch.from_numpy(radial.values(given.numpy()))
    same = torch.arange(4)
    found, expected = convolution(x, y, given, same, same), product(x, y, weight)
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def component_columns(irreps: o3.Irreps) -> torch.Tensor:
    """Return the column order from (multiplicity, component) to (component, multiplicity).

    e3nn uses the former; the kernels need the multiplicity contiguous in memory.
    """
    columns = [
        torch.arange(where.start, where.stop).reshape(mul, ir.dim).T.reshape(-1)
        for where, (mul, ir) in zip(irreps.slices(), irreps, strict=True)
    ]
    return torch.cat(columns)


def merged_columns(irreps: o3.Irreps) -> torch.Tensor:
    """Return the column order that merges equal irreps of features with the component first."""
    columns: dict[o3.Irrep, list[torch.Tensor]] = {}
    for where, (mul, ir) in zip(irreps.slices(), irreps, strict=True):
        block = torch.arange(where.start, where.stop).reshape(ir.dim, mul)
        columns.setdefault(ir, []).append(block)
    return torch.cat([torch.cat(blocks, dim=1).reshape(-1) for blocks in columns.values()])


def _tables(product: o3.TensorProduct) -> Tables:
    """Return `paths`, `terms` and `coefficients` in the layout of the kernels."""
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
