"""Figures of an arm are those of scikit-learn, and of counting by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, recall_score, top_k_accuracy_score  # type: ignore[import-untyped]
from tests.evaluation.worlds import CLASSES, arm_of, some_arm

from fieldmarks.evaluation.metrics import figures
from fieldmarks.evaluation.predictions import ranks
from fieldmarks.evaluation.results import ArmResult, Predictions


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3]])
def test_shares_are_scikit_learns(seeds: list[int]) -> None:
    result, labels = some_arm(seeds)
    found = [accuracy_score(labels, run.predicted) for run in result.runs]
    assert result.top1.value == pytest.approx(np.mean(found))
    there = range(CLASSES - 1)  # the last class has no picture
    each = [recall_score(labels, run.predicted, labels=there, average=None) for run in result.runs]
    assert result.recall[:-1] == pytest.approx(np.mean(each, axis=0).tolist())
    assert result.recall[-1] is None
    assert result.mean_per_class.value == pytest.approx(np.mean(each))
    assert result.gain is not None
    assert result.gain[-1] is None


def test_top_5_is_scikit_learns() -> None:
    labels = np.arange(60, dtype=np.int32) % CLASSES
    scores = np.random.default_rng(1).standard_normal((60, CLASSES)).astype(np.float32)
    run = Predictions(scores.argmax(axis=1).astype(np.int32), ranks(scores, labels))
    result = figures(arm_of("arm"), (run,), labels, CLASSES)
    assert result.top5 is not None
    assert result.top5.value == pytest.approx(top_k_accuracy_score(labels, scores, k=5))
    assert (result.difference, result.gain) == (None, None)


def test_five_classes_have_no_top_5() -> None:
    run = Predictions(np.zeros(3, np.int32), np.zeros(3, np.int32))
    assert figures(arm_of("arm"), (run,), np.zeros(3, np.int32), 5).top5 is None


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=3, unique=True))
def test_confused_pairs_are_counted(seeds: list[int]) -> None:
    result, labels = some_arm(seeds)
    pairs = Counter(
        pair
        for run in result.runs
        for pair in zip(labels.tolist(), run.predicted.tolist(), strict=True)
        if pair[0] != pair[1]
    )
    told = {(pair.label, pair.predicted): pair.count * len(seeds) for pair in result.confused}
    assert told == pytest.approx(pairs)
    counts = [pair.count for pair in result.confused]
    assert counts == sorted(counts, reverse=True)


def test_a_difference_names_what_it_is_to() -> None:
    result, _ = some_arm([1, 2])
    assert result.difference is not None
    assert (result.difference.to, result.difference.p) == ("photo", None)
    assert len(result.hits()) == 2


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.lists(st.integers(1, 4), min_size=12, max_size=12),
)
def test_repeated_images_are_no_further_evidence(
    images: list[tuple[int, bool, bool]], times: list[int]
) -> None:
    """The figures are of all images, p is of the distinct ones, and intervals are no narrower than theirs."""

    def results(chosen: list[int], distinct: NDArray[np.int64] | None = None) -> list[ArmResult]:
        labels = np.array([images[at][0] for at in chosen], np.int32)
        arms: list[ArmResult] = []
        for name, column in (("photo", 1), ("descriptors", 2)):
            rank = np.array([not images[at][column] for at in chosen], np.int32)
            run = Predictions((labels + rank) % 3, rank)
            arms.append(figures(arm_of(name), (run,), labels, 3, arms[0] if arms else None, distinct))
        return arms

    every = [at for at in range(len(images)) for _ in range(times[at])]
    once = np.array([every.index(at) for at in range(len(images))], np.int64)
    for repeated, single, all_alike in zip(
        results(every, once), results(list(range(len(images)))), results(every), strict=True
    ):
        assert repeated.top1.value == all_alike.top1.value
        assert repeated.recall == all_alike.recall
        for figure in ("top1", "mean_per_class", "difference"):
            mine, theirs = getattr(repeated, figure), getattr(single, figure)
            if theirs is not None:
                assert mine.low == min(theirs.low, mine.value)
                assert mine.high == max(theirs.high, mine.value)
        if repeated.difference and single.difference:
            assert repeated.difference.p == single.difference.p
