"""A headless Chromium without a network, driven over a pipe by the DevTools protocol.

What a page shows is waited for in real time, so that a busy machine is slow and not wrong.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
# Chromium reads commands from file 3 and answers on file 4.
_AS_3_AND_4 = 'exec "${@:3}" 3<&"$1" 4>&"$2"'
_PAUSE = 0.2
_LAST_WORDS = 5.0


class Tab:
    """A page in the browser.

    Attributes:
        errors: What scripts threw, and what the browser refused or could not load.
    """

    def __init__(self, commands: int, answers: int, *, seconds: float) -> None:
        self.errors: list[str] = []
        self._commands, self._answers = commands, answers
        self._deadline = time.monotonic() + seconds
        self._number, self._buffer, self._session = 0, b"", ""

    def open(self, address: str, *, width: int, height: int) -> None:
        """Open an address; returns before it has been drawn."""
        size = {"width": width, "height": height, "newWindow": True}
        made = self._call("Target.createTarget", url="about:blank", **size)
        joined = self._call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        self._session = joined["sessionId"]
        for domain in ("Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; an error of its own is in `errors`."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            self.errors.append(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> bool:
        """Wait until an expression is true or there is an error; return whether it became true."""
        while not self.errors:
            if self.value(expression):
                return True
            if time.monotonic() > self._deadline:
                return False
            time.sleep(_PAUSE)
        return False

    def accessibility_violations(self) -> list[str]:
        """Return what axe finds wrong on the page as shown: its rule and the first element."""
        script = resources.files("axe_core_python").joinpath("axe.min.js")
        self.value(f"{script.read_text(encoding='utf-8')};0")
        self.value("window.axed = null; axe.run().then((found) => { window.axed = found; }); 0")
        assert self.wait_for("window.axed !== null"), self.errors
        told = "window.axed.violations.map((one) => `${one.id}: ${one.nodes[0].html}`)"
        return list(self.value(told))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; keeps the errors that are told meanwhile."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._keep(message)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = self._deadline + _LAST_WORDS - time.monotonic()
            ready, _, _ = select.select([self._answers], [], [], max(0.0, left))
            assert ready, "the browser does not answer"
            data = os.read(self._answers, 2**16)
            assert data, "the browser ended"
            self._buffer += data
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def _keep(self, event: dict[str, Any]) -> None:
        """Keep what tells of an error."""
        kind, told = event.get("method"), event.get("params", {})
        wrong = (
            kind == "Runtime.exceptionThrown"
            or (kind == "Runtime.consoleAPICalled" and told["type"] == "error")
            or (kind == "Log.entryAdded" and told["entry"]["level"] == "error")
        )
        if wrong:
            self.errors.append(json.dumps(told))


@contextmanager
def browser(program: str, folder: Path, *, seconds: float) -> Iterator[Tab]:
    """Start a browser; it ends with the block.

    Args:
        program: Chromium.
        folder: For its profile and log.
        seconds: How long the page may take.
    """
    pipes = [*os.pipe(), *os.pipe()]
    # Clear of 3 and 4.
    commands_in, commands, answers, answers_out = (
        fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in pipes
    )
    for one in pipes:
        os.close(one)
    theirs = (commands_in, answers_out)
    words = ["bash", "-c", _AS_3_AND_4, "bash", *map(str, theirs), program, *_OPTIONS]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            words, pass_fds=theirs, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    for one in theirs:
        os.close(one)
    try:
        yield Tab(commands, answers, seconds=seconds)
    finally:
        process.terminate()
        process.wait(timeout=60)
        os.close(commands)
        os.close(answers)
