"""Makes mattergen 1.0.3 importable beside numpy 2 and torch 2.13, with nothing to compile.

The wheel of mattergen pins versions that cannot be installed together with today's torch, so
it is installed without its dependencies. What it then lacks is served here, once, by
``enable_mattergen``: the four reductions of torch_scatter and the row selection of
torch_sparse that its GemNet uses, the one type it takes from emmet-core, ``np.math`` that
numpy 2 dropped, and the scale factors of GemNet that the wheel left out. Packages that are
really installed are used as they are.
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

# Imported before the stand-ins exist: torch_geometric looks for torch_scatter at its own import
# and must not find them.
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
    """Reduces the slices of ``src`` that share an index, as ``torch_scatter.scatter``.

    Args:
        src: (..., n, ...), any dtype.
        index: (n,) int64, the slot of each slice along ``dim``.
        dim: The axis of length n; the last one by default, as in torch_scatter.
        dim_size: Number of slots m; the largest index + 1 by default.
        reduce: sum, add, mean, mul, min or max.

    Returns:
        (..., m, ...): the reduced slices; 0 (1 for mul) where a slot gets none.
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
    """Sums the slices of ``src`` that share an index; arguments as in ``scatter``."""
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
        indptr: (m + 1,) int64, not decreasing, at most n.
        reduce: As in ``scatter``.

    Returns:
        (m, ...): the reduced rows; 0 (1 for mul) where a segment is empty.
    """
    lengths = indptr.diff()
    segment = torch.arange(len(lengths), device=src.device).repeat_interleave(lengths)
    rows = src[int(indptr[0]) : int(indptr[-1])]
    return scatter(rows, segment, 0, dim_size=len(lengths), reduce=reduce)


class SparseStorage:
    """The entries of a sparse matrix, sorted by row, then column."""

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
    """A sparse matrix that may hold an entry more than once, as ``torch_sparse.SparseTensor``.

    Only what GemNet does with it to list its triplets: select rows, move, read the entries.
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
        # A stable sort keeps the order of equal entries: the same edges give the same triplets.
        order = torch.argsort(row * self._sizes[1] + col, stable=True)
        self.storage = SparseStorage(row[order], col[order], value[order])

    @classmethod
    def _from_storage(cls, storage: SparseStorage, sizes: tuple[int, int]) -> "SparseTensor":
        """Wraps entries that are sorted already."""
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
        # Place of each entry within its own row, then within the whole storage.
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
    """numpy with ``np.math`` again, for the one module of mattergen that asks for it."""

    math = math

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)


class _TorchWithSingleFull(ModuleType):
    """torch whose ``full`` does not follow the default type, which other packages change."""

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)

    @staticmethod
    def full(size: list[int], value: float, *, device: torch.device) -> torch.Tensor:
        """Return the list of distances that mattergen sorts, of the type of the distances."""
        return torch.full(size, value, device=device, dtype=torch.float32)


_STUBS: dict[str, dict[str, Any]] = {
    "torch_scatter": {
        "scatter": scatter,
        "scatter_add": scatter_add,
        "segment_coo": segment_coo,
        "segment_csr": segment_csr,
    },
    "torch_sparse": {"SparseTensor": SparseTensor},
    "emmet.core.material": {"PropertyOrigin": object},  # only named in a type hint
}


def _install_stub(name: str, attributes: dict[str, Any]) -> None:
    """Puts a stand-in module in place unless a real one of that name can be imported."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A real package that is there but broken must not be papered over.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    else:
        return
    parent, _, leaf = name.rpartition(".")
    if parent:
        _install_stub(parent, {})
    module = ModuleType(name, "Stand-in of xtalfill for a package that is not installed.")
    module.__spec__ = ModuleSpec(name, loader=None, is_package=not attributes)
    module.__dict__.update(attributes)
    if not attributes:
        module.__path__ = []
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], leaf, module)


def _import_globals() -> None:
    """Imports mattergen's globals without what they do to the rest of the process.

    On import they register an OmegaConf resolver that runs ``eval`` on text of a config file,
    set PROJECT_ROOT, and print to standard output.
    """
    with (
        patch.object(OmegaConf, "register_new_resolver"),
        patch.dict(os.environ),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        importlib.import_module("mattergen.common.utils.globals")


def _read_scale_factors(path: Path) -> dict[str, float]:
    """Reads the scale factors of GemNet-dT: name -> factor without unit."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(value) for name, value in table.items() if name != "comment"}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: the scale factors of GemNet cannot be read ({error}); "
            "take assets/gemnet-dT.json of xtalfill"
        ) from error


def enable_mattergen(*, scale_file: Path | None) -> None:
    """Makes ``import mattergen`` work in this process; call it before the first such import.

    Calling it again only changes the scale factors for models built afterwards. A model that
    is loaded from a state dict gets its factors from there.

    Args:
        scale_file: Scale factors of GemNet-dT (JSON, name -> factor): assets/gemnet-dT.json.
            None where they come with a state dict.

    Raises:
        ConfigError: mattergen 1.0.3 is not installed, or the scale factors cannot be read.
    """
    factors = {} if scale_file is None else _read_scale_factors(scale_file)
    try:
        version = importlib.metadata.version("mattergen")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("mattergen is not installed: run 'make setup'") from None
    if version != MATTERGEN_VERSION:
        raise ConfigError(
            f"mattergen {version} is installed, xtalfill is made for {MATTERGEN_VERSION}: "
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
    # The path GemNet hands over lies in the wheel, where the file is missing.
    scaling.__dict__["read_value_json"] = lambda _path, name: factors.get(name)
