"""Published checkpoints: search, exact reading, one-line errors."""

import inspect
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from checkpoint_examples import assert_loaded, edit_state, lightning, refusal, write
from gemnet_examples import SMALL, fill, random_crystals, small_score, upstream_denoiser
from xtalfill.models.checkpoints import load_gemnet
from xtalfill.models.gemnet import GemNetConfig, GemNetScore

FLAVOURS = {
    "three fields": {"three_fields": True},
    "pos-only": {},
    "TD-pos-only": {"per_site_times": True},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a small pos-only checkpoint."""
    return write(tmp_path / "pos-only", small_score().float())


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the diffusion module of a folder's config.yaml."""
    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    change(content["lightning_module"]["diffusion_module"])
    path.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_round_trip_of_every_variant(tmp_path: Path, flavour: str) -> None:
    original = small_score(**FLAVOURS[flavour], max_neighbors=40, sigma_max=4.0).float()
    path = write(tmp_path / flavour, original)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)
    assert_loaded(path, original)
    crystals = random_crystals(4, 3)
    times = torch.tensor([0.2, 0.9])[crystals.structure]
    expected = original.scaled_score(crystals, times)
    assert torch.equal(load_gemnet(path).scaled_score(crystals, times), expected)


@pytest.mark.parametrize("three_fields", [False, True])
def test_checkpoint_of_mattergens_denoiser(tmp_path: Path, three_fields: bool) -> None:
    original = small_score(three_fields=three_fields).float()
    denoiser = upstream_denoiser(original.config)
    fill(denoiser)
    path = write(tmp_path / "theirs", original, **lightning(denoiser, original.config))
    assert_loaded(path, original)


def test_locations_of_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    original = small_score().float()
    weights = folder / "checkpoints" / "last.ckpt"
    assert_loaded(weights, original)  # config.yaml one folder up
    link = tmp_path / "staged" / "model.ckpt"
    link.parent.mkdir()
    link.symlink_to(weights)
    assert_loaded(link, original)
    (tmp_path / "staged" / "folder").symlink_to(folder)
    assert_loaded(tmp_path / "staged" / "folder", original)
    weights.with_name("epoch=3-loss_val=0.40.ckpt").write_bytes(b"older")
    assert_loaded(folder, original)  # several files, one of them last.ckpt
    beside = weights.rename(folder / "model.ckpt")
    assert_loaded(beside, original)


def test_ambiguous_checkpoint(folder: Path) -> None:
    weights = folder / "checkpoints" / "last.ckpt"
    (folder / "other").mkdir()
    (folder / "other" / "last.ckpt").write_bytes(weights.read_bytes())
    assert "contains 2 .ckpt files, 2 of them last.ckpt" in refusal(folder)
    weights.rename(weights.with_name("a.ckpt"))
    (folder / "other" / "last.ckpt").rename(folder / "other" / "b.ckpt")
    assert "contains 2 .ckpt files, 0 of them last.ckpt; give the path of one" in refusal(folder)
    (folder / "config.yaml").unlink()
    assert "no config.yaml" in refusal(folder / "other" / "b.ckpt")


def test_missing_checkpoint(tmp_path: Path) -> None:
    assert "contains no .ckpt file" in refusal(tmp_path)
    assert "no such file or folder" in refusal(tmp_path / "absent")
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert "no config.yaml" in refusal(tmp_path)


PREFIX = "diffusion_module.model."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(PREFIX + "fc_atom.bias"), "fc_atom.bias missing"),
        (lambda state: state.pop(PREFIX + "gemnet.mlp_rbf3.linear.weight"), "mlp_rbf3.linear"),
        (
            lambda state: state.update({PREFIX + f"gemnet.x{i}": torch.ones(1) for i in range(5)}),
            "gemnet.x0, gemnet.x1, gemnet.x2 and 2 more not expected",
        ),
        (
            lambda state: state.update({"ema_model.fc_atom.bias": torch.ones(100)}),
            "state_dict contains ema_model.fc_atom.bias, not part of MatterGen's GemNet",
        ),
        (
            lambda state: state.update({PREFIX + "fc_atom.bias": torch.ones(99)}),
            "fc_atom.bias has shape (99,), not (100,)",
        ),
        (
            lambda state: state[PREFIX + "fc_atom.bias"].fill_(torch.nan),
            "fc_atom.bias contains NaN or infinity",
        ),
        (
            lambda state: state.update(
                {PREFIX + "property_embeddings_adapt.dft_band_gap.scaler.means": torch.ones(1)}
            ),
            "conditioned on dft_band_gap; give an unconditional model",
        ),
        (lambda state: state.clear(), "no state_dict"),
    ],
)
def test_checkpoint_of_another_network(
    folder: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit_state(folder, change)
    assert message in refusal(folder)


def test_file_of_another_format(folder: Path) -> None:
    for content in ([1, 2], {"weights": torch.ones(3)}, torch.ones(3)):
        torch.save(content, folder / "checkpoints" / "last.ckpt")
        assert "not a Lightning checkpoint (no state_dict)" in refusal(folder)


def test_averaged_weights_of_callbacks_are_ignored(tmp_path: Path) -> None:
    original = small_score().float()
    other = small_score().float()
    fill(other, seed=1)
    changes = {"ema_state_dict": other.state_dict(), "callbacks": {"EMA": other.state_dict()}}
    assert_loaded(write(tmp_path / "model", original, **changes), original)


def test_interpolations_are_not_resolved(folder: Path, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    harm = '${eval:\'__import__("pathlib").Path("' + str(owned) + "\").touch()'}"

    def unresolved(module: dict[str, Any]) -> None:
        module["model"]["gemnet"]["latent_dim"] = harm
        module["model"]["gemnet"]["emb_size_atom"] = "${..hidden_dim}"
        module["model"]["gemnet"]["atom_embedding"]["with_mask_type"] = harm
        module["model"]["gemnet"]["scale_file"] = "${oc.env:PROJECT_ROOT}/gemnet-dT.json"

    edit(folder, unresolved)
    assert_loaded(folder, small_score().float())
    edit(folder, lambda module: module["model"]["gemnet"].update(cutoff=harm))
    assert "cutoff is" in refusal(folder)
    assert not owned.exists()


def test_missing_settings_have_upstream_defaults(folder: Path) -> None:
    def shorten(module: dict[str, Any]) -> None:
        for name in ("cutoff", "max_neighbors", "max_cell_images_per_dim", "_target_"):
            del module["model"]["gemnet"][name]
        del module["corruption"]

    edit(folder, shorten)
    config = load_gemnet(folder).config
    assert config == replace(SMALL, cutoff=6.0, max_neighbors=50, max_cell_images_per_dim=5)
    # mattergen's own classes have these defaults
    gemnet = upstream_denoiser(SMALL).gemnet
    from mattergen.common.diffusion.corruption import NumAtomsVarianceAdjustedWrappedVESDE

    theirs = inspect.signature(type(gemnet).__init__).parameters
    assert theirs["cutoff"].default == config.cutoff
    assert theirs["max_neighbors"].default == config.max_neighbors
    assert theirs["max_cell_images_per_dim"].default == config.max_cell_images_per_dim
    noise = NumAtomsVarianceAdjustedWrappedVESDE()
    assert (noise.sigma_min, noise.sigma_max) == (config.sigma_min, config.sigma_max)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda module: module["model"].update(hidden_dim=64), "hidden_dim is 64 but"),
        (lambda module: module["model"]["gemnet"].update(num_blocks=3), "num_blocks is 3"),
        (lambda module: module["model"]["gemnet"].update(latent_dim=64), "latent_dim is 64"),
        (
            lambda module: module["model"]["gemnet"]["atom_embedding"].update(with_mask_type=True),
            "three_fields is True",
        ),
        (lambda module: module["model"]["gemnet"].update(cutoff=-7), "cutoff is -7"),
        (lambda module: module["model"]["gemnet"].update(cutoff=float("nan")), "cutoff is nan"),
        (lambda module: module["model"]["gemnet"].update(max_neighbors=50.5), "max_neighbors"),
        (
            lambda module: module["model"]["gemnet"].update(rbf={"name": "bernstein"}),
            "rbf is {'name': 'bernstein'}; supported: {'name': 'gaussian'}",
        ),
        (lambda module: module["model"]["gemnet"].update(_target_="a.B"), "gemnet is B; supported"),
        (
            lambda module: module["model"].update(_target_="mattergen.adapter.GemNetTAdapter"),
            "model is GemNetTAdapter; supported: GemNetTDenoiser",
        ),
        (
            lambda module: module["corruption"]["sdes"]["pos"].update(_target_="x.VPSDE"),
            "corruption.sdes.pos is VPSDE",
        ),
        (
            lambda module: module["corruption"]["sdes"]["pos"].update(wrapping_boundary=2.0),
            "wrapping_boundary is 2.0",
        ),
        (lambda module: module.update(_target_="x.TDDiffusionModule"), "no time for each site"),
        (lambda module: module["model"].pop("gemnet"), "no section lightning_module"),
    ],
)
def test_configuration_of_another_network(
    folder: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(folder, change)
    line = refusal(folder)
    assert message in line
    assert "config.yaml" in line


@pytest.mark.parametrize(
    "text", ["a: [", "!!python/object/apply:os.system ['touch owned']", "\x00", "- 1", ""]
)
def test_unreadable_configuration(
    folder: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "config.yaml").write_text(text)
    assert "config.yaml: " in refusal(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_full_size(tmp_path: Path, flavour: str) -> None:
    original = GemNetScore(GemNetConfig(**FLAVOURS[flavour])).eval()
    fill(original)
    loaded = load_gemnet(write(tmp_path / "model", original))
    n_parameters = sum(weight.numel() for weight in loaded.parameters())
    # one more element to read (512) and to predict (512 and a bias)
    assert n_parameters == 44_561_018 + (1025 if original.config.three_fields else 0)
    crystals = random_crystals(4)
    times = torch.full((4,), 0.5)
    with torch.no_grad():
        expected = original.scaled_score(crystals, times)
        assert torch.equal(loaded.scaled_score(crystals, times), expected)
    assert torch.isfinite(expected).all()
    assert expected.abs().max() > 1e-4
