"""Answers are those of the classifier, and a rank counts who stands before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.worlds import Problem, problem, problems

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Pooling
from fieldmarks.evaluation.predictions import predict, ranks, scorer_of


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", words(Aggregation))
@given(posed=problems)
def test_answers_are_the_heads(aggregate: Aggregation, posed: Problem) -> None:
    logits = Head(posed.texts, posed.rows, 10.0, Pooling.named(aggregate)).logits(posed.images)
    run = predict(posed.images, posed.labels, scorer_of(posed.texts, posed.rows, aggregate), 7)
    order = np.argsort(-logits, axis=1, kind="stable")
    assert run.seed == 7
    assert run.predicted.tolist() == order[:, 0].tolist()
    assert run.rank.tolist() == [
        row.tolist().index(label) for row, label in zip(order, posed.labels, strict=True)
    ]


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1), st.integers(0, 3))
def test_of_equal_scores_the_first_wins(rows: list[list[int]], label: int) -> None:
    scores = np.array(rows, np.float32)
    labels = np.full(len(rows), label, np.int32)
    stable = np.argsort(-scores, axis=1, kind="stable")
    assert ranks(scores, labels).tolist() == [row.tolist().index(label) for row in stable]
    assert ((ranks(scores, labels) == 0) == (scores.argmax(axis=1) == label)).all()


@pytest.mark.parametrize("aggregate", words(Aggregation))
def test_chunks_change_nothing(aggregate: Aggregation) -> None:
    posed = problem([3, 1, 2], 50, seed=5)
    scorer = scorer_of(posed.texts, posed.rows, aggregate)
    whole = predict(posed.images, posed.labels, scorer)
    parts = [predict(posed.images[at : at + 7], posed.labels[at : at + 7], scorer) for at in range(0, 50, 7)]
    assert np.concatenate([run.predicted for run in parts]).tolist() == whole.predicted.tolist()
    assert np.concatenate([run.rank for run in parts]).tolist() == whole.rank.tolist()
    assert scorer.width == (6 if aggregate == "max-similarity" else 3)
