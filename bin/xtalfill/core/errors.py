"""Errors that a user can act on, with their exit codes.

The codes follow ``sysexits.h``, so that Nextflow can distinguish bad input (no retry) from
failures of the machine (retry).
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path


class XtalfillError(Exception):
    """An error reported in one line: what is wrong, in which structure, how to fix it."""

    exit_code = os.EX_SOFTWARE


class InputError(XtalfillError):
    """The input data is not usable (exit 65)."""

    exit_code = os.EX_DATAERR


class ConfigError(XtalfillError):
    """A parameter, a weights file or the installation is wrong (exit 78)."""

    exit_code = os.EX_CONFIG


class TryAgainError(XtalfillError):
    """The task stopped and can resume from its checkpoint (exit 75)."""

    exit_code = os.EX_TEMPFAIL


class MemoryNeededError(XtalfillError):
    """The task needs more memory than it was given (exit 137, as after an out-of-memory kill)."""

    exit_code = 128 + 9


def run_command(main: Callable[[], None]) -> None:
    """Run a command; report an `XtalfillError` as one line on stderr and its exit code.

    A full disk is also reported in one line, with exit code 74 (EX_IOERR), and a Python package
    that is not installed as a `ConfigError`.

    Args:
        main: The command; it parses ``sys.argv``.
    """
    try:
        main()
    except XtalfillError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "xtalfill":
            raise
        print(
            f"ERROR: {sys.executable} has no package {error.name}: run make setup in the checkout "
            "of xtalfill, or use -profile apptainer",
            file=sys.stderr,
        )
        sys.exit(ConfigError.exit_code)
    except Exception as error:
        if (reason := _disk_full_reason(error)) is None:
            raise
        # filename2 is the target of a copy
        names = (getattr(error, name, None) for name in ("filename2", "filename"))
        where = next(filter(None, names), Path.cwd())
        print(f"ERROR: {where}: {reason}; free space, then run with -resume", file=sys.stderr)
        sys.exit(os.EX_IOERR)


def _disk_full_reason(error: BaseException) -> str | None:
    """Return the system's message for a full disk or quota if that caused an error, else None.

    HDF5 and PyTorch give it only in the text of the error or in a chained error.
    """
    seen: BaseException | None = error
    while seen is not None:
        for number in (errno.ENOSPC, errno.EDQUOT):
            words = os.strerror(number)
            if getattr(seen, "errno", None) == number or words in str(seen):
                return words
        seen = seen.__cause__ or seen.__context__
    return None
