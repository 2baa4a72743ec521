"""A progress bar made from the lines that the stages write."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# "inpaint: host, 5/10 candidates" of INPAINT, "relax_sites: 3/10 done, 0 failed" of RELAX.
_LINE = re.compile(r"^(?P<step>\w+): .*?(?P<done>\d+)/(?P<total>\d+) ", re.MULTILINE)


class _Bars(io.TextIOBase):
    """A stream that shows the lines of the stages as bars."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step = ""
        self._task = progress.add_task("check", total=None)

    def write(self, text: str) -> int:
        """Update the bar of the step that a line names."""
        for line in _LINE.finditer(text):
            if line["step"] != self._step:
                self._step = line["step"]
                self._progress.reset(self._task, total=int(line["total"]), description=self._step)
            self._progress.update(self._task, completed=int(line["done"]), total=int(line["total"]))
        return len(text)


@contextmanager
def progress_stream(*, shown: bool) -> Iterator[TextIO]:
    """Yield the stream for the lines of the stages: a bar on stderr, or nothing.

    A bar appears only in a terminal, and in a notebook with ipywidgets.
    """
    console = Console(stderr=True)
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    if not shown or not (console.is_terminal or notebook):
        yield io.StringIO()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)  # type: ignore[misc]
