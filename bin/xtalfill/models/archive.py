"""Safe reader of third-party ``torch.save`` files: runs none of their code.

A Lightning checkpoint contains arbitrary objects besides tensors. ``torch.load`` refuses it with
``weights_only=True``, and otherwise imports and calls whatever the file names. This reader
replaces every such object by an inert placeholder: the pickle can create only tensors, plain
values and placeholders.
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

_MAX_PICKLE_SIZE = 64 << 20  # bytes, tensors excluded
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
# No network needs these names, and they are never called; a file with them is malicious.
_FORBIDDEN_MODULES = frozenset(
    {"ctypes", "importlib", "nt", "os", "posix", "pty", "runpy", "shutil", "socket", "subprocess"}
)
_FORBIDDEN_BUILTINS = frozenset({"__import__", "compile", "eval", "exec", "execfile", "open"})


@dataclass(frozen=True)
class StoredTensor:
    """Location of a tensor in the archive; `Archive.tensor` reads it.

    Attributes:
        key: Name of the storage.
        dtype: Data type.
        offset: Index of the first element in the storage.
        size: Shape.
        stride: Stride along each dimension, in elements.
    """

    key: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Placeholder:
    """Placeholder for an object that is not a tensor; accepts all pickle operations."""

    __slots__ = ()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Placeholder:
        return object.__new__(cls)

    def __call__(self, *_args: Any, **_kwargs: Any) -> _Placeholder:
        return self

    def __setstate__(self, *_state: Any) -> None:
        """Ignore the state; defined here so that a pickle cannot change the class."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Ignore an item."""

    def append(self, _item: Any) -> None:
        """Ignore an item."""

    extend = add = append


class _SafeCallable:
    """A function that the pickle may call; its attributes cannot be set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, *_state: Any) -> None:
        """Ignore the state."""


def _stored_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_flags: Any) -> Any:
    """Return the location of a tensor; signature of `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, tuple):
        return _Placeholder()
    return StoredTensor(storage[0], storage[1], offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_flags: Any) -> Any:
    """Return the tensor of a parameter; signature of `torch._utils._rebuild_parameter`."""
    return data


class _Unpickler(pickle.Unpickler):
    """Creates plain values, `StoredTensor` and `_Placeholder`; imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a class or function named in the file."""
        root = module.partition(".")[0]
        if root in _FORBIDDEN_MODULES or (
            root in ("builtins", "__builtin__") and name in _FORBIDDEN_BUILTINS
        ):
            raise pickle.UnpicklingError(
                f"the file names {module}.{name}, which no checkpoint needs, and may be malicious; "
                "none of its code was run"
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
        """Return name and data type of a storage, or a placeholder for an unknown type."""
        _, dtype, key, *_ = pid
        return (str(key), dtype) if isinstance(dtype, torch.dtype) else _Placeholder()


class Archive:
    """An open ``torch.save`` file.

    Attributes:
        content: Saved object, with `StoredTensor` for tensors and placeholders for objects.
    """

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        """Read everything except the tensors; use `open_archive`."""
        self._path, self._file = path, file
        pickles = [name for name in file.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("not a torch.save file")
        self._folder = pickles[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in file.namelist() and file.read(order) != b"little":
            raise ValueError("big-endian data is not supported")
        if file.getinfo(pickles[0]).file_size > _MAX_PICKLE_SIZE:
            raise ValueError("its pickle is too large")
        self.content: Any = _Unpickler(BytesIO(file.read(pickles[0]))).load()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor.

        Args:
            stored: Location of the tensor.

        Raises:
            ConfigError: The file is damaged, or the tensor exceeds its storage.
        """
        with _one_line_errors(self._path):
            info = self._file.getinfo(f"{self._folder}data/{stored.key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its tensors are compressed, which torch.save does not do")
            numbers = info.file_size // stored.dtype.itemsize
            steps = zip(stored.size, stored.stride, strict=True)
            last = stored.offset + sum((length - 1) * step for length, step in steps)
            smallest = min((stored.offset, *stored.size, *stored.stride))
            if smallest < 0 or last >= numbers or prod(stored.size) > numbers:
                raise ValueError(f"a tensor exceeds storage {stored.key}")
            # torch.frombuffer needs a writable buffer
            flat = torch.frombuffer(bytearray(self._file.read(info)), dtype=stored.dtype)
            return flat.as_strided(stored.size, stored.stride, stored.offset).contiguous()


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a ``torch.save`` file of unknown origin.

    Args:
        path: File.

    Raises:
        ConfigError: The file is missing, damaged, of another format, or malicious.
    """
    with _one_line_errors(path):
        with path.open("rb") as start:
            if start.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ValueError("it is a git-LFS pointer, not the weights; run 'git lfs pull'")
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
    """Convert every exception caused by a damaged or forged file to a `ConfigError`."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ConfigError(
            f"{path}: not a readable checkpoint (truncated, or not a torch.save file)"
        ) from error
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, KeyError, IndexError,
            AttributeError, NotImplementedError, OverflowError, RuntimeError,
            RecursionError, MemoryError) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:160] or type(error).__name__
        raise ConfigError(f"{path}: not a readable checkpoint ({reason})") from error
