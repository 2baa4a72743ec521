"""mattergen with numpy 2 and torch 2.13: the stubs, and a GemNet with them."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from xtalfill.core.errors import ConfigError
from xtalfill.models import mattergen_compat as compat

ROOT = Path(__file__).resolve().parents[2]
SCALE_FILE = ROOT / "assets" / "gemnet-dT.json"
REDUCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sum": lambda rows: rows.sum(axis=0),
    "add": lambda rows: rows.sum(axis=0),
    "mean": lambda rows: rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1:]),
    "mul": lambda rows: rows.prod(axis=0),
    "min": lambda rows: rows.min(axis=0) if len(rows) else np.zeros(rows.shape[1:]),
    "max": lambda rows: rows.max(axis=0) if len(rows) else np.zeros(rows.shape[1:]),
}

slots = st.integers(1, 6)
indices = st.lists(st.integers(0, 5), max_size=20)
seeds = st.integers(0, 2**32 - 1)


@given(index=indices, n_more=slots, seed=seeds, reduce=st.sampled_from(sorted(REDUCTIONS)))
def test_scatter_reduces_each_output(index: list[int], n_more: int, seed: int, reduce: str) -> None:
    n_slots = max(index, default=-1) + n_more  # the last outputs have no input
    src = np.random.default_rng(seed).normal(size=(len(index), 3))
    expected = [REDUCTIONS[reduce](src[np.array(index, int) == slot]) for slot in range(n_slots)]
    got = compat.scatter(
        torch.tensor(src), torch.tensor(index, dtype=torch.long), 0, dim_size=n_slots, reduce=reduce
    )
    np.testing.assert_allclose(got, np.reshape(expected, (n_slots, 3)), atol=1e-12)


@given(index=indices.filter(len), seed=seeds)
def test_scatter_reduces_the_last_axis_by_default(index: list[int], seed: int) -> None:
    src = np.random.default_rng(seed).normal(size=(2, len(index)))
    expected = np.zeros((2, max(index) + 1))
    np.add.at(expected, (slice(None), index), src)
    for function in (compat.scatter, compat.scatter_add):
        got = function(torch.tensor(src), torch.tensor(index))
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_scatter_accepts_dim_size_as_tensor() -> None:
    got = compat.scatter(torch.ones(2), torch.tensor([0, 0]), dim_size=torch.tensor(3))
    assert got.tolist() == [2.0, 0.0, 0.0]


def test_scatter_passes_gradients() -> None:
    src = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([1, 0, 1, 3, 3])
    assert torch.autograd.gradcheck(lambda x: compat.scatter(x, index, 0, dim_size=4), src)


@given(index=indices, seed=seeds, reduce=st.sampled_from(["sum", "mean", "min", "max"]))
def test_segment_reductions(index: list[int], seed: int, reduce: str) -> None:
    index = sorted(index)
    src = np.random.default_rng(seed).normal(size=(len(index), 2))
    indptr = np.searchsorted(index, np.arange(7))
    expected = [REDUCTIONS[reduce](src[start:end]) for start, end in pairwise(indptr)]
    coo = compat.segment_coo(
        torch.tensor(src), torch.tensor(index, dtype=torch.long), dim_size=6, reduce=reduce
    )
    csr = compat.segment_csr(torch.tensor(src), torch.tensor(indptr), reduce=reduce)
    np.testing.assert_allclose(coo, expected, atol=1e-12)
    np.testing.assert_allclose(csr, expected, atol=1e-12)


def test_segment_csr_of_integers_ignores_rows_outside() -> None:
    src = torch.tensor([9, 1, 2, 3, 9])
    got = compat.segment_csr(src, torch.tensor([1, 3, 3, 4]))
    assert got.dtype == torch.int64
    assert got.tolist() == [3, 0, 3]


@given(
    entries=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=25),
    rows=st.lists(st.integers(0, 4), max_size=10),
)
def test_row_selection(entries: list[tuple[int, int]], rows: list[int]) -> None:
    row, col = np.reshape(np.array(entries, dtype=np.int64), (-1, 2)).T
    matrix = compat.SparseTensor(
        row=torch.tensor(row),
        col=torch.tensor(col),
        value=torch.arange(len(entries)),
        sparse_sizes=(5, torch.tensor(4)),
    )
    selected = matrix[torch.tensor(rows, dtype=torch.long)].to("cpu").storage
    columns = (selected.row(), selected.col(), selected.value())
    got = torch.stack(columns, dim=1).tolist()
    # By row, then column, then input order.
    expected = [
        [i, int(col[n]), n]
        for i, wanted in enumerate(rows)
        for n in np.argsort(col, kind="stable").tolist()
        if row[n] == wanted
    ]
    assert got == expected


@pytest.fixture(scope="module")
def gemnet() -> torch.nn.Module:
    """A small GemNet-dT with random weights."""
    compat.enable_mattergen(scale_file=SCALE_FILE)
    from mattergen.common.gemnet.gemnet import GemNetT
    from mattergen.common.gemnet.layers.embedding_block import AtomEmbedding

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GemNetT(
            num_targets=1,
            latent_dim=8,
            atom_embedding=AtomEmbedding(emb_size=32),
            num_blocks=2,
            emb_size_atom=32,
            emb_size_edge=32,
            num_radial=16,
            emb_size_trip=16,
            emb_size_rbf=8,
            emb_size_cbf=8,
            emb_size_bil_trip=16,
            cutoff=4.5,
            # If a limit truncates neighbour lists, GemNet keeps the list of the atom that comes
            # first in the order of atoms and is no longer permutation equivariant.
            max_neighbors=200,
            otf_graph=True,
            regress_stress=True,
            max_cell_images_per_dim=3,
        ).eval()


def crystals(*sizes: int, seed: int = 1) -> dict[str, Any]:
    """Random crystals of low symmetry without equal distances, as input of GemNet."""
    rng = np.random.default_rng(seed)
    n_atoms, n_crystals = sum(sizes), len(sizes)
    lattice = 4.5 * np.eye(3) + rng.normal(scale=0.3, size=(n_crystals, 3, 3))
    return {
        "z": torch.tensor(rng.normal(size=(n_crystals, 8)), dtype=torch.float32),
        "frac_coords": torch.tensor(rng.uniform(size=(n_atoms, 3)), dtype=torch.float32),
        "atom_types": torch.tensor(rng.integers(1, 20, size=n_atoms)),
        "num_atoms": torch.tensor(sizes),
        "batch": torch.arange(n_crystals).repeat_interleave(torch.tensor(sizes)),
        "lattice": torch.tensor(lattice, dtype=torch.float32),
    }


def forces(model: torch.nn.Module, crystal: dict[str, Any]) -> np.ndarray:
    with torch.no_grad():
        result = model(**crystal).forces.numpy()
    assert np.isfinite(result).all()
    assert np.abs(result).max() > 1e-2  # otherwise the comparisons below are empty
    return result


def test_gemnet_takes_its_scale_factors_from_the_file(gemnet: torch.nn.Module) -> None:
    factors = compat._read_scale_factors(SCALE_FILE)
    assert gemnet.out_blocks[0].scale_sum.scale_factor.item() == pytest.approx(
        factors["OutBlock_0_sum"]
    )
    assert gemnet.int_blocks[0].trip_interaction.scale_rbf.scale_factor.item() == pytest.approx(
        factors["TripInteraction_1_had_rbf"]
    )


def test_forces_rotate_with_the_crystal(gemnet: torch.nn.Module) -> None:
    crystal = crystals(5)
    turn = torch.tensor(Rotation.random(rng=3).as_matrix(), dtype=torch.float32)
    turned = crystal | {"lattice": crystal["lattice"] @ turn.T}
    np.testing.assert_allclose(
        forces(gemnet, turned), forces(gemnet, crystal) @ turn.T.numpy(), atol=2e-4
    )


def test_forces_are_invariant_under_translation(gemnet: torch.nn.Module) -> None:
    crystal = crystals(5)
    shifted = crystal | {"frac_coords": (crystal["frac_coords"] + torch.rand(3)) % 1.0}
    np.testing.assert_allclose(forces(gemnet, shifted), forces(gemnet, crystal), atol=2e-4)


def test_forces_follow_permutations(gemnet: torch.nn.Module) -> None:
    crystal = crystals(6)
    order = np.random.default_rng(4).permutation(6)
    permuted = crystal | {key: crystal[key][order] for key in ("frac_coords", "atom_types")}
    np.testing.assert_allclose(forces(gemnet, permuted), forces(gemnet, crystal)[order], atol=2e-4)


def test_crystals_of_a_batch_are_independent(gemnet: torch.nn.Module) -> None:
    both = crystals(4, 6)
    second = {key: both[key][4:] for key in ("frac_coords", "atom_types")}
    second |= {key: both[key][1:] for key in ("z", "num_atoms", "lattice")}
    second["batch"] = torch.zeros(6, dtype=torch.long)
    np.testing.assert_allclose(forces(gemnet, second), forces(gemnet, both)[4:], atol=2e-4)


@settings(max_examples=10)
@given(seed=seeds)
def test_triplets(gemnet: torch.nn.Module, seed: int) -> None:
    edges = torch.tensor(np.random.default_rng(seed).integers(0, 5, size=(2, 15)))
    ba, ca, copy = gemnet.get_triplets(edges, num_atoms=torch.tensor(5))
    target = edges[1].tolist()
    expected = {(b, c) for c in range(15) for b in range(15) if b != c and target[b] == target[c]}
    assert len(ba) == len(expected)
    assert set(zip(ba.tolist(), ca.tolist(), strict=True)) == expected
    assert sorted(ca.tolist()) == ca.tolist()  # the ragged matrix needs sorted rows
    for edge in range(15):
        assert copy[ca == edge].tolist() == list(range(int((ca == edge).sum())))


def test_gemnet_trains(gemnet: torch.nn.Module) -> None:
    loss = gemnet(**crystals(3, 3)).forces.square().mean()
    weights = [weight for weight in gemnet.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    norms = [float(gradient.norm()) for gradient in gradients if gradient is not None]
    assert np.isfinite(norms).all()
    assert max(norms) > 0


def run_python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in a new interpreter with ``path`` first on its module path."""
    folders = [str(ROOT / "bin")] if path is None else [str(path), str(ROOT / "bin")]
    environment = {key: value for key, value in os.environ.items() if key != "PROJECT_ROOT"}
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


ENABLE = f"""
from pathlib import Path
from xtalfill.models.mattergen_compat import enable_mattergen
enable_mattergen(scale_file=Path({str(SCALE_FILE)!r}))
"""


def test_no_side_effects() -> None:
    code = f"""
import os, sys
import xtalfill.models.mattergen_compat
assert not {{"torch_scatter", "torch_sparse", "emmet", "mattergen"}} & set(sys.modules)
{ENABLE}
import numpy as np
from omegaconf import OmegaConf
import mattergen.denoiser
assert not OmegaConf.has_resolver("eval"), "text of a config file could be evaluated"
assert "PROJECT_ROOT" not in os.environ
assert not hasattr(np, "math"), "numpy itself was changed"
from torch_geometric.typing import WITH_TORCH_SCATTER
assert not WITH_TORCH_SCATTER
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_installed_torch_scatter_is_used(tmp_path: Path) -> None:
    (tmp_path / "torch_scatter.py").write_text(
        "from xtalfill.models.mattergen_compat import "
        "scatter, scatter_add, segment_coo, segment_csr\n"
    )
    code = f"{ENABLE}\nimport torch_scatter; print(torch_scatter.__file__)"
    done = run_python(code, path=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "torch_scatter.py"), done.stderr


def test_broken_torch_scatter_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "torch_scatter.py").write_text("import torch_scatter_kernels\n")
    done = run_python(ENABLE, path=tmp_path)
    assert done.returncode != 0
    assert "torch_scatter_kernels" in done.stderr


@pytest.mark.parametrize(
    "text", [None, "not json", "[1, 2]", '{"OutBlock_0_sum": "many"}', '{"OutBlock_0_sum": null}']
)
def test_unreadable_scale_factors_give_one_line(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "factors.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"factors\.json: the scale factors.*assets") as error:
        compat.enable_mattergen(scale_file=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, "1.0.4"])
def test_other_mattergen_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    def installed(_name: str) -> str:
        if version is None:
            raise compat.importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(compat.importlib.metadata, "version", installed)
    with pytest.raises(ConfigError, match="make setup"):
        compat.enable_mattergen(scale_file=SCALE_FILE)
