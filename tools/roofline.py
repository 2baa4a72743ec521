#!/usr/bin/env python3
"""How close to the limits of one core are the networks of INPAINT and the potential of RELAX?

The limits are measured in the same process: a product of matrices for floating-point operations, a
copy of a large array for bytes. Operations and bytes of a workload are counted operator by
operator in a run of its own: products of matrices by torch's formulas, elementwise operators and
reductions one operation for each element, our numba kernels by the formulas below. Every operator
counts its inputs and outputs as bytes, as if no cache kept them; what a kernel keeps inside does
not count. Times are CPU times of one core; workloads and limits take turns.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from bench_relax import proposals
from bench_sides import noised, score_network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from xtalfill.core.crystal import Crystal
from xtalfill.core.io import write_json
from xtalfill.models import compiled_host, messages
from xtalfill.models.graphs import Host
from xtalfill.models.host_kernels import MlpWeights
from xtalfill.models.hostnet import HostNet
from xtalfill.models.weights import load_weights
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import candidate_generator, sample_sites
from xtalfill.relax import convolution, radial
from xtalfill.relax.potentials import load_potential

REPOSITORY = Path(__file__).resolve().parents[1]
HYDROGEN = 1
SEED = 42
CANDIDATES = 5  # of one structure, as INPAINT denoises them together
MATRIX = 1024  # size of the product, float32
COPIED = 2**26  # floats, 256 MiB: larger than any cache


class Counter(TorchDispatchMode):
    """Counts operations and bytes of the operators that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator and count it; one whose result is a view moves nothing."""
        result = func(*args, **(kwargs or {}))
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        made = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        if func.is_view or not made or not given:
            return result
        self.bytes += sum(map(_bytes, given)) + sum(map(_bytes, made))
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](
                *args, **(kwargs or {}), out_val=result
            )
        elif made[0].is_floating_point():
            self.flops += max(one.numel() for one in (*given, *made))
        return result

    def kernels(self) -> AbstractContextManager[Any]:
        """Count our numba kernels, too, inside this context."""
        stack = ExitStack()
        for module, name, flops, moved in (
            (messages, "_forward", _message_flops, _all_bytes),
            (compiled_host, "add_messages", _host_message_flops, _all_bytes),
            (compiled_host, "mlp", _mlp_flops, _all_bytes),
            (compiled_host, "update", _update_flops, _all_bytes),
            (convolution, "convolve", _convolve_flops, _edge_bytes),
            (convolution, "pull_back", _pull_back_flops, _edge_bytes),
            (radial, "interpolate", _table_flops, _table_bytes),
            (radial, "pull_distance", _table_flops, _table_bytes),
        ):
            kernel = self._counted(getattr(module, name), flops, moved)
            stack.enter_context(patch.object(module, name, kernel))
        return stack

    def _counted(
        self, kernel: Callable[..., Any], flops: Callable[..., int], moved: Callable[..., int]
    ) -> Callable[..., Any]:
        def counted(*arrays: Any) -> Any:
            self.flops += flops(*arrays)
            self.bytes += moved(*arrays)
            return kernel(*arrays)

        return counted


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _all_bytes(*arrays: Any) -> int:
    return sum(array.nbytes for array in tree_leaves(arrays))


def _edge_bytes(x: np.ndarray, *others: Any) -> int:
    """The rows of the atoms that the edges name, and all of the other arrays."""
    y, w, src, dst, *tables, g_out = others[:8]
    rest = others[8:]
    of_sources, edges = (x, *rest[:1]), (y, w, src, dst, *tables, *rest[1:])
    rows = len(np.unique(src)) * sum(one[0].nbytes for one in of_sources)
    return rows + len(np.unique(dst)) * g_out[0].nbytes + _all_bytes(*edges)


def _table_bytes(distance: np.ndarray, *others: Any) -> int:
    """The interval of each distance, of all intervals of the table, and the other arrays."""
    coefficients, *rest = others[2:]
    return len(distance) * coefficients[0].nbytes + _all_bytes(distance, *rest)


def _message_flops(phi: np.ndarray, *others: np.ndarray) -> int:
    """16 operations for each edge and channel: 2 of the scalar, 2 + 3 × 4 of the vector part."""
    edges = others[3]
    return 16 * edges.shape[1] * (phi.shape[1] // 3)


def _host_message_flops(phi: np.ndarray, *others: Any) -> int:
    """94 operations for each edge and channel: 75 of its three filters, 19 of the message."""
    receivers = others[3]
    return 94 * len(receivers) * (phi.shape[1] // 3)


def _mlp_flops(x: np.ndarray, weights: MlpWeights) -> int:
    """The products of matrices alone."""
    return 2 * len(x) * (weights.first.size + weights.second.size)


def _update_flops(x: np.ndarray, _: np.ndarray, mix: np.ndarray, weights: MlpWeights) -> int:
    """The products of matrices alone."""
    return 2 * len(x) * 3 * mix.size + _mlp_flops(x, weights)


def _paths(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return multiplicity, dimension of x and of the result of each path, and the terms."""
    mul, dim, n = (paths[:, column].astype(int) for column in (3, 4, 5))
    return mul, dim, n, int((paths[:, 7] - paths[:, 6]).sum())


def _convolve_flops(_x: np.ndarray, y: np.ndarray, *others: np.ndarray) -> int:
    mul, dim, n, terms = _paths(others[3])
    return len(y) * (2 * terms + int((n * mul * (2 * dim + 1)).sum()))


def _pull_back_flops(_x: np.ndarray, y: np.ndarray, *others: np.ndarray) -> int:
    mul, dim, n, terms = _paths(others[3])
    of_x, of_w, of_matrices = dim * (2 * n + 1), n * (2 * dim + 1), 3 * n * dim
    return len(y) * (4 * terms + int((mul * (of_x + of_w + of_matrices)).sum()))


def _table_flops(distance: np.ndarray, *others: Any) -> int:
    """Ten operations for each function of a distance, both for its value and for its slope."""
    coefficients = others[2]
    return 10 * len(distance) * coefficients.shape[2]


def host_sampler(crystals: Path, steps: int) -> Callable[[], object]:
    """Return a call that denoises the candidates of one structure with the bundled `host`."""
    model = load_weights(REPOSITORY / "assets" / "weights" / "host.pt")
    if not isinstance(model, HostNet):
        raise TypeError("host.pt holds no HostNet")
    atoms = proposals(crystals, 1, SEED)[0]
    bare = atoms[atoms.numbers != HYDROGEN]
    n_sites = len(atoms) - len(bare)
    host = Host(bare.numbers, bare.positions, bare.cell.array, HYDROGEN, n_sites)
    settings = SamplerSettings(  # those of nextflow.config
        steps=steps, predictor="x0_renoise", renoise=0.7, corrector_steps=0
    )

    def call() -> object:
        generators = [
            candidate_generator(seed=SEED, structure_id="a", sample=n) for n in range(CANDIDATES)
        ]
        return sample_sites(model, [host] * CANDIDATES, generators, settings=settings)

    return call


def force_call(crystals: Path, count: int) -> Callable[[], object]:
    """Return a call of 7net-0 for a batch of RELAX."""
    potential = load_potential("7net-0", device="cpu")
    batch = [
        Crystal(one.numbers, one.positions, one.cell.array)
        for one in proposals(crystals, count, SEED)
    ]
    return lambda: potential.evaluate(batch)


def gemnet_score(crystals: Path, name: str, count: int) -> Callable[[], object]:
    """Return a call of GemNet for crystals; names of the networks as of `score_network`."""
    network, some = score_network(name), noised(crystals, count)
    times = torch.full((len(some.numbers),), 0.5, dtype=torch.float64)

    def call() -> object:
        with torch.no_grad():
            return network.scaled_score(some, times)

    return call


def gemm() -> Callable[[], object]:
    """Return a product of two matrices that fit in the cache."""
    one, other = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    result = torch.empty_like(one)
    return lambda: torch.mm(one, other, out=result)


def copy() -> Callable[[], object]:
    """Return a copy of an array that fits in no cache."""
    source, target = torch.rand(COPIED), torch.zeros(COPIED)
    return lambda: target.copy_(source)


def seconds(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median CPU time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, found in zip(calls, times, strict=True):
            begin = time.process_time()
            call()
            found.append(time.process_time() - begin)
    return [median(found) for found in times]


def counted(call: Callable[[], object]) -> tuple[int, int]:
    """Return operations and bytes of a call."""
    counter = Counter()
    with counter.kernels(), counter:
        call()
    return counter.flops, counter.bytes


def rows(names: Iterable[str], used: Sequence[float], counts: Sequence[tuple[int, int]],
         limits: tuple[float, float]) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of the table.

    Args:
        names: Of the workloads.
        used: CPU time of each, s.
        counts: Operations and bytes of each.
        limits: Operations and bytes a second of this core.
    """
    peak, bandwidth = limits
    found = [
        {"key": "limits", "label": "limits of the core", "cells": {
            "flops": round(peak / 1e9, 1), "bytes": round(bandwidth / 1e9, 1),
            "intensity": round(peak / bandwidth, 1)}},
    ]  # fmt: skip
    for name, second, (flops, moved) in zip(names, used, counts, strict=True):
        bound = min(peak, bandwidth * flops / moved)
        cells = {
            "flops": round(flops / second / 1e9, 2),
            "bytes": round(moved / second / 1e9, 2),
            "intensity": round(flops / moved, 2),
            "of_peak": round(100 * flops / second / peak, 1),
            "of_bound": round(100 * flops / second / bound, 1),
        }
        found.append({"key": name.split(",")[0].strip("`"), "label": name, "cells": cells})
    return found


def table(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the table in the format of docs/benchmarks/data."""
    return {
        "title": "Operations and bytes a second of one core, against its measured limits",
        "crystals": None,
        "date": datetime.now(UTC).date().isoformat(),
        "transcribed": False,
        "commands": ["tools/roofline.py --output docs/benchmarks/data/roofline.json"],
        "label": "workload",
        "columns": [
            {"key": "flops", "title": "operations, 10⁹/s"},
            {"key": "bytes", "title": "bytes, GB/s"},
            {"key": "intensity", "title": "operations for a byte"},
            {"key": "of_peak", "title": "of the operations", "unit": "%"},
            {"key": "of_bound", "title": "of the roofline", "unit": "%"},
        ],
        "rows": found,
    }


def main() -> None:
    """Measure limits and workloads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--crystals", type=Path, default=REPOSITORY / "assets" / "demo" / "references.extxyz"
    )
    parser.add_argument("--steps", type=int, default=20, help="noise levels of the sampler")
    parser.add_argument("--at_once", type=int, default=32, help="crystals of a force call")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [
        f"`host`, {CANDIDATES} candidates of a crystal",
        f"`7net-0`, {options.at_once} crystals at once",
        "`td`, 8 crystals at once",
        "`td` of the published size, 2 crystals at once",
    ]
    workloads = [
        host_sampler(options.crystals, options.steps),
        force_call(options.crystals, options.at_once),
        gemnet_score(options.crystals, "td", 8),
        gemnet_score(options.crystals, "published", 2),
    ]
    counts = [counted(call) for call in workloads]
    one, other, *used = seconds([gemm(), copy(), *workloads], options.repeats)
    limits = (2 * MATRIX**3 / one, 2 * 4 * COPIED / other)
    found = rows(names, used, counts, limits)
    for row in found:
        print(row["label"], row["cells"])
    write_json(options.output, table(found))


if __name__ == "__main__":
    main()
