"""Runs side by side: paired where images, labels and classes are the same, else shown with the reason."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation import metrics
from fieldmarks.evaluation.comparison import Comparison, compare
from fieldmarks.evaluation.results import Evaluation


@pytest.fixture(scope="module")
def first() -> Evaluation:
    """Ten classes of birds."""
    return evaluation(BIRDS, 400, seeds=2)


@pytest.fixture(scope="module")
def better(first: Evaluation) -> Evaluation:
    """A run on the same images, whose descriptors are what the first run's prompt is, and the reverse."""
    photo, descriptors, *others = first.arms
    swapped = (
        replace(descriptors, runs=photo.runs, top1=photo.top1),
        replace(photo, runs=descriptors.runs, top1=descriptors.top1),
    )
    return replace(first, arms=(*swapped, *others))


def _shuffled(run: Evaluation, order: "np.ndarray[Any, Any]", classes: "np.ndarray[Any, Any]") -> Evaluation:
    """Return the same run with its images and classes in another order."""
    place = np.argsort(classes).astype(np.int32)

    def arm(arm: Any) -> Any:
        runs = tuple(
            replace(trial, predicted=place[trial.predicted[order]], rank=trial.rank[order])
            for trial in arm.runs
        )
        return replace(arm, runs=runs)

    return replace(
        run,
        classes=tuple(run.classes[at] for at in classes),
        images=tuple(run.images[at] for at in order),
        labels=place[run.labels[order]],
        arms=tuple(map(arm, run.arms)),
    )


def _leads(comparison: Comparison) -> dict[tuple[str, int], Any]:
    return {(group.arm, row.run): row.lead for group in comparison.groups for row in group.rows}


def test_a_lead_is_the_paired_difference_of_the_same_images(first: Evaluation, better: Evaluation) -> None:
    comparison = compare([("a", first), ("b", better)])
    lead = _leads(comparison)["descriptors", 1]
    photo, descriptors, *_ = first.arms
    expected = metrics.difference(photo.hits(), descriptors.hits())
    assert (lead.to, lead.value, lead.low, lead.high) == ("a", expected.value, expected.low, expected.high)
    assert lead.p == metrics.mcnemar(photo.hits(), descriptors.hits())
    assert _leads(comparison)["descriptors", 0] is None
    assert comparison.notes == ()


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_images_and_classes_makes_no_difference(random: Any) -> None:
    run, other = evaluation(BIRDS, 60, seeds=2), evaluation(BIRDS, 60, seeds=2)
    photo, descriptors, *others = other.arms
    other = replace(other, arms=(photo, replace(descriptors, runs=photo.runs, top1=photo.top1), *others))
    order, classes = list(range(60)), list(range(len(BIRDS)))
    random.shuffle(order)
    random.shuffle(classes)
    shuffled = _shuffled(other, np.array(order), np.array(classes))
    assert _leads(compare([("a", run), ("b", shuffled)])) == _leads(compare([("a", run), ("b", other)]))


def test_leads_of_two_runs_are_opposite(first: Evaluation, better: Evaluation) -> None:
    there = _leads(compare([("a", first), ("b", better)]))
    back = _leads(compare([("b", better), ("a", first)]))
    for (arm, run), lead in there.items():
        if run:
            assert lead.value == pytest.approx(-back[arm, 1].value)
            assert lead.p == back[arm, 1].p


def test_a_folder_named_in_another_way_is_the_same_folder(first: Evaluation, better: Evaluation) -> None:
    moved = replace(better, images=tuple(f"/data/{name}" for name in better.images))
    assert _leads(compare([("a", first), ("b", moved)])) == _leads(compare([("a", first), ("b", better)]))


def test_repeated_images_count_once(first: Evaluation, better: Evaluation) -> None:
    groups = tuple((at, at + 1) for at in range(0, 300, 2) if first.labels[at] == first.labels[at + 1])
    assert len(groups) > 100
    plain = _leads(compare([("a", first), ("b", better)]))["descriptors", 1]
    once = _leads(compare([("a", first), ("b", replace(better, repeats=groups))]))["descriptors", 1]
    assert once.value == plain.value
    assert once.high - once.low > plain.high - plain.low


def _files(digest: str) -> dict[str, Any]:
    return {"data": {"kind": "folder", "fingerprint": digest}}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"images": ("other.jpg",)}, "1 of its 400 images are not in a"),
        ({"fewer": 3}, "it lacks 3 of the 400 images of a"),
        ({"label": 1}, "1 image have other labels than in a"),
        ({"classes": ("kiwi",)}, "it has 1 class more and 1 class fewer to choose from than a"),
        ({"files": "f00d"}, "its image files are not those of a: some have the same name and another size"),
        ({"twice": True}, "several of its images have one name, so they cannot be told apart in a"),
    ],
)
def test_what_cannot_be_paired_is_said(first: Evaluation, change: dict[str, Any], note: str) -> None:
    other, run = first, replace(first, settings=_files("abba"))
    match change:
        case {"images": names}:
            other = replace(first, images=(*names, *first.images[1:]))
        case {"fewer": count}:
            kept = np.arange(count, 400)
            other = _shuffled(first, kept, np.arange(len(BIRDS)))
        case {"label": _}:
            labels = first.labels.copy()
            labels[0] = (labels[0] + 1) % len(BIRDS)
            other = replace(first, labels=labels)
        case {"classes": names}:
            other = replace(first, classes=(*names, *first.classes[1:]))
        case {"files": digest}:
            other = replace(first, settings=_files(digest))
        case {"twice": _}:
            other = replace(first, images=(first.images[1], *first.images[1:]))
    comparison = compare([("a", run), ("b", other)])
    assert comparison.notes == (f"b is not compared: {note}",)
    assert set(_leads(comparison).values()) == {None}
    assert comparison.sentences() == ()


def test_sentences_claim_no_more_than_the_interval(first: Evaluation, better: Evaluation) -> None:
    (gain,) = compare([("a", better), ("b", first)]).sentences()
    assert gain.startswith("b classifies more images correctly than a with descriptors: +")
    (loss,) = compare([("a", first), ("b", better)]).sentences()
    assert loss.startswith("b classifies fewer images correctly than a with descriptors: −")
    (none,) = compare([("a", first), ("b", first)]).sentences()
    assert none.startswith("b vs a, descriptors: 0.0 points (95% CI −")
    assert none.endswith(": no significant difference.")


def test_an_arm_that_one_run_lacks_stands_alone(first: Evaluation) -> None:
    other = replace(first, arms=first.arms[:2])
    leads = _leads(compare([("a", other), ("b", first)]))
    assert leads["waffle", 1] is None
    assert leads["photo", 1].value == 0


def test_one_of_several_presets_pairs_with_the_run_that_has_it_alone(first: Evaluation) -> None:
    photo, descriptors, *others = first.arms
    named = replace(descriptors, name="descriptors article")
    paper = replace(named, name="descriptors paper", text="{class}, which has {descriptor}", role="other")
    several = replace(first, arms=(photo, paper, named, *others))
    names = [group.arm for group in compare([("a", first), ("b", several)]).groups]
    assert names == ["photo", "descriptors", *(arm.name for arm in others), "descriptors paper"]
    for runs, name in (((first, several), "descriptors"), ((several, first), "descriptors article")):
        groups = {group.arm: group for group in compare([("a", runs[0]), ("b", runs[1])]).groups}
        assert [row.run for row in groups[name].rows] == [0, 1]
        lead = groups[name].rows[1].lead
        assert lead
        assert lead.value == 0
        assert [row.lead for row in groups["descriptors paper"].rows] == [None]
    both = replace(first, arms=(photo, descriptors, named, *others))  # a name goes before what is read
    groups = {group.arm: group for group in compare([("a", first), ("b", both)]).groups}
    assert [row.run for row in groups["descriptors article"].rows] == [1]


def test_an_arm_in_question_that_the_first_run_lacks_is_said(first: Evaluation, better: Evaluation) -> None:
    text = "{class}, which has {descriptor}"
    arms = tuple(
        replace(arm, name="descriptors paper", text=text) if arm.name == "descriptors" else arm
        for arm in first.arms
    )
    comparison = compare([("a", replace(first, arms=arms)), ("b", better)])
    (sentence,) = comparison.sentences()
    assert sentence.startswith("b vs a: no difference for descriptors, as a has only ")
    assert "descriptors paper" in sentence


def test_nothing_to_compare() -> None:
    with pytest.raises(EvaluationError, match="pass at least one evaluation"):
        compare([])


def test_what_was_set_otherwise_is_said(first: Evaluation) -> None:
    def run(preset: str, seeds: int, **more: Any) -> Evaluation:
        wanted = {"presets": [preset], "seeds": list(range(seeds)), "concept": None, "with_name": False}
        return replace(first, settings={"store": "a.jsonl", "wanted": wanted, **more})

    alike = compare([("a", run("article", 5)), ("b", run("article", 5, command=["other"]))])
    assert (alike.differing, alike.difference) == ({}, None)
    other = compare([("a", run("article", 5)), ("b", run("paper", 9, computed={"dtype": "float16"}))])
    assert other.differing == {
        "preset": ("article", "paper"),
        "seeds": ("5", "9"),
        "dtype": ("none", "float16"),
    }
    assert other.difference == "Differs in: preset article / paper; seeds 5 / 9; dtype none / float16."
    foreign = replace(first, settings={"wanted": [1], "data": 3, "computed": {"dtype": [{}]}})
    assert compare([("a", first), ("b", foreign)]).difference
