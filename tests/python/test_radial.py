"""Tables of radial functions: values and gradients against the functions, edges of the range."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xtalfill.relax.radial import SMALLEST, TOLERANCE, RadialTable, tabulate

CUTOFF, KINK = 4.0, 3.2
FREQUENCIES = torch.linspace(0.2, 4.0, 9, dtype=torch.float64)


def smooth(distance: torch.Tensor) -> torch.Tensor:
    """Waves that end at the cutoff with two continuous derivatives."""
    left = (1.0 - distance[:, None] / CUTOFF).clamp(min=0.0)
    return torch.sin(FREQUENCIES * distance[:, None] + 0.3) * left**3


def with_kink(distance: torch.Tensor) -> torch.Tensor:
    """The same with a jump of the second derivative at `KINK`."""
    return smooth(distance) + 0.5 * (KINK - distance[:, None]).clamp(min=0.0) ** 2


def table_of(dtype: torch.dtype = torch.float64, *, kink: float | None = None) -> RadialTable:
    found = tabulate(smooth if kink is None else with_kink, cutoff=CUTOFF, kink=kink, dtype=dtype)
    assert found is not None
    return found


@given(st.lists(st.floats(SMALLEST + 1e-9, CUTOFF - 1e-9), min_size=1, max_size=20))
def test_values_and_gradients_are_those_of_the_functions(distances: list[float]) -> None:
    table, distance = table_of(), torch.tensor(distances, dtype=torch.float64, requires_grad=True)
    values = smooth(distance)
    found = table.values(distance.detach().numpy())
    scale = 1.3
    np.testing.assert_allclose(found, values.detach().numpy(), atol=2.0 * TOLERANCE * scale)
    weights = torch.linspace(-1.0, 1.0, values.numel(), dtype=torch.float64).reshape(values.shape)
    (expected,) = torch.autograd.grad((values * weights).sum(), distance)
    pulled = table.pull(distance.detach().numpy(), weights.numpy())
    np.testing.assert_allclose(pulled, expected.numpy(), atol=1e-4)


def test_gradient_is_the_derivative_of_the_table() -> None:
    table, step = table_of(), 1e-6
    distance = np.linspace(0.05, CUTOFF - 0.05, 97)
    for column in range(table.n_functions):
        one = np.zeros((len(distance), table.n_functions))
        one[:, column] = 1.0
        slope = (table.values(distance + step) - table.values(distance - step)) / (2.0 * step)
        np.testing.assert_allclose(table.pull(distance, one), slope[:, column], atol=1e-6)


def test_intervals_agree_at_their_ends() -> None:
    table = table_of()
    ends = table.first + table.step * np.arange(1, len(table.coefficients))
    below, above = table.values(ends - 1e-12), table.values(ends + 1e-12)
    np.testing.assert_allclose(below, above, atol=1e-10)


def test_zero_beyond_the_cutoff() -> None:
    table = table_of()
    distance = np.array([CUTOFF, CUTOFF + 1.0, np.inf])
    values = table.values(distance)
    assert (values == 0.0).all()
    assert (table.pull(distance, np.ones_like(values)) == 0.0).all()


@pytest.mark.parametrize("distance", [0.0, SMALLEST / 2.0, np.nan, -1.0])
def test_nan_for_atoms_that_coincide(distance: float) -> None:
    table = table_of(torch.float32)
    distances = np.array([1.0, distance], np.float32)
    values = table.values(distances)
    assert np.isnan(values).all(axis=1).tolist() == [False, True]
    assert np.isfinite(values[0]).all()
    pulled = table.pull(distances, np.ones_like(values))
    assert np.isnan(pulled).tolist() == [False, True]


def test_result_does_not_depend_on_the_other_distances() -> None:
    table = table_of(torch.float32)
    distance = np.linspace(0.0, CUTOFF, 50).astype(np.float32)
    alone = [table.values(distance[n : n + 1])[0] for n in range(len(distance))]
    np.testing.assert_array_equal(table.values(distance), np.stack(alone))


def test_kink_is_a_boundary_of_intervals() -> None:
    table = table_of(kink=KINK)
    place = (KINK - table.first) / table.step
    assert place == pytest.approx(round(place), abs=1e-9)
    distance = np.linspace(0.1, CUTOFF - 0.01, 211)
    expected = with_kink(torch.from_numpy(distance)).numpy()
    np.testing.assert_allclose(
        table.values(distance), expected, atol=2.0 * TOLERANCE * expected.max()
    )


def test_functions_that_are_not_smooth_are_refused() -> None:
    assert tabulate(lambda r: (r[:, None] - 1.234567).abs(), cutoff=CUTOFF) is None


def test_finer_functions_get_shorter_intervals() -> None:
    fast = tabulate(lambda r: torch.sin(30.0 * r[:, None]) * (CUTOFF - r[:, None]), cutoff=CUTOFF)
    assert fast is not None
    assert fast.step < table_of().step
