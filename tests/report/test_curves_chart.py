"""The chart of learning curves: names that do not overlap, and a drawing that says what it shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Annotation

from fieldmarks.learning.curves import ABOUT, Curve, LearningCurves
from fieldmarks.report.curves_chart import chart, spread


@given(st.lists(st.floats(0, 100), max_size=9))
def test_names_keep_their_order_and_their_distance(places: list[float]) -> None:
    moved = spread(places, 3.0, -30.0, 130.0)  # bounds that none reaches
    order = np.argsort(places, kind="stable")
    assert (np.diff(np.array(moved)[order]) >= 3 - 1e-6).all()
    assert sum(moved) == pytest.approx(sum(places), abs=1e-6)
    if (np.diff(np.sort(places)) >= 3).all():
        assert moved == pytest.approx(places)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.floats(3, 12))
def test_names_stay_between_the_bounds(places: list[float], least: float) -> None:
    moved = np.array(spread(places, least, 0.0, 100.0))
    assert ((moved >= -1e-6) & (moved <= 100 + 1e-6)).all()
    assert (np.diff(moved[np.argsort(places, kind="stable")]) >= least - 1e-6).all()


def test_names_and_bands_of_curves_that_reach_the_top_stay_within_the_axes() -> None:
    perfect = [[0.1, 1.0], [0.5, 0.98]]  # of two draws, whose interval would reach far beyond 0 and 100%
    curves = tuple(Curve(name, *about, np.array(perfect)) for name, about in ABOUT.items())
    made = LearningCurves(settings={}, classes=("a", "b"), shots=(1, 2), tested=60, curves=curves)
    assert (curves[0].low.tolist(), curves[0].high[0]) == ([0.0, pytest.approx(0.8629, abs=1e-3)], 1.0)
    assert made.summary[-1] == "2 draws are few, and their intervals wide: more --draws narrow them."
    (axes,) = chart(made).draw().axes
    names = [
        text.xyann[1] for text in axes.texts if isinstance(text, Annotation) and text.get_text() in ABOUT
    ]
    low, high = axes.get_ylim()
    assert len(names) == len(ABOUT)
    assert low < min(names) < max(names) < high
    for band in axes.collections:
        (path,) = band.get_paths()
        heights = np.asarray(path.vertices)[:, 1]
        assert 0 <= heights.min() <= heights.max() <= 100


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
