"""Results as a table, exactly."""

from dataclasses import replace

import click

from fieldmarks.classification.results import (
    NONE_OF_THESE,
    Explanation,
    Failure,
    Mark,
    Prediction,
    Score,
    shortened,
)
from fieldmarks.cli.render.results import table_rows, table_width

GREEN, YELLOW, BOLD, END = "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"


WIDTH = table_width(["tree frog", "owl"])


def _shown(result: Prediction | Failure, *, top: int = 1, explain_top: int = 0) -> list[str]:
    cut = shortened(result, top=top, explain_top=explain_top, baseline=True)
    return [*map(click.unstyle, table_rows(cut, WIDTH))]


def test_a_table(prediction: Prediction, failure: Failure) -> None:
    assert _shown(prediction) == [" 90.0%  tree frog  photos/one.png  (name alone: owl)"]
    assert _shown(failure) == []
    assert _shown(replace(prediction, label=None, baseline=None), top=2) == [
        "        (unsure)   photos/one.png  (best: tree frog, 90.0%)",
        " 10.0%  owl",
    ]


def test_the_share_of_a_rejected_class_is_not_the_labels(prediction: Prediction) -> None:
    reason = "the score of tree frog, 0.212, is under its threshold 0.250"
    rejected = replace(prediction, label=None, reason=reason, labels=("tree frog", "owl"))
    assert _shown(rejected) == [
        "        (none of these)  photos/one.png  (best: tree frog, 90.0%)  (name alone: owl)",
        f"          {reason}",
        "          would be one of: tree frog, owl",
    ]
    assert _shown(replace(prediction, labels=("tree frog",)))[1:] == ["          one of: tree frog"]
    assert rejected.is_doubted
    assert not prediction.is_doubted


def test_a_table_with_marks(prediction: Prediction) -> None:
    assert _shown(prediction, explain_top=2)[1:] == [
        "          tree frog           logit     0",
        "            protruding eyes    25.5     █████████████████████",
        "            a wide mouth       23.0     ███████████████████",
        "          owl                 logit     0",
        "            big eyes           24.1     ████████████████████",
        "            a hooked beak      −3.2  ███",
        "          decided: protruding eyes 25.5 against big eyes 24.1",
    ]


def test_the_colours_of_marks(prediction: Prediction) -> None:
    rows = list(table_rows(shortened(prediction, top=1, explain_top=2, baseline=True), WIDTH))
    assert rows[2] == f"            protruding eyes    25.5     {GREEN}█████████████████████{END}"
    assert rows[5] == f"            big eyes           24.1     {YELLOW}████████████████████{END}"
    assert rows[7] == f"{BOLD}          decided: protruding eyes 25.5 against big eyes 24.1{END}"
    assert [row.count("\x1b") for row in rows] == [0, 0, 2, 2, 0, 2, 2, 2]


def test_relative_marks(prediction: Prediction) -> None:
    marks = (Mark("owl", "beak", 3.0, 1.5), Mark("owl", "eyes", 2.0, -0.5))
    relative = replace(prediction, explanation=Explanation(marks, (), None))
    assert _shown(relative, explain_top=2)[1:] == [
        "          owl          z        0",
        "            beak   +1.50        ██████████████████",
        "            eyes   −0.50  ██████",
    ]


def test_the_marks_of_more_classes(prediction: Prediction) -> None:
    assert prediction.explanation
    third = replace(prediction.explanation, further=((Mark("newt", "a long tail", 2.0),),))
    rows = _shown(replace(prediction, explanation=third), explain_top=3)
    assert [row for row in rows if "newt" in row or "long tail" in row] == [
        "          newt                logit     0",
        "            a long tail         2.0     ██",
    ]
    assert "newt" not in "".join(_shown(replace(prediction, explanation=third), explain_top=2))
    alone = _shown(replace(prediction, explanation=third), explain_top=1)
    assert [row.split("  ")[0] for row in alone if "decided" in row or "big eyes" in row] == []


def test_no_label_because_the_catch_all_fits_best() -> None:
    nothing = Prediction("a.png", None, (Score(NONE_OF_THESE, 0.75, 9.0), Score("owl", 0.25, 8.0)))
    assert list(table_rows(nothing, table_width(["owl", NONE_OF_THESE]))) == [
        " 75.0%  (none of these)  a.png",
        " 25.0%  owl",
    ]


def test_nothing_of_a_stranger_reaches_the_terminal_raw(hostile: Prediction) -> None:
    rows = table_rows(hostile, WIDTH)
    text = "\n".join(rows)
    for ours in (GREEN, YELLOW, BOLD, END):
        text = text.replace(ours, "")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[31m" in text
