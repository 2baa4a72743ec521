"""Files of Nequix: what is read, and one-line errors for hostile files."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtalfill.core.errors import ConfigError
from xtalfill.relax.elements import known_elements
from xtalfill.relax.nqx_file import NequixConfig, _parsed, layer_shapes, read_config, read_weights

TINY = Path(__file__).resolve().parents[1] / "fixtures" / "nequix" / "tiny.nqx"


def config() -> dict[str, Any]:
    line: dict[str, Any] = json.loads(TINY.read_bytes().split(b"\n", 1)[0])
    return line


def content(**changes: Any) -> bytes:
    """Return the file with changes of its first line."""
    arrays = TINY.read_bytes().split(b"\n", 1)[1]
    return json.dumps(config() | changes).encode() + b"\n" + arrays


def array(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def first_array(replacement: bytes) -> bytes:
    """Return the file with another first array, of the energies of five elements."""
    line, arrays = TINY.read_bytes().split(b"\n", 1)
    return line + b"\n" + replacement + arrays[128 + 20 :]


def error_of(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_content() -> None:
    found = read_weights(TINY)
    assert found.config.atomic_numbers == (1, 3, 8, 12, 13)
    assert found.config.hidden == {0: 8, 1: 4, 2: 4}
    assert found.atom_energies.shape == (5,)
    assert [layer.linear_out[0].shape[1] for layer in found.layers] == [16, 8]
    assert found.layers[1].skip.keys() == {0}
    assert known_elements(str(TINY)) == {1, 3, 8, 12, 13}


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "first line"),
    "zip": (lambda: b"PK\x03\x04" + bytes(100), "first line"),
    "text": (lambda: b"hello\n", "Expecting value"),
    "not utf-8": (lambda: b"\xff\xfe\n", "codec"),
    "list": (lambda: b"[1]\n", "not a JSON object"),
    "nested": (lambda: b"[" * 100_000 + b"\n", "nested"),
    "endless line": (lambda: b" " * (1 << 21), "does not end"),
    "no elements": (lambda: content(atomic_numbers=[]), "atomic_numbers"),
    "order": (lambda: content(atomic_numbers=[3, 1, 8, 12, 13]), "ascending"),
    "element": (lambda: content(atomic_numbers=[1, 3, 8, 12, 300]), "atomic_numbers"),
    "parity": (lambda: content(hidden_irreps="8x0e + 4x1e"), "hidden_irreps"),
    "no irreps": (lambda: content(hidden_irreps=None), "hidden_irreps"),
    "degree": (lambda: content(hidden_irreps="8x0e + 4x3o"), "above lmax"),
    "large degree": (lambda: content(lmax=9), "lmax"),
    "NaN cutoff": (lambda: content(cutoff=float("nan")), "cutoff"),
    "text cutoff": (lambda: content(cutoff="5"), "cutoff"),
    "no layers": (lambda: content(n_layers=0), "n_layers"),
    "true layers": (lambda: content(n_layers=True), "n_layers"),
    "many layers": (lambda: content(n_layers=10**9), "n_layers"),
    "species weights": (lambda: content(index_weights=True), "supported"),
    "no norm": (lambda: content(layer_norm=False), "supported"),
    "huge": (lambda: content(hidden_irreps="9999x0e", radial_mlp_size=9999), "truncated"),
    "another width": (lambda: content(radial_mlp_size=4), "an array is float32"),
    "cut in the middle": (lambda: TINY.read_bytes()[:5000], "truncated"),
    "cut at the end": (lambda: TINY.read_bytes()[:-1], "truncated"),
    "float64": (lambda: first_array(array(np.zeros(5))), "float64"),
    "shape": (lambda: first_array(array(np.zeros(6, "f4"))), "(6,)"),
    "NaN": (lambda: first_array(array(np.full(5, np.nan, "f4"))), "not finite"),
    "objects": (lambda: first_array(array(np.array([{}], object))), "object"),
    "pickle": (lambda: first_array(pickle.dumps([0] * 100)), "magic"),
    "version": (lambda: first_array(b"\x93NUMPY\x02\x00" + bytes(136)), "version"),
    "header": (lambda: first_array(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 66_000), "header"),
    "other data": (lambda: TINY.read_bytes() + b"abc" * 100, "magic"),
    "one array more": (lambda: TINY.read_bytes() + array(np.zeros(3, "f4")), "other data"),
    "pickle behind": (lambda: TINY.read_bytes() + array(np.array(None, object)), "other data"),
    "scalar cut": (lambda: TINY.read_bytes() + array(np.float64(1.0))[:-1], "truncated"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_gives_one_line(tmp_path: Path, case: str) -> None:
    make, says = HOSTILE[case]
    path = tmp_path / "model.nqx"
    assert says in error_of(path, make())
    known_elements(str(path))  # gives None or the elements, no error


def test_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "no.nqx")
    assert known_elements(str(tmp_path / "no.nqx")) is None


@pytest.mark.parametrize("tail", [b"\n", array(np.float64(0.5)) + array(np.int64(3))])
def test_what_published_files_have_at_the_end(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "model.nqx"
    path.write_bytes(TINY.read_bytes() + tail)
    assert len(read_weights(path).layers) == 2


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 20_000), byte=st.integers(0, 255))
def test_changed_byte_is_read_or_gives_a_config_error(
    tmp_path: Path, place: int, byte: int
) -> None:
    data = bytearray(TINY.read_bytes())
    data[place % len(data)] = byte
    path = tmp_path / "model.nqx"
    path.write_bytes(data)
    with suppress(ConfigError):
        read_weights(path)


@settings(max_examples=50)
@given(
    multiplicities=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    lmax=st.integers(0, 3),
    n_layers=st.integers(1, 3),
)
def test_shapes_agree_with_the_tensor_product(
    multiplicities: list[int], lmax: int, n_layers: int
) -> None:
    from xtalfill.relax.nequix import tensor_product

    irreps = [f"{mul}x{k}{'eo'[k % 2]}" for k, mul in enumerate(multiplicities)][: lmax + 1]
    changes = {"hidden_irreps": " + ".join(irreps), "lmax": lmax, "n_layers": n_layers}
    found: NequixConfig = _parsed(config() | changes)
    for layer in range(n_layers):
        product = tensor_product(found, layer)
        shapes = list(layer_shapes(found, layer))
        assert shapes[found.radial_depth][1] == product.weight_numel
        first = found.radial_depth + 1 + len(found.inputs(layer))
        merged = [mul for mul, _ in product.irreps_out.simplify()]
        assert [shape[0] for shape in shapes[first : first + len(merged)]] == merged
