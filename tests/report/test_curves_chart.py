"""The chart of learning curves: names that do not overlap, and a drawing that says what it shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.learning.curves import ABOUT, Curve, LearningCurves
from fieldmarks.report.curves_chart import chart, spread


@given(st.lists(st.floats(0, 100), max_size=9))
def test_names_keep_their_order_and_their_distance(places: list[float]) -> None:
    moved = spread(places, 3.0)
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(moved)[order]) >= 3 - 1e-6).all()
    assert sum(moved) == pytest.approx(sum(places), abs=1e-6)
    if (np.diff(np.sort(places)) >= 3).all():
        assert moved == pytest.approx(places)


@pytest.mark.parametrize("shots", [(4,), (1, 2, 16)])
def test_every_curve_is_named(shots: tuple[int, ...]) -> None:
    chance = np.random.default_rng(0)
    curves = tuple(
        Curve(name, *about, 0.5 + 0.1 * chance.random((3, len(shots)))) for name, about in ABOUT.items()
    )
    made = chart(LearningCurves(settings={}, classes=("a", "b"), shots=shots, tested=60, curves=curves))
    drawn = made.file("svg").decode()
    for curve in curves:
        assert f">{curve.name}</text>" in drawn
        assert f"{curve.name} {100 * curve.mean[-1]:.1f}%" in made.words
    assert "mean of 3 draws" in drawn
