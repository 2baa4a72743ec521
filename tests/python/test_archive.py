"""Safe reading of third-party torch.save files: exact tensors, no code of the file is run."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from checkpoint_examples import assert_loaded, edit_state, lightning, refusal, write
from gemnet_examples import small_score
from xtalfill.models.checkpoints import load_gemnet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a small pos-only checkpoint."""
    return write(tmp_path / "pos-only", small_score().float())


class Attack:
    """Runs a call when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def test_shell_commands_in_a_pickle_are_not_run(tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    attack = Attack(os.system, f"touch {owned}")
    model = small_score().float()
    state = lightning(model, model.config)["state_dict"]
    cases: list[dict[str, Any]] = [
        {"hyper_parameters": attack},
        {"callbacks": [{"deep": (attack,)}]},
        {"state_dict": attack},
        {"state_dict": {**state, "diffusion_module.model.fc_atom.bias": attack}},
        {"state_dict": Attack(eval, f"open({str(owned)!r}, 'w')")},
    ]
    for number, change in enumerate(cases):
        line = refusal(write(tmp_path / str(number), model, **change))
        assert "which no checkpoint needs, and may be malicious" in line
    (tmp_path / "0" / "checkpoints" / "last.ckpt").write_bytes(pickle.dumps(attack))
    assert "not a readable checkpoint" in refusal(tmp_path / "0")
    assert not owned.exists()
    pickle.loads(pickle.dumps(attack))
    assert owned.exists()  # counter-check: pickle itself runs it


def test_unknown_functions_in_a_pickle_are_not_run(tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    model = small_score().float()
    path = write(tmp_path / "model", model, hyper_parameters=Attack(Path.touch, owned))
    assert_loaded(path, model)
    state = lightning(model, model.config)["state_dict"]
    state["diffusion_module.model.fc_atom.bias"] = Attack(Path.touch, owned)
    torch.save({"state_dict": state}, path / "checkpoints" / "last.ckpt")
    assert "fc_atom.bias is not a tensor" in refusal(path)
    assert not owned.exists()


def replace_pickle(path: Path, content: bytes) -> None:
    """Replace the pickle of a torch.save file."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, value in entries.items():
            file.writestr(name, content if name.endswith("data.pkl") else value)


@pytest.mark.parametrize(
    "opcodes",
    [
        # BUILD on the result of find_class, to change it for files read later
        b"cmattergen.x\nY\n}X\x08\x00\x00\x00__call__X\x01\x00\x00\x00zsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}X\x09\x00\x00\x00_functionNstb.",
        b"ccollections\nOrderedDict\n(N}X\x06\x00\x00\x00updateNstb.",
        # REDUCE of a placeholder of a placeholder, and items for it
        b"cbuiltins\ngetattr\n)R)R(NNu.",
        b"\x80\x02cos\nsystem\n.",
        b"Pnot a tuple\n.",
        b"(lp0\n.",
        b"",
        b"\xff",
    ],
)
def test_forged_pickles_have_no_effect(folder: Path, tmp_path: Path, opcodes: bytes) -> None:
    forged = write(tmp_path / "forged", small_score().float())
    replace_pickle(forged / "checkpoints" / "last.ckpt", opcodes)
    refusal(forged)
    assert_loaded(folder, small_score().float())


def test_tensor_that_exceeds_its_storage(folder: Path) -> None:
    path = folder / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, value in entries.items():
            file.writestr(name, value[:4] if "/data/" in name else value)
    assert "a tensor exceeds storage" in refusal(folder)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in entries.items():
            file.writestr(name, value)
    assert "compressed" in refusal(folder)


def test_views_transposes_and_dtypes_agree_with_torch(folder: Path) -> None:
    expected = load_gemnet(folder).state_dict()

    def rearrange(state: dict[str, Any]) -> None:
        weight = state["diffusion_module.model.fc_atom.weight"]
        state["diffusion_module.model.fc_atom.weight"] = weight.T.contiguous().T
        bias = state["diffusion_module.model.fc_atom.bias"]
        state["diffusion_module.model.fc_atom.bias"] = torch.cat([bias, bias])[len(bias) :]
        div_term = state["diffusion_module.model.noise_level_encoding.div_term"]
        state["diffusion_module.model.noise_level_encoding.div_term"] = div_term.double()
        offset = state["diffusion_module.model.gemnet.radial_basis.rbf.offset"]
        state["diffusion_module.model.gemnet.radial_basis.rbf.offset"] = nn.Parameter(offset)

    edit_state(folder, rearrange)
    for name, value in load_gemnet(folder).state_dict().items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize("keep", [0, 30, 5_000, -100])
def test_truncated(folder: Path, keep: int) -> None:
    weights = folder / "checkpoints" / "last.ckpt"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "last.ckpt: not a readable checkpoint (truncated" in refusal(folder)


def test_damaged_member(folder: Path) -> None:
    weights = folder / "checkpoints" / "last.ckpt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 0xFF
    weights.write_bytes(content)
    assert "last.ckpt: not a readable checkpoint" in refusal(folder)


def test_git_lfs_pointer(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 178000000\n"
    (folder / "checkpoints" / "last.ckpt").write_text(pointer)
    assert "git-LFS pointer, not the weights; run 'git lfs pull'" in refusal(folder)
