"""The charts of evaluations of every size: which there are, what they say, and that they say it rightly."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.evaluation.results import Difference, Evaluation
from fieldmarks.report.chart_style import WIDE, Chart
from fieldmarks.report.charts import charts, ranked_gains

pytest.importorskip("matplotlib")
SVG = "{http://www.w3.org/2000/svg}"
MANY = [f"species {number}" for number in range(1000)]


@pytest.fixture(scope="module")
def many() -> Evaluation:
    """A thousand classes, most with a few pictures, some with none."""
    return evaluation(MANY, 4000)


def _named(found: list[Chart], name: str) -> Chart:
    return next(chart for chart in found if chart.name == name)


def _texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(chart.svg()).iter(f"{SVG}text")]


@pytest.mark.slow
def test_which_charts_there_are(few: Evaluation, many: Evaluation) -> None:
    assert [chart.name for chart in charts(few)] == ["arms", "gains", "confusion", "classes"]
    names = ["arms", "gains", "gains-distribution", "confusion", "confusion-block", "classes"]
    assert [chart.name for chart in charts(many)] == names


@pytest.mark.slow
def test_few_classes_are_all_named(few: Evaluation) -> None:
    for name, times in {"gains": 1, "classes": 1, "confusion": 3}.items():
        shown = _texts(_named(charts(few), name))
        assert sum(text.startswith("bullfrog") for text in shown) == times, name
        assert len([text for text in shown if text[:4] in {bird[:4] for bird in BIRDS}]) == 10 * times


def test_the_arms_chart_has_each_arm_and_its_interval(few: Evaluation) -> None:
    chart = _named(charts(few), "arms")
    assert [text for text in _texts(chart) if text in ("photo", "descriptors", "waffle", "swapped")] == [
        arm.name for arm in few.arms
    ]
    first = few.arms[0].top1
    assert f"photo {100 * first.value:.1f} ({100 * first.low:.1f} to {100 * first.high:.1f}); " in chart.words


def test_gains_are_ranked_and_of_equal_ones_the_best_known_are_outermost(many: Evaluation) -> None:
    arm = many.arms[1]
    ranked = ranked_gains(many, arm)
    gains = [gain for gain, _ in ranked]
    assert gains == sorted(gains, reverse=True)
    assert len(ranked) == np.count_nonzero(many.counts)
    best = [many.counts[number] for gain, number in ranked if gain == gains[0]]
    worst = [many.counts[number] for gain, number in ranked if gain == gains[-1]]
    assert best == sorted(best, reverse=True)
    assert worst == sorted(worst)
    shown = _texts(_named(charts(many), "gains"))
    assert [text for text in shown if text.startswith("species")] == [
        many.classes[number] for _, number in (*ranked[:15], *ranked[-15:])
    ]


def test_the_figures_in_the_matrix_are_shares_of_rows(few: Evaluation) -> None:
    alone = replace(few, arms=(few.arms[0],))  # one matrix
    row = few.labels == 0
    right = 100 * np.mean(few.arms[0].runs[0].predicted[row] == 0)
    assert f"{right:.0f}" in _texts(_named(charts(alone), "confusion"))
    assert "“photo”, % of the true class’s images" in _texts(_named(charts(alone), "confusion"))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 2, 12, 13, 30, 31])
def test_every_number_of_classes(classes: int) -> None:
    made = evaluation(MANY[:classes], 60, seeds=2)
    for chart in charts(made):
        assert ElementTree.fromstring(chart.svg()).get("viewBox", "").startswith(f"0 0 {WIDE} ")


@pytest.mark.slow
def test_what_may_be_missing() -> None:
    few = evaluation(BIRDS[:4], 60, seeds=2)
    photo, descriptors, waffle, _ = few.arms
    without = replace(descriptors, difference=None, gain=None)
    for arms in ((photo,), (without,), (waffle,), (photo, waffle)):
        names = [chart.name for chart in charts(replace(few, arms=arms)) if chart.svg()]
        assert ("gains" in names) == (arms[-1] is waffle)


def test_no_class_gains(few: Evaluation) -> None:
    photo, descriptors, *_ = few.arms
    same = replace(few, arms=(photo, replace(descriptors, gain=(0.0,) * 10)))
    assert _texts(_named(charts(same), "gains")).count("0.0") == 10


def test_small_differences_have_the_digits_that_tell_them_apart(few: Evaluation) -> None:
    near = replace(few.arms[1], difference=Difference("photo", 0.001, -0.004, 0.006, 0.5))
    shown = _texts(_named(charts(replace(few, arms=(few.arms[0], near))), "arms"))
    ticks = [text for text in shown if text[:1] in "+−"]
    assert {"−0.2", "+0.2", "+0.6"} <= set(ticks)
    assert len(ticks) == len(set(ticks))


def test_arms_whose_names_are_long_differ_in_the_second_line(few: Evaluation) -> None:
    names = ["descriptors article max-similarity", "descriptors paper max-similarity"]
    arms = (few.arms[0], *(replace(few.arms[1], name=name) for name in names))
    shown = _texts(_named(charts(replace(few, arms=arms)), "arms"))
    assert [text for text in shown if "max" in text] == ["article max-similarity", "paper max-similarity"]
