"""Confusion matrices: counted as scikit-learn counts, ordered so that planted groups lie together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.evaluation.results import ArmResult, Estimate, Predictions
from fieldmarks.report import charts
from fieldmarks.report.charts import Matrix

metrics = pytest.importorskip("sklearn.metrics")
GROUPS = [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]


def _arm(*answers: list[int]) -> ArmResult:
    nothing = Estimate(0, 0, 0)
    return ArmResult(
        name="descriptors",
        role="subject",
        text="",
        aggregate="",
        texts=(),
        runs=tuple(Predictions(np.array(run, np.int32), np.zeros(len(run), np.int32)) for run in answers),
        top1=nothing,
        top5=None,
        mean_per_class=nothing,
        difference=None,
        recall=(),
        gain=None,
        confused=(),
    )


def _planted(share: float = 0.2, classes: int = 10) -> Matrix:
    """Shares (C, C) in which the classes of a group are taken for each other."""
    matrix = np.zeros((classes, classes))
    for group in GROUPS:
        matrix[np.ix_(group, group)] = share
    return charts.without_diagonal(matrix)


answers = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1)


@pytest.mark.slow
@given(answers)
def test_counted_as_scikit_learn_does(pictures: list[tuple[int, int, int]]) -> None:
    labels, first, second = (list(column) for column in zip(*pictures, strict=True))
    found = charts.matrix(_arm(first, second), np.array(labels, np.int32), np.arange(5), 5)
    each = [metrics.confusion_matrix(labels, predicted, labels=range(5)) for predicted in (first, second)]
    assert found.tolist() == np.mean(each, axis=0).tolist()


def test_among_some_classes_in_their_order() -> None:
    labels = np.array([0, 0, 1, 2, 2], np.int32)
    found = charts.matrix(_arm([2, 1, 0, 0, 2]), labels, np.array([2, 0]), 3)
    assert found.tolist() == [[1, 1], [1, 0]]


def test_shares_of_rows_without_pictures_are_zero() -> None:
    found = charts.shares(np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([4, 0]))
    assert found.tolist() == [[0.25, 0.75], [0, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_groups_lie_together(seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(10)
    ordered = shuffled[charts.order(charts.cluster(_planted()[np.ix_(shuffled, shuffled)]))].tolist()
    assert sorted(ordered) == list(range(10))
    for group in GROUPS:
        places = [ordered.index(label) for label in group]
        assert max(places) - min(places) == len(group) - 1


def test_the_worst_block_is_the_one_with_most_mistakes() -> None:
    mistakes = _planted()
    tree = charts.cluster(mistakes)
    mistakes[1, 5] += 0.5
    assert sorted(charts.worst_block(tree, mistakes, 3)) == [1, 5, 9]
    assert sorted(charts.worst_block(tree, mistakes, 2)) in ([1, 5], [1, 9], [5, 9], [2, 6], [3, 7])


def test_a_block_lies_together_in_the_order() -> None:
    mistakes = _planted()
    tree = charts.cluster(mistakes)
    ordered = charts.order(tree).tolist()
    block = charts.worst_block(tree, mistakes, 3).tolist()
    start = min(ordered.index(label) for label in block)
    assert ordered[start : start + len(block)] == block


@given(st.integers(1, 60), st.integers(1, 70))
def test_pooling_keeps_every_mistake(classes: int, bins: int) -> None:
    matrix = np.arange(classes**2, dtype=float).reshape(classes, classes)
    starts = charts.edges(classes, bins)
    found = charts.pooled(matrix, starts)
    assert found.shape == (min(bins, classes),) * 2
    assert found.sum() == matrix.sum()
    lengths = np.diff([*starts, classes])
    assert lengths.max() - lengths.min() <= 1


def test_of_very_many_classes_those_with_mistakes() -> None:
    classes = charts.MOST + 50
    labels = np.arange(classes, dtype=np.int32)
    predicted = labels.copy()
    predicted[-3] = 7
    chosen = charts.most_mistaken(_arm(predicted.tolist()), labels, classes)
    assert len(chosen) == charts.MOST
    assert {7, classes - 3} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()
