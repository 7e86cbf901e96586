"""A saved evaluation that was damaged or edited is refused with the place, or every page can show it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.cli.render import comparison as lines_of
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.comparison import compare
from fieldmarks.evaluation.results import Evaluation
from fieldmarks.report import evaluation_page, tables

PLAIN = json.dumps(evaluation(BIRDS[:3], 12, seeds=2).to_dict())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("labels", 0), 3, "labels: expected indices from 0 to 2"),
        (("labels", 0), "owl", "Expected `int`, got `str` - at `$.labels[0]`"),
        (("images",), ["a"], "labels: expected 1 entries, found 12"),
        (("classes", 1), "indigo bunting", "a class is listed twice"),
        (("arms",), [], "expected at least one image and one arm"),
        (("arms", 1, "name"), "photo", "two arms have one name"),
        (("arms", 0, "runs"), [], "arm 'photo' has no run"),
        (("arms", 0, "runs", 0, "predicted", 0), -1, "arm 'photo', predicted: expected indices from 0 to 2"),
        (("arms", 0, "runs", 0, "rank"), [0], "arm 'photo', rank: expected 12 entries, found 1"),
        (
            ("arms", 1, "top1", "value"),
            0.123,
            "arm 'descriptors': top1 is not the share of its right answers",
        ),
        (("arms", 1, "top1", "low"), float("nan"), "arm 'descriptors': expected a number, found nan"),
        (("arms", 0, "recall"), [], "arm 'photo', figures of classes: expected 3 entries, found 0"),
        (("effects", 0, "on", "picture"), [99], "expected 0 entries, found 1"),
        (("examples", 0, "scores"), [], "has no scores"),
        (("settings",), "x", "Expected `object`, got `str` - at `$.settings`"),
    ],
)
def test_a_damaged_place_is_named(path: tuple[Any, ...], value: Any, said: str) -> None:
    plain = json.loads(PLAIN)
    *before, last = path
    at = plain
    for step in before:
        at = at[step]
    at[last] = value
    with pytest.raises(EvaluationError) as caught:
        Evaluation.from_dict(plain)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_and_ranks_must_agree() -> None:
    plain = json.loads(PLAIN)
    rank = plain["arms"][0]["runs"][0]["rank"]
    rank[0] = 0 if rank[0] else 1
    with pytest.raises(EvaluationError, match="arm 'photo': predicted and rank do not fit together"):
        Evaluation.from_dict(plain)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in _places(inner, (*path, step)))]


PLACES = [place for place in _places(json.loads(PLAIN)) if place]
JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PLACES), JUNK | st.lists(JUNK, max_size=3) | st.dictionaries(st.text(), JUNK, max_size=2)
)
def test_junk_anywhere_is_refused_or_harmless(place: tuple[Any, ...], junk: Any) -> None:
    plain = json.loads(PLAIN)
    at = plain
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = junk
    try:
        loaded = Evaluation.from_dict(plain)
    except EvaluationError:
        return
    whole = Evaluation.from_dict(json.loads(PLAIN))
    comparison = compare([("a", whole), ("b", loaded)])
    assert [*lines_of.lines(comparison)]
    assert all(write(comparison) for write in tables.WRITERS.values())
    assert evaluation_page.html(loaded)
