"""Functions that numba compiles when they are first called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

Function = Callable[..., Any]


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function and releases the interpreter's lock in it.

    The machine code is kept if a writable folder exists. A read-only container without a home
    folder has none: each process then compiles again.

    Args:
        options: Further options of `numba.njit`.
    """

    def compile_(function: Function) -> Function:
        try:
            made: Function = njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # numba found no writable cache folder
            made = njit(nogil=True, **options)(function)
        return made

    return compile_
