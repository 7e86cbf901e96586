"""The head at a size at which scores are computed in parts."""

import numpy as np
import pytest
from tests.classification.heads import class_logits, head_of

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.head import CELLS, Head
from fieldmarks.classification.scoring import Array, probabilities

CLASSES, DIM = 3000, 8
PICTURES = 2 * CELLS // CLASSES + 5  # the last part is a short one


@pytest.fixture(scope="module")
def images() -> Array:
    """More pictures than are scored at once."""
    return np.random.default_rng(0).standard_normal((PICTURES, DIM), np.float32)


def _head(aggregate: Aggregation) -> Head:
    random = np.random.default_rng(1)
    owner = random.permutation(np.repeat(np.arange(CLASSES), 2))
    embeddings = random.standard_normal((len(owner), DIM), np.float32)
    baseline = random.standard_normal((CLASSES, DIM), np.float32)
    return head_of(embeddings, owner, CLASSES, 10.0, aggregate, baseline)


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", words(Aggregation))
def test_the_parts_are_the_whole(images: Array, aggregate: Aggregation) -> None:
    head = _head(aggregate)
    logits = head.logits(images)  # (N, C)
    shares = probabilities(logits)
    ranked = head.scores(images, 3)
    assert len(ranked) == PICTURES
    for row in (0, CELLS // CLASSES, PICTURES - 1):
        assert [item.logit for item in ranked[row]] == pytest.approx(sorted(logits[row])[:-4:-1], abs=1e-4)
        for item in ranked[row]:
            column = head.classes.index(item.name)
            assert item.logit == pytest.approx(logits[row, column], abs=1e-4)
            assert item.probability == pytest.approx(shares[row, column], abs=1e-6)


def test_the_baseline_is_its_own_best(images: Array) -> None:
    head = _head("mean-embedding")
    assert head.baseline is not None
    logits = class_logits(images[-3:], head.baseline, np.arange(CLASSES), CLASSES, 10.0, "mean-embedding")
    answers = [baseline_score.name for baseline_score in head.baseline_scores(images)[-3:] if baseline_score]
    assert answers == [head.classes[column] for column in logits.argmax(axis=1)]


def test_no_pictures_have_no_scores() -> None:
    head = _head("mean-embedding")
    none = np.empty((0, DIM), np.float32)
    assert (head.scores(none), head.baseline_scores(none)) == ([], [])
