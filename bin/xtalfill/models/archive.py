"""Reads the tensors of a foreign ``torch.save`` file without running any of its code.

A Lightning checkpoint holds, beside tensors, whatever objects the training run had at hand.
``torch.load(weights_only=True)`` then refuses the file, and anything else would import and call
what the file names. Here every such object becomes an inert stand-in: the file's pickle can
make tensors, plain values and stand-ins, and nothing else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xtalfill.core.checksums import check_recorded, zip_damage
from xtalfill.core.errors import ConfigError

_MAX_PICKLE_SIZE = 64 << 20  # bytes, without the tensors
_LFS_POINTER = b"version https://git-lfs"
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# No network needs these. They would not run either way; a file that names them is an attack.
_FORBIDDEN_MODULES = frozenset(
    {"ctypes", "importlib", "nt", "os", "posix", "pty", "runpy", "shutil", "socket", "subprocess"}
)
_FORBIDDEN_BUILTINS = frozenset({"__import__", "compile", "eval", "exec", "execfile", "open"})


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the archive; read it with `Archive.tensor`.

    Attributes:
        key: Name of its storage.
        dtype: Type of its numbers.
        offset: Its first number within the storage.
        size: Its shape.
        stride: Steps between its numbers along each dimension.
    """

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Placeholder:
    """Stands in for every object that is no tensor; takes any treatment and does nothing."""

    __slots__ = ()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Placeholder:
        return object.__new__(cls)

    def __call__(self, *_args: Any, **_kwargs: Any) -> _Placeholder:
        return self

    def __setstate__(self, *_state: Any) -> None:
        """Ignore the state; as a method of the class it keeps a pickle from changing the class."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Ignore an item."""

    def append(self, _item: Any) -> None:
        """Ignore an item."""

    extend = add = append


class _SafeCallable:
    """A function the pickle may call; no attribute of it can be set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, *_state: Any) -> None:
        """Ignore the state."""


def _stored_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_flags: Any) -> Any:
    """Note where a tensor lies; as `torch._utils._rebuild_tensor_v2` is called."""
    if not isinstance(storage, tuple):
        return _Placeholder()
    return StoredTensor(storage[0], storage[1], offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_flags: Any) -> Any:
    """Return a parameter's tensor; as `torch._utils._rebuild_parameter` is called."""
    return data


class _Unpickler(pickle.Unpickler):
    """Makes plain values, `StoredTensor`, `_Placeholder`; imports and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the file stands for; never what it really names."""
        root = module.partition(".")[0]
        if root in _FORBIDDEN_MODULES or (
            root in ("builtins", "__builtin__") and name in _FORBIDDEN_BUILTINS
        ):
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no checkpoint needs; nothing of it was run, "
                "do not trust the file"
            )
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name.startswith("_rebuild_tensor_v2"):
            return _SafeCallable(_stored_tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _SafeCallable(_parameter)
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return _Placeholder

    def persistent_load(self, pid: Any) -> Any:
        """Return name and type of a storage, or a stand-in for a type that is not known."""
        _, dtype, key, *_ = pid
        return (str(key), dtype) if isinstance(dtype, torch.dtype) else _Placeholder()


class Archive:
    """An open ``torch.save`` file.

    Attributes:
        content: What was saved, with `StoredTensor` for tensors and stand-ins for objects.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        """Read everything but the tensors; use `open_archive`."""
        self._path, self._file = path, file
        pickles = [name for name in file.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is no file of torch.save")
        self._folder = pickles[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in file.namelist() and file.read(order) != b"little":
            raise ValueError("its numbers are big-endian")
        if file.getinfo(pickles[0]).file_size > _MAX_PICKLE_SIZE:
            raise ValueError("it holds too much beside tensors")
        self.content: Any = _Unpickler(BytesIO(file.read(pickles[0]))).load()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor.

        Args:
            stored: Where it lies.

        Raises:
            ConfigError: The file is damaged, or the tensor lies outside its storage.
        """
        with _one_line_errors(self._path):
            info = self._file.getinfo(f"{self._folder}data/{stored.key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its tensors are compressed, which torch.save never does")
            numbers = info.file_size // stored.dtype.itemsize
            steps = zip(stored.size, stored.stride, strict=True)
            last = stored.offset + sum((length - 1) * step for length, step in steps)
            smallest = min((stored.offset, *stored.size, *stored.stride))
            if smallest < 0 or last >= numbers or prod(stored.size) > numbers:
                raise ValueError(f"a tensor lies outside storage {stored.key}")
            # a bytearray may be written to, which torch asks of what it wraps
            flat = torch.frombuffer(bytearray(self._file.read(info)), dtype=stored.dtype)
            return flat.as_strided(stored.size, stored.stride, stored.offset).contiguous()


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a ``torch.save`` file of unknown origin.

    Args:
        path: The file.

    Raises:
        ConfigError: It is missing, damaged, no such file, or an attack.
    """
    with _one_line_errors(path):
        with path.open("rb") as start:
            if start.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ValueError("it is a git-LFS pointer, not the weights: run 'git lfs pull'")
        check_recorded(path)
        if (damage := zip_damage(path)) is not None:
            raise ValueError(damage)
        file = zipfile.ZipFile(path)
    with file:
        with _one_line_errors(path):
            archive = Archive(path, file)
        yield archive


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or forged file causes into one line."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ConfigError(
            f"{path}: not a readable checkpoint (cut off, or no file of torch.save)"
        ) from error
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, KeyError, IndexError,
            AttributeError, NotImplementedError, OverflowError, RuntimeError,
            RecursionError, MemoryError) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:160] or type(error).__name__
        raise ConfigError(f"{path}: not a readable checkpoint ({reason})") from error
