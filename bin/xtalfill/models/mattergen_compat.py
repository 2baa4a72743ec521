"""Makes mattergen 1.0.3 importable with numpy 2 and torch 2.13, without compiled extensions.

The mattergen wheel pins versions that conflict with current torch, so it is installed without its
dependencies. ``enable_mattergen`` provides what is missing: the four reductions of torch_scatter
and the row selection of torch_sparse that its GemNet uses, one type of emmet-core, ``np.math``
(removed in numpy 2), and the scale factors of GemNet, which the wheel does not contain. Installed
packages take precedence.
"""

import contextlib
import importlib
import importlib.metadata
import io
import json
import math
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from omegaconf import OmegaConf

# Imported before the stubs exist: torch_geometric looks for torch_scatter when it is imported and
# must not find the stub.
from torch_geometric.utils import scatter as _pyg_scatter

from xtalfill.core.errors import ConfigError

MATTERGEN_VERSION = "1.0.3"


def scatter(
    src: torch.Tensor,
    index: torch.Tensor,
    dim: int = -1,
    *,
    dim_size: int | torch.Tensor | None = None,
    reduce: str = "sum",
) -> torch.Tensor:
    """Reduces slices of ``src`` with the same index, like ``torch_scatter.scatter``.

    Args:
        src: (..., n, ...), any dtype.
        index: (n,) int64, output index of each slice along ``dim``.
        dim: Axis of length n; by default the last one, as in torch_scatter.
        dim_size: Output size m; by default the largest index + 1.
        reduce: sum, add, mean, mul, min or max.

    Returns:
        (..., m, ...): the reduced slices; 0 (1 for mul) where an output has no input.
    """
    slots = None if dim_size is None else int(dim_size)
    return _pyg_scatter(src, index, dim=dim, dim_size=slots, reduce=reduce)


def scatter_add(
    src: torch.Tensor,
    index: torch.Tensor,
    dim: int = -1,
    *,
    dim_size: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Sums slices of ``src`` with the same index; arguments as in ``scatter``."""
    return scatter(src, index, dim, dim_size=dim_size)


def segment_coo(
    src: torch.Tensor,
    index: torch.Tensor,
    *,
    dim_size: int | torch.Tensor | None = None,
    reduce: str = "sum",
) -> torch.Tensor:
    """Reduces runs of the first axis: ``scatter`` over axis 0 for a sorted (n,) index."""
    return scatter(src, index, 0, dim_size=dim_size, reduce=reduce)


def segment_csr(src: torch.Tensor, indptr: torch.Tensor, *, reduce: str = "sum") -> torch.Tensor:
    """Reduces the rows ``indptr[i]:indptr[i + 1]`` of ``src`` to row i of the result.

    Args:
        src: (n, ...), any dtype.
        indptr: (m + 1,) int64, non-decreasing, at most n.
        reduce: As in ``scatter``.

    Returns:
        (m, ...): the reduced rows; 0 (1 for mul) where a segment is empty.
    """
    lengths = indptr.diff()
    segment = torch.arange(len(lengths), device=src.device).repeat_interleave(lengths)
    rows = src[int(indptr[0]) : int(indptr[-1])]
    return scatter(rows, segment, 0, dim_size=len(lengths), reduce=reduce)


class SparseStorage:
    """Entries of a sparse matrix, sorted by row, then column."""

    def __init__(self, row: torch.Tensor, col: torch.Tensor, value: torch.Tensor) -> None:
        """Takes row, col (n,) int64 and value (n,), already sorted."""
        self._row, self._col, self._value = row, col, value

    def row(self) -> torch.Tensor:
        """(n,) int64, the row of each entry."""
        return self._row

    def col(self) -> torch.Tensor:
        """(n,) int64, the column of each entry."""
        return self._col

    def value(self) -> torch.Tensor:
        """(n,) the value of each entry."""
        return self._value


class SparseTensor:
    """Sparse matrix with possibly repeated entries, like ``torch_sparse.SparseTensor``.

    Implements only what GemNet needs to list triplets: select rows, move, read the entries.
    """

    def __init__(
        self,
        *,
        row: torch.Tensor,
        col: torch.Tensor,
        value: torch.Tensor,
        sparse_sizes: tuple[int | torch.Tensor, int | torch.Tensor],
    ) -> None:
        """Builds the matrix from its entries, in any order.

        Args:
            row: (n,) int64.
            col: (n,) int64.
            value: (n,), any dtype.
            sparse_sizes: Numbers of rows and of columns.
        """
        self._sizes = (int(sparse_sizes[0]), int(sparse_sizes[1]))
        # A stable sort keeps the order of equal entries, so the triplets are reproducible.
        order = torch.argsort(row * self._sizes[1] + col, stable=True)
        self.storage = SparseStorage(row[order], col[order], value[order])

    @classmethod
    def _from_storage(cls, storage: SparseStorage, sizes: tuple[int, int]) -> "SparseTensor":
        """Wraps sorted entries."""
        matrix = cls.__new__(cls)
        matrix._sizes = sizes
        matrix.storage = storage
        return matrix

    def __getitem__(self, rows: torch.Tensor) -> "SparseTensor":
        """Selects rows (k,) int64, repeats allowed; row i of the result is ``rows[i]``."""
        row, col, value = self.storage.row(), self.storage.col(), self.storage.value()
        lengths = torch.bincount(row, minlength=self._sizes[0])
        starts = (lengths.cumsum(0) - lengths)[rows]
        lengths = lengths[rows]
        new_row = torch.arange(len(rows), device=row.device).repeat_interleave(lengths)
        # Index of each entry within its row, then within the storage.
        within = torch.arange(len(new_row), device=row.device)
        within = within - (lengths.cumsum(0) - lengths)[new_row]
        entries = starts[new_row] + within
        storage = SparseStorage(new_row, col[entries], value[entries])
        return self._from_storage(storage, (len(rows), self._sizes[1]))

    def to(self, device: torch.device | str) -> "SparseTensor":
        """Returns the matrix on ``device``."""
        entries = (self.storage.row(), self.storage.col(), self.storage.value())
        storage = SparseStorage(*(array.to(device) for array in entries))
        return self._from_storage(storage, self._sizes)


class _NumpyWithMath(ModuleType):
    """numpy with ``np.math``, for the one module of mattergen that uses it."""

    math = math

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)


class _TorchWithSingleFull(ModuleType):
    """torch with a ``full`` that ignores the default dtype, which other packages change."""

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)

    @staticmethod
    def full(size: list[int], value: float, *, device: torch.device) -> torch.Tensor:
        """Return a constant tensor in single precision, the dtype of mattergen's distances."""
        return torch.full(size, value, device=device, dtype=torch.float32)


_STUBS: dict[str, dict[str, Any]] = {
    "torch_scatter": {
        "scatter": scatter,
        "scatter_add": scatter_add,
        "segment_coo": segment_coo,
        "segment_csr": segment_csr,
    },
    "torch_sparse": {"SparseTensor": SparseTensor},
    "emmet.core.material": {"PropertyOrigin": object},  # used in a type hint only
}


def _install_stub(name: str, attributes: dict[str, Any]) -> None:
    """Installs a stub module unless a real module of that name can be imported."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # An installed but broken package must not be hidden.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    else:
        return
    parent, _, leaf = name.rpartition(".")
    if parent:
        _install_stub(parent, {})
    module = ModuleType(name, "Stub of xtalfill for a package that is not installed.")
    module.__spec__ = ModuleSpec(name, loader=None, is_package=not attributes)
    module.__dict__.update(attributes)
    if not attributes:
        module.__path__ = []
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], leaf, module)


def _import_globals() -> None:
    """Imports mattergen's globals without their side effects.

    On import they register an OmegaConf resolver that runs ``eval`` on text of a config file,
    set PROJECT_ROOT, and print to stdout.
    """
    with (
        patch.object(OmegaConf, "register_new_resolver"),
        patch.dict(os.environ),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        importlib.import_module("mattergen.common.utils.globals")


def _read_scale_factors(path: Path) -> dict[str, float]:
    """Reads the scale factors of GemNet-dT: name -> factor, dimensionless."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(value) for name, value in table.items() if name != "comment"}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: the scale factors of GemNet cannot be read ({error}); "
            "use assets/gemnet-dT.json of xtalfill"
        ) from error


def enable_mattergen(*, scale_file: Path | None) -> None:
    """Makes ``import mattergen`` work in this process; call it before the first such import.

    A repeated call only changes the scale factors of models built afterwards. A state dict
    contains its own factors.

    Args:
        scale_file: Scale factors of GemNet-dT (JSON, name -> factor): assets/gemnet-dT.json.
            None if a state dict is loaded afterwards.

    Raises:
        ConfigError: mattergen 1.0.3 is not installed, or the scale factors cannot be read.
    """
    factors = {} if scale_file is None else _read_scale_factors(scale_file)
    try:
        version = importlib.metadata.version("mattergen")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            "mattergen, which the methods with GemNet need, is not installed: run 'make setup' or "
            f"pip install --no-deps mattergen=={MATTERGEN_VERSION}"
        ) from None
    if version != MATTERGEN_VERSION:
        raise ConfigError(
            f"mattergen {version} is installed but xtalfill needs {MATTERGEN_VERSION}: "
            "run 'make setup'"
        )
    for name, attributes in _STUBS.items():
        _install_stub(name, attributes)
    _import_globals()
    basis = importlib.import_module("mattergen.common.gemnet.layers.basis_utils")
    basis.__dict__["np"] = _NumpyWithMath("numpy")
    graph = importlib.import_module("mattergen.common.utils.ocp_graph_utils")
    graph.__dict__["torch"] = _TorchWithSingleFull("torch")
    scaling = importlib.import_module("mattergen.common.gemnet.layers.scaling")
    # GemNet passes a path inside the wheel, where the file is missing.
    scaling.__dict__["read_value_json"] = lambda _path, name: factors.get(name)
