"""Selection of the weights for each method, and errors of one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from test_inpaint import CONFIG, make_batch
from xtalfill.core.errors import ConfigError
from xtalfill.core.record import file_sha256
from xtalfill.models.gemnet import GemNetConfig, GemNetScore
from xtalfill.models.hostnet import HostNet
from xtalfill.models.weights import ScoreNetwork, save_weights
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.score_models import ScoreModels, kind_of, load_models
from xtalfill.proposals.stage import STAGE, inpaint_batch

ASSETS = Path(__file__).resolve().parents[2] / "assets"
KINDS = ("host", "td", "pos", "mattergen")
FAST = SamplerSettings(steps=3, corrector_steps=1, resampling=2, jump_length=1)


def small(kind: str, **changes: object) -> ScoreNetwork:
    torch.manual_seed(3)
    if kind == "host":
        return HostNet(CONFIG).eval()
    config = GemNetConfig(
        hidden_dim=16, emb_size_edge=16, emb_size_trip=8, emb_size_bil_trip=8, num_radial=8,
        num_blocks=1, max_neighbors=8, max_cell_images_per_dim=2, cutoff=5.0,
        three_fields=kind == "mattergen", per_site_times=kind == "td", **changes,
    )  # fmt: skip
    return GemNetScore(config, scale_file=ASSETS / "gemnet-dT.json").eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    for kind in KINDS:
        save_weights(small(kind), folder / f"{kind}.pt", training={})
    return {kind: folder / f"{kind}.pt" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_kind_of_a_network(files: dict[str, Path], kind: str) -> None:
    method = {"pos": "repaint"}.get(kind, kind)
    models = load_models([method, "random"], given=[files[kind]], bundled=[])
    assert list(models.networks) == [kind]
    assert kind_of(models.networks[kind]) == kind
    assert models.checksums == {f"{kind}.pt": file_sha256(files[kind])}
    assert models.of_method("random") is None


@pytest.mark.parametrize("path", sorted((ASSETS / "weights").glob("*.pt")), ids=lambda p: p.name)
def test_bundled_weights_match_their_name(path: Path) -> None:
    models = load_models([path.stem], given=[], bundled=[path])
    assert kind_of(models.networks[path.stem]) == path.stem
    listed = (path.parent / "SHA256SUMS").read_text().splitlines()
    assert f"{file_sha256(path)}  {path.name}" in listed


def test_given_weights_come_before_bundled_ones(files: dict[str, Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    save_weights(small("host"), mine, training={})
    models = load_models(["host", "td"], given=[mine], bundled=list(files.values()))
    assert set(models.checksums) == {"mine.pt", "td.pt"}


def test_unused_duplicate_or_missing_weights_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"td\.pt: weights of kind td, which no method"):
        load_models(["host"], given=[files["td"]], bundled=[files["host"]])
    with pytest.raises(ConfigError, match=r"host\.pt: a second file of kind host"):
        load_models(["host"], given=[files["host"], files["host"]], bundled=[])
    with pytest.raises(ConfigError, match="method repaint needs weights of kind pos"):
        load_models(["repaint"], given=[], bundled=[files["host"], files["td"]])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("no weights")
    with pytest.raises(ConfigError, match=r"notes\.md: not weights; give a \.pt file"):
        load_models(["host"], given=[tmp_path / "notes.md"], bundled=[])


def test_weights_of_another_noise_are_refused(tmp_path: Path) -> None:
    save_weights(small("pos", sigma_max=3.0), tmp_path / "pos.pt", training={})
    with pytest.raises(ConfigError, match=r"trained with noise from 0.01 to 3.0"):
        load_models(["pos"], given=[tmp_path / "pos.pt"], bundled=[])


@pytest.mark.parametrize("method", ["td", "pos", "repaint", "mattergen"])
def test_methods_over_whole_crystals_fill_a_batch(
    files: dict[str, Path], method: str, brucite: Atoms, rocksalt: Atoms
) -> None:
    """Host bits kept, sites in the cell, and the same bits alone and in a batch."""
    torch.set_num_threads(1)
    crystals = {"brucite": brucite, "rocksalt": rocksalt}
    models = load_models([method], given=[], bundled=list(files.values()))
    rows = [("rocksalt", method, 0), ("brucite", method, 0), ("brucite", method, 1)]
    batch, alone = make_batch(crystals, rows, 42), make_batch(crystals, rows[2:], 42)
    before = batch.positions.copy()
    for each in (batch, alone):
        inpaint_batch(each, models, FAST)
    after = batch.stages[STAGE].arrays["positions"]
    assert list(batch.status) == ["ok"] * 3
    assert after[batch.is_host].tobytes() == before[batch.is_host].tobytes()
    sites = after[batch.atoms_slice(2)]
    assert sites.tobytes() == alone.stages[STAGE].arrays["positions"].tobytes()
    assert not np.array_equal(sites, after[batch.atoms_slice(1)])
    fractions = sites @ np.linalg.inv(brucite.cell.array)
    assert ((fractions[3:] > -1e-9) & (fractions[3:] < 1 + 1e-9)).all()


def test_an_element_beyond_gemnet_fails_that_structure_alone(
    files: dict[str, Path], brucite: Atoms
) -> None:
    heavy = brucite.copy()
    heavy.numbers[0] = 101
    batch = make_batch(
        {"heavy": heavy, "brucite": brucite}, [("heavy", "pos", 0), ("brucite", "pos", 0)], 42
    )
    models = load_models(["pos"], given=[files["pos"]], bundled=[])
    inpaint_batch(batch, models, FAST)
    assert list(batch.status) == ["failed", "ok"]
    assert batch.message[0] == "inpaint: the score model knows elements up to 100"


def test_a_model_that_does_not_fit_its_method_is_refused(brucite: Atoms) -> None:
    batch = make_batch({"brucite": brucite}, [("brucite", "td", 0)], 42)
    models = ScoreModels({"td": small("pos")})
    with pytest.raises(ConfigError, match="a time per site"):
        inpaint_batch(batch, models, FAST)
