"""Elements of a potential, read from its file without loading it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nequip_examples import tiny_package
from xtalfill.relax.elements import known_elements
from xtalfill.relax.potentials import SEVENNET_NAMES, load_potential

BUNDLED = Path(__file__).resolve().parents[2] / "assets/potential/nequip-small.nequip.zip"


def archive(path: Path, name: str, content: str) -> str:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("some/data", b"")
        file.writestr(name, content)
    return str(path)


def packaged(path: Path, types: str) -> str:
    return archive(path, "m/model/package_metadata.txt", f"atom_types: {types}\n")


@pytest.mark.parametrize("name", [*SEVENNET_NAMES, str(BUNDLED)])
def test_agrees_with_the_loaded_potential(name: str) -> None:
    assert known_elements(name) == load_potential(name, device="cpu").elements


def test_bundled_model_by_name() -> None:
    assert known_elements("nequip-small") == known_elements(str(BUNDLED))


def test_compiled_model(tmp_path: Path) -> None:
    """Metadata that torch's inductor writes and nequip-compile fills."""
    content = json.dumps({"type_names": "H Al", "num_types": "2", "AOTI_DEVICE_KEY": "cpu"})
    path = tmp_path / "m.nequip.pt2"
    name = "m/data/aotinductor/model/cab.wrapper_metadata.json"
    assert known_elements(archive(path, name, content)) == {1, 13}


def test_unknown_elements_are_none(tmp_path: Path) -> None:
    damaged = tmp_path / "a.nequip.zip"
    damaged.write_bytes(BUNDLED.read_bytes()[:5000])
    assert known_elements(str(damaged)) is None
    assert known_elements(str(tmp_path / "missing.nequip.zip")) is None
    assert known_elements(str(tmp_path)) is None
    assert known_elements("nequip.net:mir-group/NequIP-OAM-L:0.1") is None
    assert known_elements("7net-9") is None
    for number, types in enumerate(("[H, Al]", "{0: H, 1: X1}", "{}", "3", "{0: [", "")):
        assert known_elements(packaged(tmp_path / f"{number}.nequip.zip", types)) is None
    assert known_elements(archive(tmp_path / "b.nequip.zip", "m/other", "")) is None
    content = archive(tmp_path / "c.nequip.pt2", "m/x.wrapper_metadata.json", "[]")
    assert known_elements(content) is None


def test_does_not_import_torch() -> None:
    code = "import sys; from xtalfill.relax.elements import known_elements as known; "
    code += "known('7net-0'), known(sys.argv[1]); assert 'torch' not in sys.modules"
    bin_folder = BUNDLED.parents[2] / "bin"
    subprocess.run([sys.executable, "-c", code, str(BUNDLED)], cwd=bin_folder, check=True)


@pytest.mark.slow
def test_package_and_its_compiled_model(tmp_path: Path) -> None:
    package, compiled = tiny_package(tmp_path), tmp_path / "tiny.nequip.pt2"
    assert known_elements(str(package)) == {1, 13}
    command = [sys.executable, "-m", "nequip.scripts.compile", package, compiled]
    options = ["--mode", "aotinductor", "--target", "batch", "--device", "cpu"]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=600)
    assert known_elements(str(compiled)) == {1, 13}
