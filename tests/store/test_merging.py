"""Merging keeps every line of both stores and makes the preferred one current."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmarks.choices import Preference, words
from fieldmarks.errors import StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, Entry
from fieldmarks.store import Store
from fieldmarks.store.compare import merge
from fieldmarks.store.edits import Stamp

LINE = st.builds(
    Entry,
    name=st.sampled_from(["frog", "toad"]),
    descriptors=st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple),
    origin=st.sampled_from([GENERATED, CURATED, FAILED, None]),
    rejected=st.lists(st.sampled_from("ab"), max_size=1).map(tuple),
    removed=st.booleans(),
    undo=st.booleans(),
    at=st.sampled_from([None, "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00", "soon"]),
)


def _store(path: Path, lines: list[Entry]) -> Store:
    path.unlink(missing_ok=True)
    Store(path, create=True).append(*lines)
    path.touch()
    return Store(path)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    a=st.lists(LINE, max_size=5),
    b=st.lists(LINE, max_size=5),
    prefer=st.sampled_from(words(Preference)),
)
def test_merging_keeps_every_line_and_obeys(
    tmp_path: Path, a: list[Entry], b: list[Entry], prefer: str
) -> None:
    mine, theirs = _store(tmp_path / "a", a), _store(tmp_path / "b", b)
    out = tmp_path / "out"
    out.unlink(missing_ok=True)
    differ = merge(mine, theirs, out, prefer, Stamp())
    merged = Store(out)
    assert sorted(merged.names()) == sorted({*mine.names(), *theirs.names()})
    for name in ("frog", "toad"):
        assert all(line in merged.history(name) for line in [*mine.history(name), *theirs.history(name)])
        from_a, from_b, now = mine.get(name), theirs.get(name), merged.get(name)
        if from_a is None or from_b is None:
            assert now == (from_a or from_b)
        elif prefer in ("a", "b"):
            assert now == (from_a if prefer == "a" else from_b)
        elif prefer == "newest":
            assert now in (from_a, from_b)
        else:
            rejected = {*from_a.rejected, *from_b.rejected}
            assert now is not None
            assert set(now.descriptors) == ({*from_a.descriptors, *from_b.descriptors} - rejected)
        assert (name in differ) == bool(from_a and from_b and from_a.descriptors != from_b.descriptors)


def test_the_newest_wins_and_a_line_without_a_date_is_old(tmp_path: Path) -> None:
    a = _store(tmp_path / "a", [Entry("frog", ("a",), at="2026-01-01T10:00:00+02:00"), Entry("toad", ("a",))])
    b = _store(
        tmp_path / "b",
        [Entry("frog", ("b",), at="2026-01-01T09:00:00"), Entry("toad", ("b",), at="2020-01-01")],
    )
    assert merge(a, b, tmp_path / "out", "newest", Stamp()) == ["frog", "toad"]
    assert [entry.descriptors for entry in Store(tmp_path / "out").entries()] == [("b",), ("b",)]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    a = _store(tmp_path / "a", [Entry("frog")])
    with pytest.raises(StoreError, match="already exists"):
        merge(a, a, tmp_path / "a", "a", Stamp())
