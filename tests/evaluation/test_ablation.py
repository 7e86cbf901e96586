"""Leaving a descriptor out in one pass gives what classifying anew without it gives."""

import numpy as np
import pytest
from hypothesis import given
from tests.classification.heads import class_logits
from tests.evaluation.worlds import Problem, problem, problems

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.ablation import effects
from fieldmarks.evaluation.results import DescriptorEffect

SCALE = 20.0


def _figures(posed: Problem, rows: Array, owner: list[int], aggregate: Aggregation) -> tuple[Array, Array]:
    """Return which pictures are right, and the lead of the true class, by the classifier's own arithmetic."""
    classes = len(posed.texts.classes)
    logits = class_logits(posed.images, rows, np.array(owner), classes, SCALE, aggregate)
    true = logits[np.arange(len(logits)), posed.labels]
    rivals = logits.copy()
    rivals[np.arange(len(logits)), posed.labels] = -np.inf
    return logits.argmax(axis=1) == posed.labels, true - rivals.max(axis=1)


def _anew(posed: Problem, row: int, aggregate: Aggregation) -> DescriptorEffect:
    """Classify with and without one text."""
    owner = list(posed.texts.owner)
    rest = [text for text in range(len(owner)) if text != row]
    rows, owners = posed.rows[rest], [owner[text] for text in rest]
    if owner[row] not in owners:
        rows, owners = np.concatenate([rows, posed.names[[owner[row]]]]), [*owners, owner[row]]
    (right, lead), (right_without, lead_without) = (
        _figures(posed, *texts, aggregate) for texts in ((posed.rows, owner), (rows, owners))
    )
    own = posed.labels == owner[row]
    lost = lead - lead_without
    return DescriptorEffect(
        posed.texts.classes[owner[row]],
        posed.texts.descriptors[row],
        float(right.mean() - right_without.mean()),
        float(lost[own].mean()) if own.any() else 0.0,
        float(lost[~own].mean()) if (~own).any() else 0.0,
        int(own.sum()),
    )


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", words(Aggregation))
@given(posed=problems)
def test_it_is_what_classifying_anew_gives(aggregate: Aggregation, posed: Problem) -> None:
    found = effects(posed.images, posed.labels, posed.texts, posed.rows, posed.names, aggregate, SCALE)
    by_text = {effect.descriptor: effect for effect in found}
    assert len(by_text) == len(posed.rows)
    for row, descriptor in enumerate(posed.texts.descriptors):
        effect, anew = by_text[descriptor], _anew(posed, row, aggregate)
        assert (effect.name, effect.images) == (anew.name, anew.images)
        assert effect.effect == pytest.approx(anew.effect, abs=1e-9)
        assert (effect.margin, effect.others_margin) == pytest.approx(
            (anew.margin, anew.others_margin), abs=1e-4
        )


@pytest.mark.parametrize("aggregate", words(Aggregation))
def test_equal_scores_fall_to_the_first_class(aggregate: Aggregation) -> None:
    posed = problem([2, 2, 2], 40, seed=3)
    same = posed.rows[[0, 1, 0, 1, 4, 5]]  # the first two classes are one
    twin = Problem(posed.images, posed.labels, posed.texts, same, posed.names)
    found = effects(twin.images, twin.labels, twin.texts, twin.rows, twin.names, aggregate, SCALE)
    by_text = {effect.descriptor: effect.effect for effect in found}
    for row, descriptor in enumerate(twin.texts.descriptors):
        assert by_text[descriptor] == pytest.approx(_anew(twin, row, aggregate).effect, abs=1e-9)


def test_the_worst_comes_first() -> None:
    posed = problem([3, 2, 4], 60, seed=1)
    found = effects(posed.images, posed.labels, posed.texts, posed.rows, posed.names, "mean-embedding", SCALE)
    order = [(effect.effect, effect.margin + effect.others_margin) for effect in found]
    assert order == sorted(order)
    assert order[0][0] < order[-1][0]


def test_one_class_has_no_rival() -> None:
    texts = Texts.collect({"owl": [("big eyes", "big eyes")]})
    row = np.ones((1, 2), np.float32)
    with pytest.raises(EvaluationError, match="single class"):
        effects(row, np.zeros(1, np.int32), texts, row, row, "mean-embedding", 1.0)


def test_a_rival_that_draws_level_matters() -> None:
    """Without its poor text the first class scores as much as the others, and stands before them."""
    texts = Texts.collect({"a": [("poor", "poor"), ("good", "good")], "b": [("b", "b")], "c": [("c", "c")]})
    rows = np.array([[0, 1], [1, 0], [1, 0], [1, 0]], np.float32)
    image, label = np.array([[1, 0]], np.float32), np.ones(1, np.int32)
    found = effects(image, label, texts, rows, rows[1:], "mean-similarity", 1.0)
    assert {effect.descriptor: effect.effect for effect in found} == {"poor": 1, "good": 0, "b": 0, "c": 0}
