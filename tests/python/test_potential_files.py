"""Download and compilation of potentials: correct files, or an error in one line."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from analytic_potential import MorsePotential, WiderMorse
from nequip_examples import tiny_package
from stage_settings import write_settings
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.relax import compiled as module
from xtalfill.relax import download
from xtalfill.relax.compiled import compile_model, disagreement
from xtalfill.relax.download import download_model
from xtalfill.relax.interface import Evaluation, EvaluationError, Potential
from xtalfill.relax.potentials import load_potential

NAME = "nequip.net:some-group/some-model:0.1"
CONTENT = b"a packaged model"


def run(
    repository: Path, script: str, folder: Path, *arguments: str, **env: str
) -> tuple[int, str]:
    """Run a command; return its exit code and stderr."""
    done = subprocess.run(
        [sys.executable, repository / "bin" / script, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return done.returncode, done.stderr


@pytest.fixture
def nequip_net(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Run a local server instead of nequip.net; yield the requested paths."""
    from nequip.utils.model_repository import NequIPNetAPIClient

    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            here = f"http://127.0.0.1:{self.server.server_port}"
            artifact = {"downloadUrl": f"{here}/file", "viewUrl": here, "hostName": "here"}
            answer = json.dumps({"modelId": "m", "artifact": artifact}).encode()
            known = "some-model" in self.path or self.path == "/file"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/file" else answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(NequIPNetAPIClient, "BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NEQUIP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield asked
    server.shutdown()
    server.server_close()


def test_model_is_downloaded_once(tmp_path: Path, nequip_net: list[str]) -> None:
    for name in ("one.nequip.zip", "two.nequip.zip"):
        download_model(NAME, tmp_path / name)
        assert (tmp_path / name).read_bytes() == CONTENT
    assert nequip_net.count("/file") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nequip.net:some-group/none-such:0.1", "is unknown at nequip.net"),
        ("nequip.net:no version", "cannot be downloaded (Invalid model_id format"),
        ("some-group/some-model:0.1", "is not of the form nequip.net:group/model:version"),
    ],
)
def test_invalid_name_gives_one_line(
    tmp_path: Path, nequip_net: list[str], name: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        download_model(name, tmp_path / "m.nequip.zip")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.nequip.zip").exists()


def test_missing_network_gives_one_line(tmp_path: Path, repository: Path) -> None:
    arguments = ["--name", NAME, "--output", "m.nequip.zip", "--record", "r.json"]
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    code, said = run(repository, "fetch_potential.py", tmp_path, *arguments, **nowhere)
    assert code == os.EX_CONFIG
    lines = [line for line in said.splitlines() if line.startswith("ERROR")]
    assert lines == [
        f"ERROR: mlip '{NAME}' cannot be downloaded (ProxyError); run on a machine that "
        "reaches nequip.net, or download the .nequip.zip elsewhere and give its path"
    ]
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


class Fixed(MorsePotential):
    """Fails for one crystal, as if traced with several."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energies of several crystals."""
        if len(crystals) == 1:
            raise EvaluationError("expected dimension 0 to be at least 2")
        return super().evaluate(crystals)


class Silent(MorsePotential):
    """Returns zero forces for all crystals except the first."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energies, and forces of the first."""
        first, *others = super().evaluate(crystals)
        return [first, *(replace(one, forces=0 * one.forces) for one in others)]


class NotFinite(MorsePotential):
    """Returns NaN energies."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return forces."""
        return [replace(one, energy=float("nan")) for one in super().evaluate(crystals)]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (MorsePotential(), ""),
        (WiderMorse(), "differs from the eager one by"),
        (Silent(), "% of the largest force"),
        (NotFinite(), "nan eV/atom"),
        (Fixed(), "cannot be compared on 1 crystal(s): expected dimension"),
    ],
)
def test_compiled_model_must_agree_with_the_eager_one(other: Potential, says: str) -> None:
    found = disagreement(MorsePotential(), other)
    assert says in found
    assert bool(found) == bool(says)


@pytest.mark.parametrize("other", [MorsePotential(), WiderMorse()])
def test_compiled_model_that_differs_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: Potential
) -> None:
    potentials = {"m.nequip.zip": MorsePotential(), "m.nequip.pt2": other}

    def load(mlip: str, *, device: str) -> Potential:
        return potentials[Path(mlip).name]

    def compiles(_package: Path, output: Path, *, device: str) -> str:
        output.write_bytes(b"compiled")
        return ""

    monkeypatch.setattr(module, "load_potential", load)
    monkeypatch.setattr(module, "_nequip_compile", compiles)
    output = tmp_path / "m.nequip.pt2"
    problem = compile_model(tmp_path / "m.nequip.zip", output, device="cpu")
    assert output.is_file() == (problem == "") == (other.name == "morse")


def test_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.nequip.zip").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        compile_model(tmp_path / "m.nequip.zip", tmp_path / "m.nequip.pt2", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["m.nequip.zip"]


@pytest.mark.slow
def test_packaged_model_is_compiled_or_used_as_it_is(tmp_path: Path, repository: Path) -> None:
    package = tiny_package(tmp_path)
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    arguments = [
        "--model",
        str(package),
        "--settings",
        "settings.json",
        "--record",
        "r.json",
        "--outdir",
        ".",
    ]
    for name, env in (("sound", {}), ("without", {"CXX": "/no/such/compiler"})):
        folder = tmp_path / name
        folder.mkdir()
        write_settings(folder, "compile_potential")
        code, said = run(repository, "compile_potential.py", folder, *arguments, **env)
        assert code == 0, said
        record = json.loads((folder / "r.json").read_text())
        found = sorted(path.name for path in folder.glob("*.nequip.*"))
        assert record["parameters"]["model"] == found[0]
        assert record["weights"]["tiny.nequip.zip"] == digest
        reason = record["parameters"]["not_compiled"]
        warnings = [line for line in said.splitlines() if line.startswith("WARNING: tiny")]
        if name == "sound":
            assert (found, reason, warnings) == (["tiny.nequip.pt2"], "", [])
            compiled = load_potential(str(folder / found[0]), device="cpu")
            assert disagreement(load_potential(str(package), device="cpu"), compiled) == ""
        else:
            assert found == ["tiny.nequip.zip"]
            assert "compiler" in reason.lower()
            assert warnings == [f"WARNING: tiny.nequip.zip runs eagerly: {reason}"]


ENTRY = POTENTIALS["nequix-mp-1"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"changed", "sha256"), (b"longer than allowed", "sha256"), (None, "cannot be downloaded")],
)
def test_registered_file_that_cannot_be_used_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    def answer(url: str, timeout: float) -> io.BytesIO:
        if content is None:
            raise urllib.error.URLError("no\nroute")
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    monkeypatch.setattr(download, "MAX_BYTES", 10)
    with pytest.raises(ConfigError, match=says) as caught:
        download.fetch(ENTRY.name, tmp_path / "m.nqx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.nqx").exists()


def test_registered_file_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(ENTRY, sha256=hashlib.sha256(b"weights").hexdigest())
    asked = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(b"weights")

    monkeypatch.setitem(POTENTIALS, ENTRY.name, entry)
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    download.fetch(ENTRY.name, tmp_path / "m.nqx")
    assert (tmp_path / "m.nqx").read_bytes() == b"weights"
    assert asked == [ENTRY.url]
