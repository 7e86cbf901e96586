"""Few descriptors: the path's laws, and that wrong descriptors go first."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.worlds import problem
from tests.learning.test_learn import learn

from fieldmarks.classification.classifier_file import load_head
from fieldmarks.classification.scoring import cosines
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.learning.selection import Selection, losses_without, path
from fieldmarks.learning.strength import ZERO_SHOT, judged

SCALE = 20.0
counts = st.lists(st.integers(1, 4), min_size=2, max_size=4)


@given(counts, st.integers(2, 10), st.integers(0, 999))
@settings(max_examples=30)
def test_a_loss_without_a_text_is_that_of_the_others(given: list[int], images: int, seed: int) -> None:
    posed = problem(given, images, seed)
    owner, labels = np.array(posed.texts.owner), posed.labels.astype(np.int64)
    similarities = cosines(posed.images, posed.rows)
    weights = np.random.default_rng(seed).random(len(owner)) + 0.1
    bias = 0.1 * np.random.default_rng(seed).standard_normal(len(given))
    whole = Selection(np.arange(len(owner)), weights, bias)
    found = losses_without(whole, similarities, owner, labels, SCALE)
    for text in range(len(owner)):
        own = owner == owner[text]
        if own.sum() == 1:
            assert found[text] == np.inf
            continue
        without = np.where(own, weights * weights[own].sum() / (weights[own].sum() - weights[text]), weights)
        kept = np.delete(np.arange(len(owner)), text)
        scores = Selection(kept, without[kept], bias).scores(similarities, owner)
        assert found[text] == pytest.approx(judged(SCALE * scores, labels)[0].sum(), rel=1e-6, abs=1e-6)


@given(counts, st.integers(4, 12), st.integers(0, 999), st.sampled_from([ZERO_SHOT, 0.1]), st.integers(1, 3))
@settings(max_examples=30)
def test_the_path_drops_texts_of_the_largest_classes_one_by_one(
    given: list[int], images: int, seed: int, strength: float, fewest: int
) -> None:
    posed = problem(given, images, seed)
    owner, labels = np.array(posed.texts.owner), posed.labels.astype(np.int64)
    similarities = cosines(posed.images, posed.rows)
    before = set(range(len(owner)))
    walked = list(path(similarities, owner, labels, SCALE, strength, fewest))
    assert [count for count, _ in walked] == list(range(max(given), min(fewest, max(given)) - 1, -1))
    for count, selection in walked:
        kept = set(selection.texts.tolist())
        assert kept <= before
        assert np.bincount(owner[selection.texts]).tolist() == [min(count, own) for own in given]
        if strength == ZERO_SHOT:
            assert selection.weights == pytest.approx(
                [1 / min(count, given[c]) for c in owner[selection.texts]]
            )
        before = kept


@pytest.mark.parametrize("strength", [1.0, ZERO_SHOT])
def test_wrong_descriptors_go_first(damaged: tuple[Path, Path], tmp_path: Path, strength: float) -> None:
    learned = learn(damaged, strength=strength, descriptors=3)
    head = learned.classifier.head
    assert all(text.startswith("right") for text in head.texts.descriptors)
    assert len(head.texts.texts) == 12
    expected = learned.to_dict()["descriptors"]
    assert list(expected) == ["8", "7", "6", "5", "4", "3"]
    assert expected["3"] >= expected["8"]
    assert learned.notes[-1].startswith("3 descriptors of each class: expected accuracy ")
    learned.save(tmp_path / "few.safetensors")
    saved = load_head(tmp_path / "few.safetensors")
    assert saved.texts == head.texts
    assert saved.is_learned == (strength != ZERO_SHOT)


def test_what_cannot_be_is_refused(damaged: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="at least 1 per class, found 0"):
        learn(damaged, descriptors=0)
    with pytest.raises(UsageError, match="leave out shared"):
        learn(damaged, descriptors=2, shared=True)
    with pytest.raises(EvaluationError, match="leaves nothing out: no class has more than 8 descriptors"):
        learn(damaged, descriptors=8)
    with pytest.raises(EvaluationError, match="cannot be validated with one image a class"):
        learn(damaged, descriptors=2, shots=1)
