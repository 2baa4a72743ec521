"""Counts of operations and bytes: torch's operators, and our kernels against a run that counts."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from e3nn import o3

from tool_runs import tool_module
from xtalfill.models import host_kernels, messages
from xtalfill.models.compiled_host import CompiledHostNet
from xtalfill.models.hostnet import HostNet, HostNetConfig
from xtalfill.relax import kernels, radial
from xtalfill.relax.convolution import EdgeConvolution

ROOFLINE = tool_module("roofline")


class Number:
    """A number that counts the products and sums it takes part in."""

    count = 0

    def __mul__(self, _other: object) -> "Number":
        Number.count += 1
        return self

    __rmul__ = __add__ = __radd__ = __mul__


def numbers(*shape: int) -> np.ndarray:
    return np.full(shape, Number(), dtype=object)


def counted(call: Callable[..., None], *arrays: Any) -> int:
    Number.count = 0
    call(*arrays)
    return Number.count


def test_counts_products_sums_and_no_views() -> None:
    one, other = torch.rand(3, 4), torch.rand(4, 5)
    with ROOFLINE.Counter() as counter:
        product = one @ other
        transposed = product.T
        transposed + 1.0
    assert counter.flops == 2 * 3 * 4 * 5 + 15
    assert counter.bytes == 4 * (12 + 20 + 15) + 4 * (15 + 15)


def test_messages() -> None:
    edges = np.array([[0, 1, 1], [0, 0, 1]])
    arrays = (
        numbers(2, 12), numbers(2, 3, 4), numbers(3, 12), numbers(3, 3), edges,
        numbers(2, 4), numbers(2, 3, 4),
    )  # fmt: skip
    expected = counted(messages._forward.py_func, *arrays)
    assert ROOFLINE._message_flops(*arrays) == expected


def test_messages_of_the_compiled_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_kernels, "_filter", host_kernels._filter.py_func)
    monkeypatch.setattr(np, "empty", lambda shape, _: numbers(shape))
    width, window = 4, host_kernels.WINDOW
    expansion = host_kernels.Expansion(numbers(3, window + 1), np.array([0, 1, 2]))
    arrays: list[Any] = [
        numbers(2, 3 * width), numbers(2, 3, width), expansion, numbers(window + 3, 3 * width),
        np.array([0, 1, 1]), np.array([0, 0, 1]), numbers(3, 3), Number(),
        numbers(2, width), numbers(2, 3, width),
    ]  # fmt: skip
    expected = counted(host_kernels.add_messages.py_func, *arrays)
    assert ROOFLINE._host_message_flops(*arrays) == expected


def test_products_of_the_compiled_host() -> None:
    model = CompiledHostNet(HostNet(HostNetConfig(width=8)))
    update, scalars, vectors = model._updates[0], np.zeros((5, 8)), np.zeros((5, 3, 8))
    weights, mix = update.weights, update.mix
    of_net = 2 * 5 * (16 * 8 + 8 * 24)
    assert ROOFLINE._update_flops(scalars, vectors, mix, weights) == of_net + 2 * 15 * 8 * 16


@pytest.mark.parametrize("name", ["convolve", "pull_back"])
def test_convolution(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for helper, function in vars(kernels).items():
        if helper.startswith("_") and hasattr(function, "py_func"):
            monkeypatch.setattr(kernels, helper, function.py_func)
    product = o3.TensorProduct(
        "2x0e + 2x1o", "1x0e + 1x1o", "2x0e + 2x1o + 2x0e",
        [(0, 0, 0, "uvu", True), (0, 1, 1, "uvu", True), (1, 1, 2, "uvu", True)],
        shared_weights=False, internal_weights=False,
    )  # fmt: skip
    paths, terms, coefficients = EdgeConvolution(product)._tables_as(np.dtype(float))
    src = np.array([0, 1, 1])
    given: list[Any] = [
        numbers(2, product.irreps_in1.dim), numbers(3, product.irreps_in2.dim),
        numbers(3, product.weight_numel), src, src[::-1],
        paths, terms, coefficients, numbers(2, product.irreps_out.dim),
    ]  # fmt: skip
    if name == "pull_back":
        given += [numbers(*given[0].shape), numbers(*given[1].shape), numbers(*given[2].shape)]
    kernel = getattr(kernels, name).py_func
    assert isinstance(kernel, FunctionType)
    expected = counted(kernel, *given)
    assert getattr(ROOFLINE, f"_{name}_flops")(*given) == expected


@pytest.mark.parametrize("name", ["interpolate", "pull_distance"])
def test_tables(name: str) -> None:
    distance, coefficients = np.array([0.7, 1.4, 1.9]), numbers(2, radial.DEGREE + 1, 4)
    given: list[Any] = [distance, 0.5, 1.0, coefficients]
    given += [numbers(3, 4), numbers(3)] if name == "pull_distance" else [numbers(3, 4)]
    pulls = len(distance) if name == "pull_distance" else 0  # the last factor of each edge
    expected = counted(getattr(radial, name).py_func, *given)
    assert ROOFLINE._table_flops(*given) == expected - pulls


def test_bytes_of_tables_are_those_of_the_intervals_read() -> None:
    distance, coefficients = np.zeros(3, np.float32), np.zeros((50, 6, 4), np.float32)
    moved = ROOFLINE._table_bytes(distance, 0.5, 1.0, coefficients, np.zeros((3, 4), np.float32))
    assert moved == 4 * (3 + 3 * 6 * 4 + 3 * 4)


def test_bytes_of_edges_are_those_of_the_atoms_they_name() -> None:
    x, out, y, w = (np.zeros((9, n), np.float32) for n in (5, 7, 3, 2))
    src, dst = np.array([4, 4, 1]), np.array([2, 2, 2])
    tables = [np.zeros(4), np.zeros(6), np.zeros(8)]
    edges = (y[:3], w[:3], src, dst, *tables)
    of_edges = 4 * 3 * (3 + 2) + 8 * (6 + 18)
    assert ROOFLINE._edge_bytes(x, *edges, out) == 2 * 20 + 28 + of_edges
    pulled = ROOFLINE._edge_bytes(x, *edges, out, x, y[:3], w[:3])
    assert pulled == 2 * 2 * 20 + 28 + of_edges + 4 * 3 * (3 + 2)
