"""The head: scores computed in parts, and the pair of marks that decided."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.classification.heads import class_logits, head_of

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.head import CELLS, Head
from fieldmarks.classification.results import Score
from fieldmarks.classification.scoring import Array, probabilities
from fieldmarks.classification.texts import Texts
from fieldmarks.text import comparable

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


def test_a_score_barely_under_its_threshold_reads_as_under_it() -> None:
    head = replace(_head("mean-embedding"), thresholds=np.full(CLASSES, 0.25, np.float32))
    assert head.rejection(Score("class 7", 0.5, 0.25 * head.scale)) is None
    for cosine, shown in ((0.212, "0.212, is under its threshold 0.250"), (0.24997, "0.24997, is under")):
        reason = head.rejection(Score("class 7", 0.5, cosine * head.scale))
        assert reason is not None
        assert shown in reason


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


def test_no_pair_decides_where_none_leads() -> None:
    texts = Texts.collect({"owl": [("round", "round")], "newt": [("wide", "wide"), ("long", "long")]})
    head = Head(texts, np.array([[1, 0.9], [1, 0], [0, 1]], np.float32), 10.0)
    image = np.array([1, 1], np.float32)
    explanation = head.explain(image, head.scores(image[None])[0])
    assert [mark.name for mark in explanation.predicted] == ["newt", "newt"]  # as its mean is nearer
    assert explanation.decided is None


@given(
    st.lists(st.sampled_from(["a tail", "A  tail.", "a beak", "fins", "ＦＩＮＳ", ""]), min_size=1), st.data()
)
def test_descriptors_of_both_classes_are_in_no_pair(first: list[str], data: st.DataObject) -> None:
    second = data.draw(st.lists(st.sampled_from([*first, "horns", "a mane"]), min_size=1))
    classes = {"owl": first, "newt": second}
    texts = Texts.collect({name: [(text, text) for text in own] for name, own in classes.items()})
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    head = Head(texts, random.standard_normal((len(texts.texts), 3), np.float32), 10.0)
    image = random.standard_normal(3, np.float32)
    explanation = head.explain(image, head.scores(image[None])[0])
    spellings = [{comparable(mark.descriptor) for mark in own} for own in explanation.by_class]
    if explanation.decided:
        lead, other = explanation.decided
        assert comparable(lead.descriptor) in spellings[0] - spellings[1]
        assert comparable(other.descriptor) in spellings[1] - spellings[0]
        assert lead.logit > other.logit
    common = spellings[0] & spellings[1]
    assert explanation.decided is None or common not in spellings
