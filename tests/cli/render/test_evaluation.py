"""An evaluation on a terminal: 80 columns, whatever the names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.worlds import some_arm

from fieldmarks.cli.render import evaluation
from fieldmarks.data.check import Preflight
from fieldmarks.evaluation.results import (
    ArmResult,
    DescriptorEffect,
    Difference,
    Estimate,
    Evaluation,
    Predictions,
)
from fieldmarks.text import columns, printable

ESTIMATE = Estimate(0.5, 0.25, 0.75)


def _arm(name: str, **more: object) -> ArmResult:
    arm, _ = some_arm([1])
    return replace(arm, name=name, **more)  # type: ignore[arg-type]


def _evaluation(*arms: ArmResult, effects: tuple[DescriptorEffect, ...] = ()) -> Evaluation:
    _, labels = some_arm([1])
    classes = tuple(f"class {n}" for n in range(7))
    images = tuple(map(str, range(len(labels))))
    return Evaluation(
        settings={},
        classes=classes,
        images=images,
        labels=labels,
        arms=arms,
        summary=("So it is.",),
        effects=effects,
    )


def test_arms_with_their_intervals() -> None:
    run = _arm("x").runs[0]
    lead = Difference("photo", 0.111, -0.0, 0.2, 0.0004)
    photo = _arm("photo", top1=ESTIMATE, top5=ESTIMATE, mean_per_class=ESTIMATE, difference=None)
    other = _arm(
        "swapped",
        top1=Estimate(1, 0.9, 1),
        top5=ESTIMATE,
        mean_per_class=ESTIMATE,
        difference=lead,
        runs=(run, Predictions(run.predicted, run.rank, 1)),
    )
    assert list(evaluation.lines(_evaluation(photo, other))) == [
        "60 images, 7 classes; accuracy in %, 95% CI in brackets",
        "arm                                top-1               top-5      mean per class",
        "photo                   50.0 (25.0–75.0)    50.0 (25.0–75.0)    50.0 (25.0–75.0)",
        "swapped (of 2)        100.0 (90.0–100.0)    50.0 (25.0–75.0)    50.0 (25.0–75.0)",
        "",
        "vs photo                         top-1, points         McNemar's p",
        "swapped (of 2)            +11.1 (0.0 to +20.0)              <0.001",
        "",
        "So it is.",
    ]


@pytest.mark.slow
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=200))
def test_nothing_is_wider_than_a_terminal(name: str, descriptor: str) -> None:
    effects = tuple(DescriptorEffect(name, f"{n}{descriptor}", -1.0, -12.345, 12.345, 7) for n in range(20))
    aggregate = "descriptors article mean-unit-embedding"
    lines = list(evaluation.lines(_evaluation(_arm("photo"), _arm(aggregate), effects=effects)))
    assert max(map(columns, lines)) <= 80
    assert aggregate in lines
    assert all(printable(line) == line for line in lines)
    assert "… 4 more" in lines


def test_what_rounds_to_zero_has_no_sign() -> None:
    small = DescriptorEffect("owl", "big eyes", -0.00001, -0.01, -0.001, 7)
    assert list(evaluation.effects([small]))[-1].split()[-3:] == ["0.00", "0.0", "0.00"]


def test_one_is_no_plural() -> None:
    assert list(evaluation.preflight(Preflight({"owl": 1}))) == [
        "  owl       1",
        "1 image in 1 class",
    ]


def test_wide_names_stand_in_line() -> None:
    found = Preflight({"鯨": 3, "owl": 2})
    assert list(evaluation.preflight(found))[:2] == ["  鯨        3", "  owl       2"]
    effects = [DescriptorEffect(name, "鯨" * 30, 0.0, 0.0, 0.0, 3) for name in ("鯨" * 12, "owl")]
    wide, narrow = list(evaluation.effects(effects))[-2:]
    assert wide.startswith(f"{'鯨' * 6}…{'鯨' * 2}   {'鯨' * 12}…{'鯨' * 5} ")
    assert columns(wide) == columns(narrow)


def test_long_sentences_are_broken() -> None:
    assert [len(line) for line in evaluation.wrapped("word " * 40)] == [79, 79, 40]


def test_preflight() -> None:
    found = Preflight({"owl": 12, "newt": 3}, without_images=("toad",), left_out=2, failures=1)
    assert list(evaluation.preflight(found)) == [
        "  owl       12",
        "  newt       3",
        "  toad       0",
        "15 images in 2 classes, 2 left out, 1 without a usable label",
    ]


def test_the_extent_of_a_data_set_is_one_line() -> None:
    assert evaluation.extent(Preflight({"owl": 20, "newt": 20})) == "40 images in 2 classes, 20 each"
    assert evaluation.extent(Preflight({"owl": 2, "newt": 1000})) == "1,002 images in 2 classes, 2–1,000 each"
    assert evaluation.extent(Preflight({"owl": 1})) == "1 image in 1 class"
