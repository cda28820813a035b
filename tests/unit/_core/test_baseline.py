"""Baselines: learning, locking, testing, and refusing what would poison them."""

from __future__ import annotations

import array
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.physics import Baseline

VALUES = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=60))
def test_mean_and_variance_equal_the_two_pass_definition(
    samples: list[tuple[float, float]],
) -> None:
    baseline = Baseline(2, lock_after=1000)
    for sample in samples:
        assert baseline.update(sample) == 0
    for metric, column in enumerate(zip(*samples, strict=True)):
        assert math.isclose(
            baseline.mean[metric], statistics.fmean(column), rel_tol=1e-9, abs_tol=1e-6
        )
        assert math.isclose(
            baseline.variance[metric], statistics.variance(column), rel_tol=1e-6, abs_tol=1e-3
        )


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=5, max_size=40))
def test_a_batch_equals_single_updates(samples: list[tuple[float, float, float]]) -> None:
    one, many = Baseline(3, lock_after=5), Baseline(3, lock_after=5)
    flat = array.array("d", [value for sample in samples for value in sample])
    masks = memoryview(many.update_many(flat)).cast("Q").tolist()
    assert masks == [one.update(sample) for sample in samples]
    assert one.mean == many.mean


def test_it_locks_and_then_reports_deviations_as_bits() -> None:
    baseline = Baseline(2, lock_after=4, sigma=2.0)
    for value in (1.0, 2.0, 3.0, 2.0):
        assert not baseline.locked
        assert baseline.update((value, 10)) == 0
        assert baseline.check((1e9, 1e9)) == 0 or baseline.locked
    assert baseline.locked
    assert baseline.samples == 4
    assert baseline.update((2.0, 10)) == 0
    assert baseline.update((9.0, 10)) == 1
    assert baseline.update([2.0, 10.000001]) == 2
    assert baseline.update(iter((9.0, 11))) == 3
    assert baseline.samples == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    baseline = Baseline(2)
    with pytest.raises(ValueError, match="finite"):
        baseline.update((1.0, bad))
    with pytest.raises(ValueError, match="finite"):
        baseline.update_many(array.array("d", [1.0, 2.0, bad, 1.0]))
    assert baseline.samples == 0


def test_samples_of_the_wrong_shape_are_refused() -> None:
    baseline = Baseline(3)
    with pytest.raises(ValueError, match="3 values, not 2"):
        baseline.update((1.0, 2.0))
    with pytest.raises(TypeError):
        baseline.update((1.0, True, 2.0))
    with pytest.raises(TypeError):
        baseline.update(("1", "2", "3"))
    with pytest.raises(ValueError, match="whole number of samples"):
        baseline.update_many(array.array("d", [1.0, 2.0]))
    with pytest.raises(TypeError, match="doubles"):
        baseline.update_many(array.array("f", [1.0, 2.0, 3.0]))
    assert baseline.samples == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Baseline(0),
        lambda: Baseline(65),
        lambda: Baseline(1, lock_after=1),
        lambda: Baseline(1, sigma=0),
        lambda: Baseline(1, sigma=math.nan),
    ],
)
def test_impossible_baselines_are_refused(make) -> None:
    with pytest.raises(ValueError):
        make()
