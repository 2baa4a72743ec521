"""Edges of GemNet: equal to those of mattergen, and well-defined for ties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from gemnet_examples import SCALE_FILE
from xtalfill.models.crystal_graph import CrystalGraph, crystal_graph
from xtalfill.models.crystals import Crystals
from xtalfill.models.gemnet import _DoublePrecision
from xtalfill.models.mattergen_compat import enable_mattergen


def crystals(*sizes: int, seed: int, edge: float, skew: float) -> Crystals:
    """Return crystals with nearly cubic to strongly skewed cells."""
    rng = np.random.default_rng(seed)
    cell = edge * (np.eye(3) + skew * rng.normal(size=(len(sizes), 3, 3)))
    return Crystals(
        fractions=torch.tensor(rng.random((sum(sizes), 3))),
        cell=torch.tensor(cell),
        numbers=torch.ones(sum(sizes), dtype=torch.int64),
        structure=torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)),
    )


def found(given: Crystals, *, cutoff: float, max_neighbors: int, max_images: int) -> CrystalGraph:
    return crystal_graph(
        given.fractions, given.cell, given.structure,
        cutoff=cutoff, max_neighbors=max_neighbors, max_images=max_images,
    )  # fmt: skip


def of_mattergen(
    given: Crystals, *, cutoff: float, max_neighbors: int, max_images: int
) -> tuple[Tensor, Tensor, Tensor]:
    enable_mattergen(scale_file=SCALE_FILE)
    from mattergen.common.utils.data_utils import radius_graph_pbc

    with _DoublePrecision():
        return radius_graph_pbc(
            cart_coords=(given.fractions[:, None] @ given.cell[given.structure])[:, 0],
            lattice=given.cell,
            num_atoms=torch.bincount(given.structure),
            radius=cutoff,
            max_num_neighbors_threshold=max_neighbors,
            max_cell_images_per_dim=max_images,
        )


@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    edge=st.floats(2.0, 9.0),
    skew=st.floats(0.0, 0.25),
    max_images=st.sampled_from([1, 5]),
)
@settings(max_examples=60)
def test_edges_agree_with_mattergen(
    seed: int, sizes: list[int], edge: float, skew: float, max_images: int
) -> None:
    made = crystals(*sizes, seed=seed, edge=edge, skew=skew)
    if made.cell.det().abs().min() < 0.05 * edge**3:
        return  # nearly flat cell with very many images
    limits = {"cutoff": 5.0, "max_neighbors": 10_000, "max_images": max_images}
    ours, theirs = found(made, **limits), of_mattergen(made, **limits)
    assert ours.counts.tolist() == theirs[2].tolist()
    assert torch.equal(ours.edges, theirs[0])
    assert torch.equal(ours.images.double(), theirs[1].double())


@pytest.mark.parametrize("max_neighbors", [1, 4, 12, 30])
def test_truncated_lists_have_the_same_lengths_as_mattergen(max_neighbors: int) -> None:
    """Images of a site come in pairs of equal distance; either one may be kept."""
    made = crystals(5, 1, 8, seed=4, edge=5.0, skew=0.15)
    limits = {"cutoff": 6.0, "max_neighbors": max_neighbors, "max_images": 5}
    ours, theirs = found(made, **limits), of_mattergen(made, **limits)
    assert ours.counts.tolist() == theirs[2].tolist()
    for receiver in range(14):
        lengths = [
            edge_lengths(made, edges, images)[edges[1] == receiver].sort().values
            for edges, images in ((ours.edges, ours.images.double()), theirs[:2])
        ]
        torch.testing.assert_close(*lengths, atol=1e-7, rtol=0)


def edge_lengths(made: Crystals, edges: Tensor, images: Tensor) -> Tensor:
    vectors = made.fractions[edges[0]] + images - made.fractions[edges[1]]
    return (vectors[:, None] @ made.cell[made.structure[edges[1]]])[:, 0].norm(dim=-1)


def test_isolated_site_has_no_edges() -> None:
    made = crystals(1, 2, seed=1, edge=20.0, skew=0.0)
    graph = found(made, cutoff=4.0, max_neighbors=9, max_images=5)
    assert graph.edges.shape[0] == 2
    assert graph.counts[0] == 0


@pytest.mark.parametrize("seed", range(5))
def test_ties_do_not_depend_on_the_orientation(seed: int) -> None:
    """Rock salt: the 6 nearest neighbours are kept, and some of the 12 next."""
    salt = Crystals(
        fractions=torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], dtype=torch.float64),
        cell=2.82 * (1.0 - torch.eye(3, dtype=torch.float64))[None],
        numbers=torch.tensor([11, 17]),
        structure=torch.zeros(2, dtype=torch.int64),
    )
    turn = torch.tensor(Rotation.random(rng=seed).as_matrix())
    turned = Crystals(
        (salt.fractions + 0.1 * seed) % 1.0, salt.cell @ turn.T, salt.numbers, salt.structure
    )
    limits = {"cutoff": 6.0, "max_neighbors": 10, "max_images": 5}
    expected, got = found(salt, **limits), found(turned, **limits)
    assert expected.counts.tolist() == [20]
    assert torch.equal(got.edges, expected.edges)
    if seed == 0:
        assert torch.equal(got.images, expected.images)


def test_more_neighbours_than_the_initial_capacity() -> None:
    """Atoms in one corner of a large cell exceed the initial capacity."""
    rng = np.random.default_rng(0)
    made = Crystals(
        fractions=torch.tensor(0.03 * rng.random((60, 3))),
        cell=60.0 * torch.eye(3, dtype=torch.float64)[None],
        numbers=torch.ones(60, dtype=torch.int64),
        structure=torch.zeros(60, dtype=torch.int64),
    )
    graph = found(made, cutoff=5.0, max_neighbors=1000, max_images=5)
    vectors = made.fractions[:, None] - made.fractions
    near = (60.0 * vectors).norm(dim=-1)
    assert int(graph.counts[0]) == int(((near <= 5.0) & (near > 0.01)).sum())
