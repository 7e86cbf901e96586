"""Review marks are about one list: they go with it, and come back with it."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.errors import StoreError
from fieldmarks.records import APPROVED, CURATED, GENERATED, IMPORTED, UNSURE, Entry
from fieldmarks.store import Store, bulk, edits, exchange, queries, undoing
from fieldmarks.store.compare import compact
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lines import current
from fieldmarks.store.lint_rules import Config
from fieldmarks.store.reviewing import is_review, review, reviewed

STAMP = Stamp(by="ada", at="2026-01-02T03:04:05+00:00", change="c1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(
        Entry("frog", ("a", "b"), origin=GENERATED, model="m", at="2025-01-01", by="bob", note="n"),
        Entry("newt", ("a",)),
        Entry("toad", ("c",), origin=CURATED),
    )
    return store


def _mark(store: Store, name: str) -> str | None:
    entry = store.get(name)
    assert entry is not None
    return entry.review


def _list(store: Store, name: str) -> tuple[str, ...]:
    entry = store.get(name)
    assert entry is not None
    return entry.descriptors


def test_a_mark_leaves_the_line_as_it_is(store: Store) -> None:
    before = store.get("frog")
    assert before is not None
    (change,) = review(store, ["frog"], APPROVED, Stamp(by="ada", at=STAMP.at, change="c1", note="why"))
    assert (
        store.get("frog")
        == change.after
        == Entry.from_dict(
            before.to_dict()
            | {
                "v": 1,
                "change": "c1",
                "review": "approved",
                "reviewed": {"by": "ada", "at": STAMP.at, "note": "why", "change": "c1"},
            }
        )
    )
    assert change.lines() == ["frog (approved)"]
    assert len(Store(store.path).history("frog")) == 2


@given(
    st.sampled_from([None, GENERATED, CURATED, IMPORTED]), st.booleans(), st.sampled_from([APPROVED, UNSURE])
)
def test_the_marked_line_is_the_current_one(origin: str | None, undo: bool, mark: str) -> None:
    history = [Entry("x", ("old",), origin=CURATED), Entry("x", ("a",), origin=origin, undo=undo)]
    now = current(history)
    assert now is not None
    line = reviewed(now, mark, STAMP)
    assert line is not None
    assert is_review(line)
    assert current([*history, line]) is line
    assert line.descriptors == now.descriptors
    assert Entry.from_dict(line.to_dict()) == line


def test_another_list_has_no_mark(store: Store) -> None:
    def again() -> None:
        review(store, ["frog"], APPROVED, Stamp())
        assert _mark(store, "frog") == APPROVED

    again()
    edits.add(store, "frog", ["z"], STAMP)
    assert _mark(store, "frog") is None
    again()
    edits.drop(store, "frog", ["z"], STAMP)
    assert _mark(store, "frog") is None
    again()
    bulk.rewrite(store, bulk.replacing("a", "aa"), STAMP)
    assert _mark(store, "frog") is None
    again()
    exchange.import_file(store, [Entry("frog", ("q",), origin=IMPORTED)], STAMP, overwrite=True)
    assert _mark(store, "frog") is None
    again()
    edits.rename(store, "frog", "tree frog", STAMP)
    assert _mark(store, "tree frog") is None


def test_a_new_answer_has_no_mark_and_an_import_of_the_same_list_leaves_it(store: Store) -> None:
    review(store, ["frog", "newt"], APPROVED, STAMP)
    exchange.import_file(store, [Entry("frog", ("a", "b"), origin=IMPORTED)], STAMP)
    store.append(Entry("newt", ("b",), origin=GENERATED))
    assert (_mark(store, "frog"), _mark(store, "newt")) == (APPROVED, APPROVED)  # newt was typed: it stays
    store.append(Entry("frog", ("c",), origin=GENERATED))
    assert _mark(store, "frog") is None


def test_undo_takes_a_mark_back_and_brings_it_back_with_its_list(store: Store) -> None:
    review(store, ["frog", "newt"], APPROVED, Stamp())
    review(store, ["frog"], UNSURE, Stamp())
    edits.add(store, "frog", ["z"], Stamp())
    marks = []
    for _ in range(3):
        undoing.undo(store, None, Stamp())
        marks.append((_mark(store, "frog"), _mark(store, "newt")))
    assert marks == [(UNSURE, APPROVED), (APPROVED, APPROVED), (None, None)]
    undoing.redo(store, None, Stamp())
    assert (_mark(store, "frog"), _mark(store, "newt")) == (APPROVED, APPROVED)


def test_undo_after_a_compaction_takes_the_mark_alone(store: Store) -> None:
    review(store, ["frog", "newt"], APPROVED, Stamp())
    compact(store)
    undoing.undo(store, None, Stamp())
    assert [(entry.name, entry.descriptors, entry.review) for entry in store.entries()] == [
        ("frog", ("a", "b"), None),
        ("newt", ("a",), None),
        ("toad", ("c",), None),
    ]


def test_tokens_are_counted_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    store.append(Entry("frog", ("a",), origin=GENERATED, at="2025-01-01", answer="- a", usage=usage))
    review(store, ["frog"], APPROVED, Stamp())
    assert queries.stats(store, Config())["tokens"] == 10
    assert queries.stats(store, Config())["review"] == {"approved": 1}


def test_all_are_those_without_a_mark(store: Store) -> None:
    review(store, ["newt"], UNSURE, STAMP)
    assert [row.name for row in queries.rows(store, Config(), unreviewed=True)] == ["frog", "newt", "toad"]
    assert [change.name for change in review(store, [], APPROVED, STAMP)] == ["frog", "toad"]
    assert [row.name for row in queries.rows(store, Config(), unreviewed=True)] == ["newt"]
    assert review(store, [], APPROVED, STAMP) == []
    assert review(store, ["frog", "frog"], APPROVED, STAMP) == []  # ada did
    assert len(review(store, ["frog"], APPROVED, Stamp(by="bob"))) == 1


def test_errors(store: Store) -> None:
    with pytest.raises(StoreError, match="has no class 'frogg': did you mean 'frog'"):
        review(store, ["newt", "frogg"], APPROVED, STAMP)
    assert _mark(store, "newt") is None
    store.append(Entry("odd", ("a",), extra={"review": "by peers"}))
    with pytest.raises(
        StoreError, match="class 'odd' has the key 'review' with 'by peers', which is not a review"
    ):
        review(store, ["odd"], APPROVED, STAMP)
    assert Store(store.path).get("odd").extra == {"review": "by peers"}  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_marks_go_through_a_table(tmp_path: Path, store: Store, suffix: str) -> None:
    review(store, ["frog"], APPROVED, Stamp(by="ada", note="seen"))
    table = tmp_path / f"x.{suffix}"
    exchange.export_file(store, table, suffix, license_id="mit")
    assert exchange.import_file(store, exchange.read_file(table), STAMP) == []
    assert store.get("frog").reviewed["by"] == "ada"  # type: ignore[union-attr,index]
    other = Store(tmp_path / "other.jsonl", create=True)
    exchange.import_file(other, exchange.read_file(table), STAMP)
    assert (_mark(other, "frog"), _mark(other, "newt")) == (APPROVED, None)
    entry = other.get("frog")
    assert entry is not None
    assert entry.reviewed == {"by": STAMP.by, "at": STAMP.at, "note": STAMP.note, "change": ""}
    assert Entry.from_dict(entry.to_dict()) == entry
    undoing.undo(other, None, Stamp())
    assert other.names() == []


def test_a_mark_in_a_table_is_about_the_list_beside_it(store: Store) -> None:
    def sheet(*descriptors: str, mark: str) -> list[Entry]:
        return [Entry("frog", descriptors, origin=IMPORTED, review=mark)]

    def import_(*descriptors: str, mark: str) -> str | None:
        exchange.import_file(store, sheet(*descriptors, mark=mark), Stamp(by="bo"), overwrite=True)
        return _mark(store, "frog")

    assert import_("a", "b", mark=UNSURE) == UNSURE  # the same list, marked in the sheet
    assert import_("a", mark=UNSURE) is None  # the mark may be older than the list
    assert import_("a", "c", mark=APPROVED) == APPROVED
    undoing.undo(store, "frog", Stamp())
    assert (_list(store, "frog"), _mark(store, "frog")) == (("a",), None)
    undoing.redo(store, "frog", Stamp())
    assert (_list(store, "frog"), _mark(store, "frog")) == (("a", "c"), APPROVED)
    assert import_("a", "c", mark=UNSURE) == UNSURE
    undoing.undo(store, None, Stamp())
    assert (_list(store, "frog"), _mark(store, "frog")) == (("a", "c"), APPROVED)


def test_a_folder_brings_who_marked_a_list_and_when(tmp_path: Path, store: Store) -> None:
    other = Store(tmp_path / "other.jsonl", create=True)
    exchange.import_file(other, [replace(e, origin=IMPORTED) for e in store.entries()], STAMP)
    review(store, ["frog"], APPROVED, Stamp(by="ada", at="2026-01-01T00:00:00+00:00", note="seen"))
    exchange.export_file(store, tmp_path / "folder", "folder", license_id="mit")
    changes = exchange.import_file(other, exchange.read_file(tmp_path / "folder"), STAMP)
    assert [change.name for change in changes] == ["frog"]
    entry = other.get("frog")
    assert entry is not None
    assert entry.reviewed == {
        "by": "ada",
        "at": "2026-01-01T00:00:00+00:00",
        "note": "seen",
        "change": f"import-{STAMP.change}",
    }
    assert is_review(entry)
