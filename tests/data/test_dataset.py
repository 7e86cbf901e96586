"""Limits, splits, columns and names, which all kinds of data sets share."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.classification.results import Failure
from fieldmarks.data import Example
from fieldmarks.data.dataset import choose_column, choose_split, expand, listed, record, spread
from fieldmarks.errors import EvaluationError


@given(st.integers(0, 300), st.integers(1, 400))
def test_a_limit_takes_as_many_as_it_says_evenly(count: int, limit: int) -> None:
    chosen = spread(range(count), limit)
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    gaps = {after - before for before, after in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_without_a_limit_all_are_taken() -> None:
    assert spread("abc", None) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (" cafe\u0301 ", Example("p", "café")),
        (7, Example("p", "7")),
        (None, Failure("name", "it has no label")),
        (" ", Failure("name", "it has no label")),
        (True, Failure("name", "its label is a bool: expected a string")),
        (1.5, Failure("name", "its label is a float: expected a string")),
    ],
)
def test_labels_are_names_of_classes(label: object, expected: object) -> None:
    assert record("p", label, "name") == expected


@pytest.mark.parametrize("label", ["a\nb", "a\0b", "\ud800", "x" * 301])
def test_labels_that_are_no_names(label: str) -> None:
    failure = record("p", label, "name")
    assert isinstance(failure, Failure)
    assert failure.error.startswith("its label cannot be used: class name ")


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["train", "test"], "test"),
        (["validation", "test"], "test"),
        (["dev", "Eval", "train"], "Eval"),
        (["train", "Val"], "Val"),
        (["train", "validation", "dev"], "validation"),
        (["anything"], "anything"),
    ],
)
def test_the_default_split(available: list[str], chosen: str) -> None:
    assert choose_split(available, None) == chosen


def test_splits_that_are_not_clear() -> None:
    with pytest.raises(EvaluationError, match="several splits: pass --split with one of 'a', 'b'"):
        choose_split(["a", "b"], None)
    with pytest.raises(EvaluationError, match="it has no splits"):
        choose_split([], "c")


def test_columns() -> None:
    assert choose_column("image", None, ["one"], ["one", "two"]) == "one"
    assert choose_column("image", "two", ["one"], ["one", "two"]) == "two"
    with pytest.raises(
        EvaluationError, match="several columns could be the image: pass --image-column with one of"
    ):
        choose_column("image", None, ["one", "two"], ["one", "two"])
    with pytest.raises(EvaluationError, match="it has no column 'x': pass --label-column with one of 'one'"):
        choose_column("label", "x", [], ["one"])
    with pytest.raises(EvaluationError, match="no label column recognised: pass --label-column"):
        choose_column("label", None, [], ["one"])


def test_long_lists_are_cut() -> None:
    assert listed([str(number) for number in range(12)]).endswith("'8', '9' and 2 more")
    assert len(listed(["x" * 1000])) < 100


def test_ranges_that_have_no_end() -> None:
    for spec in ("a-{0..999999999}.tar", "a-{9..3}.tar"):
        with pytest.raises(EvaluationError, match="is not a range of at most"):
            expand(spec, (".tar",))
