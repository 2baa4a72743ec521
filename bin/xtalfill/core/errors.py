"""Errors that a user can act on, with the exit code of the command that raised them.

Codes follow ``sysexits.h`` so that Nextflow can tell bad data (do not retry) from a
machine that gave up (retry).
"""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path


class XtalfillError(Exception):
    """A failure worth one line: what went wrong, which structure, how to fix it."""

    exit_code = os.EX_SOFTWARE


class InputError(XtalfillError):
    """The user's data cannot be used (exit 65)."""

    exit_code = os.EX_DATAERR


class ConfigError(XtalfillError):
    """A parameter, a weights file or the installation is wrong (exit 78)."""

    exit_code = os.EX_CONFIG


class TryAgainError(XtalfillError):
    """The task stopped itself and can go on from its checkpoint (exit 75)."""

    exit_code = os.EX_TEMPFAIL


class MemoryNeededError(XtalfillError):
    """The task needs more memory than it was given (exit 137, as if it had been killed)."""

    exit_code = 128 + 9


def run_command(main: Callable[[], None]) -> None:
    """Run a command and turn an `XtalfillError` into one line on stderr and its exit code.

    A full disk is one line, too, and exit 74 (EX_IOERR).

    Args:
        main: The command; it parses ``sys.argv`` itself.
    """
    try:
        main()
    except XtalfillError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        if (reason := _disk_full_reason(error)) is None:
            raise
        # of a copy, where it goes
        names = (getattr(error, name, None) for name in ("filename2", "filename"))
        where = next(filter(None, names), Path.cwd())
        print(f"ERROR: {where}: {reason}; free some, then run with -resume", file=sys.stderr)
        sys.exit(os.EX_IOERR)


def _disk_full_reason(error: BaseException) -> str | None:
    """Return the system's words for a full disk or quota, if that is what an error comes from.

    HDF5 and PyTorch say it in a text of their own, without the number, or only in an error that
    came before.
    """
    seen: BaseException | None = error
    while seen is not None:
        for number in (errno.ENOSPC, errno.EDQUOT):
            words = os.strerror(number)
            if getattr(seen, "errno", None) == number or words in str(seen):
                return words
        seen = seen.__cause__ or seen.__context__
    return None
