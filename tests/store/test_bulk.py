"""One descriptor over many classes: found, dropped and replaced in one change, which one undo takes back."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit import write_store

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store import Store, bulk, edits, queries, undoing
from fieldmarks.store.bulk import Rewrite
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lint_rules import Config

DOGS = {
    "corgi": ("short legs", "large ears"),
    "basset": ("Short legs.", "long ears", "short-legs"),
    "poodle": ("curly coat",),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(write_store(tmp_path / "dogs.jsonl", DOGS))


def _lists(store: Store) -> dict[str, tuple[str, ...]]:
    return {entry.name: entry.descriptors for entry in store.entries()}


def test_grep_groups_the_spellings_of_a_descriptor(store: Store) -> None:
    legs, large, long = bulk.grep(store, "LEGS|ears")
    assert legs.to_dict() == {
        "descriptor": "short legs",
        "places": [
            {"class": "corgi", "number": 1, "descriptor": "short legs"},
            {"class": "basset", "number": 1, "descriptor": "Short legs."},
            {"class": "basset", "number": 3, "descriptor": "short-legs"},
        ],
    }
    assert legs.names == ["corgi", "basset"]
    assert [match.descriptor for match in (large, long)] == ["large ears", "long ears"]
    assert bulk.grep(store, shared=True) == [legs]
    assert bulk.grep(store, "ears", shared=True) == []
    assert bulk.grep(store, "x") == []


@pytest.mark.parametrize("make", [bulk.dropping, lambda regex: bulk.substituting(regex, "x"), bulk.pattern])
def test_what_is_no_regular_expression_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(StoreError, match=r"'\(' is not a regular expression"):
        make("(")


def test_a_template_is_read_before_anything_matches() -> None:
    with pytest.raises(StoreError, match=r"is not a replacement for 'x': invalid group reference 2"):
        bulk.substituting("x", r"\2")


def test_drop_remembers_what_it_rejects(store: Store) -> None:
    changes = bulk.rewrite(store, bulk.dropping("legs"), Stamp(by="ada", note="all dogs"))
    assert [change.name for change in changes] == ["corgi", "basset"]
    assert _lists(store) == {"corgi": ("large ears",), "basset": ("long ears",), "poodle": ("curly coat",)}
    basset = edits.current_entry(store, "basset")
    assert (basset.rejected, basset.by, basset.note) == (("Short legs.", "short-legs"), "ada", "all dogs")


def test_replace_merges_what_becomes_equal(store: Store) -> None:
    rule = bulk.replacing("SHORT LEGS", "  long  ears ")
    changes = bulk.rewrite(store, rule, Stamp())
    assert _lists(store)["corgi"] == ("long ears", "large ears")
    assert _lists(store)["basset"] == ("long ears",)
    assert edits.current_entry(store, "corgi").rejected == ("short legs",)
    assert bulk.rewrites(changes, rule) == [
        Rewrite("short legs", "long ears", ("corgi",), frozenset()),
        Rewrite("Short legs.", "long ears", ("basset",), frozenset({"basset"})),
        Rewrite("short-legs", "long ears", ("basset",), frozenset({"basset"})),
    ]


def test_two_that_become_equal_to_each_other_stay_once(store: Store) -> None:
    bulk.rewrite(store, bulk.substituting("large|long|curly", "big"), Stamp())
    assert _lists(store)["basset"] == ("Short legs.", "big ears", "short-legs")
    bulk.rewrite(store, bulk.substituting(r"^short.legs\.?$", "big ears"), Stamp())
    assert _lists(store) == {"corgi": ("big ears",), "basset": ("big ears",), "poodle": ("big coat",)}


def test_groups_of_a_pattern(store: Store) -> None:
    bulk.rewrite(store, bulk.substituting(r"^(\w+) (?P<part>ears)", r"\g<part>, \1"), Stamp(), "basset")
    assert _lists(store)["basset"] == ("Short legs.", "ears, long", "short-legs")
    assert _lists(store)["corgi"] == DOGS["corgi"]


def test_a_replacement_that_leaves_nothing_is_refused_and_nothing_is_half_written(store: Store) -> None:
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match=r"replacing in 'short legs': a descriptor is empty.*store drop"):
        bulk.rewrite(store, bulk.substituting("short.*|curly coat", ""), Stamp())
    assert store.path.read_bytes() == before


def test_a_spelling_can_be_changed(store: Store) -> None:
    bulk.rewrite(store, bulk.replacing("short legs", "Short Legs"), Stamp())
    assert _lists(store)["corgi"] == ("Short Legs", "large ears")
    assert edits.current_entry(store, "corgi").rejected == ()


def test_what_is_missing_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no class has the descriptor 'curly coats'; did you mean 'curly c"):
        bulk.check_present(store, "curly coats")
    with pytest.raises(
        StoreError, match=r"class 'corgi' does not have the descriptor 'curly coat'; pass --re"
    ):
        bulk.check_present(store, "curly coat", "corgi")
    with pytest.raises(StoreError, match="did you mean 'corgi'"):
        bulk.rewrite(store, bulk.dropping("x"), Stamp(), "corgy")
    bulk.check_present(store, "Curly coat!")


def test_a_plan_that_no_longer_holds_is_refused(store: Store) -> None:
    rule, stamp = bulk.dropping("coat"), Stamp()
    plan = bulk.rewrite(store, rule, stamp, dry_run=True)
    edits.add(Store(store.path), "corgi", ["red coat"], Stamp())
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match="changed in the meantime; nothing was written: try again"):
        bulk.rewrite(store, rule, stamp, plan=plan)
    assert store.path.read_bytes() == before


TEXTS = st.sampled_from(["a", "A", "a b", "b", "b.", "ab", "c", "a-b"])
LISTS = st.lists(TEXTS, max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    classes=st.dictionaries(st.sampled_from(["frog", "newt", "toad"]), LISTS, min_size=1),
    old=TEXTS,
    new=TEXTS,
    verb=st.sampled_from(["replace", "regex", "drop"]),
)
def test_undo_takes_a_bulk_change_back_whole(
    tmp_path: Path, classes: dict[str, list[str]], old: str, new: str, verb: str
) -> None:
    path = tmp_path / "s.jsonl"
    path.unlink(missing_ok=True)
    store = Store(write_store(path, classes))
    before: dict[str, Entry] = {entry.name: entry for entry in store.entries()}
    rule = {
        "replace": bulk.replacing(old, new),
        "regex": bulk.substituting(old, new),
        "drop": bulk.dropping(old),
    }[verb]
    changes = bulk.rewrite(store, rule, Stamp())
    assert {change.name for change in changes} == {
        name for name, texts in _lists(store).items() if texts != before[name].descriptors
    }
    if changes:
        assert len(undoing.undo(store, None, Stamp())) == len(changes)
    assert _lists(store) == {name: entry.descriptors for name, entry in before.items()}
    assert all(not entry.rejected for entry in store.entries())


def test_an_expression_is_found_in_every_spelling_that_counts_as_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path / "spellings.jsonl", create=True)
    store.append(Entry("corgi", ("short, legs",)), Entry("basset", ("Short legs",)), Entry("owl", ("Ärmel",)))
    (match,) = bulk.grep(store, "short legs")
    assert match.names == ["corgi", "basset"]
    assert [match.names for match in bulk.grep(store, "short, legs")] == [["corgi"]], "as it is written"
    assert [row.name for row in queries.rows(store, Config(), grep="short legs")] == ["corgi", "basset"]
    changes = bulk.rewrite(store, bulk.dropping("^short legs$"), Stamp())
    assert [change.name for change in changes] == ["corgi", "basset"]
