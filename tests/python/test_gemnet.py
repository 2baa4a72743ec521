"""GemNetScore: agreement with mattergen and XtalPaint, symmetries, weights format."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from gemnet_examples import (
    SCALE_FILE,
    SMALL,
    fill,
    random_crystals,
    small_score,
    upstream_denoiser,
    upstream_score,
)
from xtalfill.core.errors import ConfigError
from xtalfill.models.crystal_graph import symmetric_cell
from xtalfill.models.crystals import Crystals, CrystalScore
from xtalfill.models.gemnet import (
    GemNetConfig,
    GemNetScore,
    config_from_shapes,
    gemnet_graph,
)
from xtalfill.models.weights import load_weights, save_weights

DATA = Path(__file__).parent / "data"
UNCUT = {"sizes": (4, 6), "seed": 7}
# each site has 12 neighbours, clearly separated from the 13th
CUT = {"sizes": (4, 3), "seed": 115}


def site_times(crystals: Crystals) -> Tensor:
    """Return a time for each site."""
    rng = np.random.default_rng(5)
    return torch.tensor(rng.uniform(1e-3, 1.0, size=len(crystals.numbers)))


def single(crystals: Crystals, number: int) -> tuple[Crystals, Tensor]:
    """Return one of several crystals and the indices of its sites."""
    ours = crystals.structure == number
    alone = Crystals(
        crystals.fractions[ours],
        crystals.cell[number : number + 1],
        crystals.numbers[ours],
        torch.zeros(int(ours.sum()), dtype=torch.long),
    )
    return alone, ours


def assert_same(got: Tensor, expected: Tensor, *, atol: float = 1e-12) -> None:
    """Compare scores in double precision; they must not be too small."""
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(got, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("three_fields", [False, True])
@pytest.mark.parametrize(("example", "max_neighbors"), [(UNCUT, 200), (CUT, 12)])
def test_agrees_with_mattergens_denoiser(
    three_fields: bool, example: dict[str, Any], max_neighbors: int
) -> None:
    changes = {"three_fields": three_fields, "max_neighbors": max_neighbors}
    denoiser = upstream_denoiser(replace(SMALL, **changes))
    fill(denoiser)
    model = small_score(**changes)
    crystals = random_crystals(*example["sizes"], seed=example["seed"])
    times = torch.tensor([0.3, 0.8], dtype=torch.float64)
    expected = upstream_score(denoiser, crystals, times)
    assert_same(model.scaled_score(crystals, times[crystals.structure]), expected)


@pytest.mark.parametrize("number", [0, 1])
def test_agrees_with_xtalpaints_network(number: int) -> None:
    # td_gemnet.json: TDGemNetT of psi-lms/XtalPaint, src/xtalpaint/time_dependent/gemnet.py at
    # commit 8e01af38e58fe7f0ac0a72ad97885c4adedb23a5, inside mattergen's GemNetTDenoiser:
    # `upstream_denoiser(config, TDGemNetT)` with the weights of `fill`, given the inputs of the
    # file by `upstream_score`, which is upstream's code in double precision.
    case = json.loads((DATA / "td_gemnet.json").read_text())[number]
    crystals = Crystals(
        torch.tensor(case["fractions"], dtype=torch.float64),
        torch.tensor(case["cell"], dtype=torch.float64),
        torch.tensor(case["numbers"]),
        torch.arange(2).repeat_interleave(torch.tensor(case["sizes"])),
    )
    model = small_score(per_site_times=True, max_neighbors=case["max_neighbors"])
    got = model.scaled_score(crystals, torch.tensor(case["times"], dtype=torch.float64))
    assert_same(got, torch.tensor(case["scaled_score"], dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("three_fields", [False, True])
def test_parameter_names_of_mattergens_denoiser(three_fields: bool) -> None:
    config = replace(SMALL, three_fields=three_fields)
    ours = GemNetScore(config, scale_file=SCALE_FILE).state_dict()
    theirs = upstream_denoiser(config).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs.items()
    }
    for name in theirs:
        if name.endswith(("scale_factor", "div_term", "offset")):
            assert torch.equal(ours[name], theirs[name])
    told = config_from_shapes(ours)
    assert replace(config, **told) == config
    assert set(config.to_dict()) - set(told) == {
        "cutoff", "max_neighbors", "max_cell_images_per_dim", "sigma_min", "sigma_max",
        "per_site_times",
    }  # fmt: skip


def test_equal_site_times_agree_with_one_time() -> None:
    model = small_score(per_site_times=True).float()
    crystals = random_crystals(5, 3)
    times = torch.tensor([0.2, 0.9])
    graph = gemnet_graph(crystals, times[crystals.structure], model.config)
    stock = model.gemnet(
        z=model.noise_level_encoding(times),
        frac_coords=crystals.fractions.float(),
        atom_types=crystals.numbers,
        num_atoms=torch.tensor([5, 3]),
        batch=crystals.structure,
        lattice=symmetric_cell(crystals.cell).float(),
        edge_index=graph.edges,
        to_jimages=graph.images,
        num_bonds=graph.counts,
    ).forces
    inverse = torch.linalg.inv(symmetric_cell(crystals.cell)).float()[crystals.structure]
    expected = (inverse.mT @ stock[:, :, None])[:, :, 0].double()
    assert torch.equal(model.scaled_score(crystals, times[crystals.structure]), expected)


def test_each_site_uses_its_own_time() -> None:
    model = small_score(per_site_times=True)
    crystals = random_crystals(5, 3)
    times = site_times(crystals)
    other = times.clone()
    other[2] = 0.5 * times[2]
    changed = (model.scaled_score(crystals, other) - model.scaled_score(crystals, times)).abs()
    assert changed[2].max() > 1e-5
    assert changed[crystals.structure == 1].max() < 1e-12


def test_different_times_need_per_site_times() -> None:
    model: CrystalScore = small_score()
    crystals = random_crystals(5, 3)
    with pytest.raises(ValueError, match="one time for all sites"):
        model.scaled_score(crystals, site_times(crystals))


@pytest.mark.parametrize("determinant", [1, -1])
def test_invariant_under_rotation(determinant: int) -> None:
    model = small_score(per_site_times=True)
    crystals = random_crystals(5, 3)
    times = site_times(crystals)
    turn = torch.tensor(determinant * Rotation.random(rng=3).as_matrix())
    turned = replace(crystals, cell=crystals.cell @ turn.T)
    expected = model.scaled_score(crystals, times)
    got = model.scaled_score(turned, times)
    assert_same(got, expected)
    # as Cartesian displacements the scores rotate with the cell
    in_space = (expected[:, None] @ crystals.cell[crystals.structure])[:, 0]
    assert_same((got[:, None] @ turned.cell[crystals.structure])[:, 0], in_space @ turn.T)


def test_invariant_under_translation() -> None:
    model = small_score(per_site_times=True)
    crystals = random_crystals(5, 3)
    times = site_times(crystals)
    expected = model.scaled_score(crystals, times)
    shifted = replace(crystals, fractions=crystals.fractions + torch.tensor([0.3, -0.7, 0.55]))
    assert_same(model.scaled_score(shifted, times), expected)
    whole = torch.tensor([[3.0, -2.0, 1.0]]) * torch.arange(8)[:, None]
    shifted = replace(crystals, fractions=crystals.fractions + whole)
    assert_same(model.scaled_score(shifted, times), expected)


def test_equivariant_under_permutation() -> None:
    model = small_score(per_site_times=True)
    crystals = random_crystals(5, 4)
    times = site_times(crystals)
    order = torch.tensor([3, 0, 4, 1, 2, 8, 6, 5, 7])
    permuted = replace(
        crystals, fractions=crystals.fractions[order], numbers=crystals.numbers[order]
    )
    expected = model.scaled_score(crystals, times)[order]
    assert_same(model.scaled_score(permuted, times[order]), expected)


@pytest.mark.parametrize(("example", "max_neighbors"), [(UNCUT, 200), (CUT, 12)])
def test_batch_agrees_with_single_crystals(example: dict[str, Any], max_neighbors: int) -> None:
    # With equal distances at the 12th neighbour rounding would decide: see the module docstring.
    model = small_score(per_site_times=True, max_neighbors=max_neighbors)
    crystals = random_crystals(*example["sizes"], seed=example["seed"])
    times = site_times(crystals)
    together = model.scaled_score(crystals, times)
    for number in range(2):
        alone, ours = single(crystals, number)
        assert_same(model.scaled_score(alone, times[ours]), together[ours])


def test_ties_are_stable_in_single_precision() -> None:
    # Rock salt has many equal distances. The cell is symmetrised in double precision, so that
    # rounding resolves the ties in the same way in all orientations and batches.
    model = small_score(cutoff=7.0, max_neighbors=50).float()
    salt = Crystals(
        torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        2.04 * (1.0 - torch.eye(3, dtype=torch.float64))[None],
        torch.tensor([3, 1]),
        torch.zeros(2, dtype=torch.long),
    )
    expected = model.scaled_score(salt, torch.full((2,), 0.4))
    turn = torch.tensor(Rotation.random(rng=3).as_matrix())
    turned = replace(salt, cell=salt.cell @ turn.T)
    assert_same(model.scaled_score(turned, torch.full((2,), 0.4)), expected, atol=1e-6)
    other = random_crystals(5)
    both = Crystals(
        torch.cat([other.fractions.float(), salt.fractions]),
        torch.cat([other.cell, salt.cell]),
        torch.cat([other.numbers, salt.numbers]),
        torch.tensor([0] * 5 + [1] * 2),
    )
    got = model.scaled_score(both, torch.full((7,), 0.4))[5:]
    assert_same(got, expected, atol=1e-6)


def test_reproducible_and_close_to_double_precision() -> None:
    model = small_score(per_site_times=True)
    crystals = random_crystals(5, 3)
    times = site_times(crystals)
    double = model.scaled_score(crystals, times)
    model.float()
    rounded = model.scaled_score(crystals, times)
    assert torch.equal(model.scaled_score(crystals, times), rounded)
    assert rounded.dtype == torch.float64  # dtype of the coordinates
    assert_same(rounded, double, atol=1e-5)
    singles = replace(crystals, fractions=crystals.fractions.float(), cell=crystals.cell.float())
    assert model.scaled_score(singles, times.float()).dtype == torch.float32


@pytest.mark.parametrize("example", [UNCUT, CUT])
def test_independent_of_the_default_dtype(example: dict[str, Any]) -> None:
    crystals = random_crystals(*example["sizes"], seed=example["seed"])
    changes = {"per_site_times": True, "max_neighbors": 12 if example is CUT else 200}
    times = site_times(crystals)
    expected = small_score(**changes).float().scaled_score(crystals, times)
    torch.set_default_dtype(torch.float64)
    try:
        model = GemNetScore(replace(SMALL, **changes), scale_file=SCALE_FILE).eval()
        fill(model)
        got = model.scaled_score(crystals, times)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert_same(got, expected, atol=1e-5)


def test_symmetric_cell_agrees_with_mattergen() -> None:
    upstream_denoiser(SMALL)  # makes mattergen importable
    from mattergen.common.utils.data_utils import compute_lattice_polar_decomposition

    cell = random_crystals(*[1] * 20).cell
    got = symmetric_cell(cell)
    torch.testing.assert_close(got, compute_lattice_polar_decomposition(cell))
    torch.testing.assert_close(got, got.mT)
    torch.testing.assert_close(got @ got.mT, cell @ cell.mT)
    assert torch.linalg.eigvalsh(got).min() > 0


def test_training_lowers_the_loss() -> None:
    model = small_score(per_site_times=True).float().train()
    model.requires_grad_(requires_grad=True)
    crystals = random_crystals(3, 3)
    loss = model.scaled_score(crystals, site_times(crystals)).square().mean()
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    norms = [float(gradient.norm()) for gradient in gradients if gradient is not None]
    assert np.isfinite(norms).all()
    assert max(norms) > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu() -> None:
    model = small_score(per_site_times=True)
    crystals = random_crystals(5, 3)
    times = site_times(crystals)
    expected = model.scaled_score(crystals, times)
    model.cuda()
    there = Crystals(*(getattr(crystals, name).cuda() for name in crystals.__dataclass_fields__))
    assert_same(model.scaled_score(there, times.cuda()).cpu(), expected, atol=1e-10)


@pytest.mark.parametrize("half", [False, True])
def test_weights_round_trip(tmp_path: Path, half: bool) -> None:
    model = small_score(per_site_times=True, three_fields=True).float()
    path = tmp_path / "gemnet.pt"
    save_weights(model, path, training={"steps": 3}, half=half)
    loaded = load_weights(path)
    assert isinstance(loaded, GemNetScore)
    assert loaded.config == model.config
    assert not loaded.training
    crystals = random_crystals(5, 3)
    times = site_times(crystals)
    expected = model.scaled_score(crystals, times)
    with torch.no_grad():
        assert_same(loaded.scaled_score(crystals, times), expected, atol=1e-3 if half else 0)
    # GemNet has layers with two names, which are stored once
    state = torch.load(path, weights_only=True)["state"]
    twins = [f"gemnet.out_blocks.0.{name}.0.linear.weight" for name in ("layers", "seq_energy")]
    assert state[twins[0]].data_ptr() == state[twins[1]].data_ptr()
    # constants of the network are stored in single precision
    assert torch.equal(loaded.noise_level_encoding.div_term, model.noise_level_encoding.div_term)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "xtalfill-hostnet"}, "configuration"),
        ({"config": {**SMALL.to_dict(), "num_blocks": 4000}}, "num_blocks is 4000"),
        ({"config": {**SMALL.to_dict(), "cutoff": "5"}}, "cutoff is '5'"),
        ({"state": {}}, "invalid network configuration"),
    ],
)
def test_inconsistent_weights_file(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "gemnet.pt"
    save_weights(small_score(), path, training={})
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(ConfigError, match=message):
        load_weights(path)


def test_overflow_in_half_precision_is_detected(tmp_path: Path) -> None:
    model = small_score()
    model.fc_atom.bias[3] = 1e6
    save_weights(model, tmp_path / "gemnet.pt", training={})
    with pytest.raises(ConfigError, match=r"fc_atom\.bias contains NaN or infinity"):
        load_weights(tmp_path / "gemnet.pt")


@pytest.mark.slow
def test_size_of_the_published_models() -> None:
    model = GemNetScore(GemNetConfig(), scale_file=SCALE_FILE)
    assert sum(weight.numel() for weight in model.parameters()) == 44_561_018


def test_crystal_without_edges_has_zero_score() -> None:
    network = small_score()
    alone = Crystals(
        fractions=torch.zeros(1, 3),
        cell=20.0 * torch.eye(3)[None],
        numbers=torch.tensor([1]),
        structure=torch.zeros(1, dtype=torch.int64),
    )
    assert torch.equal(network.scaled_score(alone, torch.ones(1)), torch.zeros(1, 3))


def test_unsupported_element_is_refused() -> None:
    crystals = Crystals(
        fractions=torch.zeros(1, 3),
        cell=3.0 * torch.eye(3)[None],
        numbers=torch.tensor([101]),
        structure=torch.zeros(1, dtype=torch.int64),
    )
    with pytest.raises(ValueError, match="atomic numbers up to 100"):
        small_score().scaled_score(crystals, torch.ones(1))
