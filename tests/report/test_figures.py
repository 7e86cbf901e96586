"""The rows of an evaluation's tables: ranked, bounded, and equal to what is counted from the answers."""

from dataclasses import replace

import numpy as np
import pytest
from tests.report.evaluations import evaluation

from fieldmarks.evaluation.results import DescriptorEffect, Evaluation
from fieldmarks.report import evaluation_page
from fieldmarks.report.evaluation_page import MAX_CLASSES, MAX_EFFECTS, MAX_VALUE


def test_the_roles_of_arms(few: Evaluation) -> None:
    photo, descriptors, waffle, swapped = few.arms
    assert few.arm is descriptors
    assert few.baseline is photo
    assert [arm.role for arm in few.arms] == ["baseline", "subject", "control", "control"]
    sentences = replace(descriptors, name="sentences", role="other")
    assert replace(few, arms=(photo, sentences, waffle)).arm is sentences
    assert replace(few, arms=(swapped, waffle)).arm is swapped
    assert replace(few, arms=(photo,)).baseline is None


def test_classes_with_what_both_arms_answer_rightly(few: Evaluation) -> None:
    rows = evaluation_page.class_rows(few)
    assert sorted(row.name for row in rows) == sorted(few.classes)
    for row in rows:
        of_class = few.labels == few.classes.index(row.name)
        before, after = (
            np.mean(arm.runs[0].predicted[of_class] == few.labels[of_class]) for arm in few.arms[:2]
        )
        assert (row.images, row.before, row.after) == (np.sum(of_class), before, after)
        assert row.gain == pytest.approx(after - before)
    gains = [row.gain or 0 for row in rows]
    assert gains == sorted(gains, reverse=True)


def test_of_very_many_classes_the_first(few: Evaluation) -> None:
    made = evaluation([f"species {number}" for number in range(MAX_CLASSES + 5)], 900, seeds=1)
    rows = evaluation_page.class_rows(made)
    assert len(rows) == MAX_CLASSES
    assert [row.gain for row in rows[-3:]] == [None] * 3  # those without pictures are last


def test_how_many_gain(few: Evaluation) -> None:
    arm = replace(few.arms[1], gain=(0.5, 0.1, 0.0, -0.2, None))
    assert evaluation_page.tally(arm) == (2, 1, 1)


def test_pairs_beside_what_the_other_arm_does(few: Evaluation) -> None:
    (first, *_) = pairs = evaluation_page.pairs(few)
    label, predicted = few.classes.index(first.label), few.classes.index(first.predicted)
    for arm, count in ((few.arms[1], first.count), (few.arms[0], first.before)):
        assert count == np.sum((few.labels == label) & (arm.runs[0].predicted == predicted))
    assert [pair.count for pair in pairs] == sorted((pair.count for pair in pairs), reverse=True)
    assert evaluation_page.pairs(replace(few, arms=few.arms[:1]))[0].before is None


def test_descriptors_that_help_and_hurt(few: Evaluation) -> None:
    made = [DescriptorEffect("owl", f"mark {at}", at / 2000, 0.1, 0.0, 5) for at in range(-20, 20)]
    made += [DescriptorEffect("owl", "tie", 0.0, 0.2, -0.5, 5)]
    (_, helping), (_, hurting) = evaluation_page.effects(replace(few, effects=tuple(made)))
    assert [round(row.won) for row in helping] == list(range(19, 19 - MAX_EFFECTS, -1))
    assert [round(row.won) for row in hurting] == list(range(-20, -20 + MAX_EFFECTS))
    assert hurting[0].bar.start == 0
    assert helping[0].bar.start == 50
    (_, helping), (_, hurting) = evaluation_page.effects(replace(few, effects=tuple(made[-1:])))
    assert (helping, [row.effect.descriptor for row in hurting]) == ([], ["tie"])


def test_settings_in_groups() -> None:
    given = {
        "command": "fieldmarks",
        "seeds": 5,
        "ablate": True,
        "data": {"split": None, "deep": {"a_b": 1}},
        "long": "x" * 5000,
        "arms": ["photo", "waffle"],
        "aliases": {},
    }
    assert evaluation_page.settings(given) == [
        (
            "Run",
            [("seeds", "5"), ("ablate", "yes"), ("long", "x" * MAX_VALUE + "…"), ("arms", "photo, waffle")],
        ),
        ("Data", [("split", "none"), ("deep · a b", "1")]),
    ]
