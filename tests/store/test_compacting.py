"""Compaction drops what is not needed, keeps the bytes of what is, and changes nothing that is current."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmarks.records import CURATED, FAILED, GENERATED, Entry
from fieldmarks.store import Store
from fieldmarks.store.compare import Compaction, compact

LINE = st.builds(
    Entry,
    name=st.sampled_from(["frog", "toad"]),
    descriptors=st.lists(st.sampled_from("abc"), max_size=1).map(tuple),
    origin=st.sampled_from([GENERATED, CURATED, FAILED]),
    model=st.sampled_from([None, "m", "n"]),
    removed=st.booleans(),
    undo=st.booleans(),
)


def _answers(store: Store) -> set[tuple[str, str | None]]:
    """Return the (class, model) whose answers save a question: those since the class was last ended."""
    answers = set()
    for name in store.all_names():
        for entry in reversed(store.history(name)):
            if entry.removed:
                break
            if entry.origin == GENERATED:
                answers.add((name, entry.model))
    return answers


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINE, max_size=10))
def test_what_is_current_and_what_was_answered_stays(tmp_path: Path, lines: list[Entry]) -> None:
    file = tmp_path / "store.jsonl"
    file.unlink(missing_ok=True)
    store = Store(file, create=True)
    store.append(*lines)
    file.touch()
    before, answers = list(store.entries()), _answers(store)
    done = compact(store)
    after = Store(file)
    # In the same order, which positions may have to tell now; what undo can no longer take back says so.
    assert [replace(entry, position=None, compacted=False) for entry in after.entries()] == before
    assert list(after.entries()) == list(store.entries())
    assert _answers(after) >= answers
    assert done == Compaction(len(lines), len(list(after.lines())))
    assert compact(store).after == done.after, "once is enough"


@pytest.mark.parametrize("keep_history", [True, False])
def test_lines_that_stay_keep_their_bytes(tmp_path: Path, keep_history: bool) -> None:
    file = tmp_path / "store.jsonl"
    old, new = (
        b'{"class": "frog", "x": 1.50}',
        b'{ "class" : "frog", "huge": 123456789012345678901234567890 }',
    )
    file.write_bytes(b"\xef\xbb\xbf" + old + b"\r\n\n" + new + b"\r\n" + b'{"cla')
    file.chmod(0o600)
    assert compact(Store(file), keep_history=keep_history, dry_run=True) == Compaction(2, 1 + keep_history)
    assert b"cla" in file.read_bytes()[-6:]
    compact(Store(file), keep_history=keep_history)
    assert file.read_bytes() == (old + b"\n") * keep_history + new + b"\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_other_processes_go_on_after_a_compaction(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    ours = Store(file, create=True)
    ours.append(Entry("frog", ("a",)), Entry("frog", ("b",)))
    theirs = Store(file)
    compact(ours)
    assert theirs.history("frog") == [Entry("frog", ("a",)), Entry("frog", ("b",))], "a snapshot of before"
    theirs.append(Entry("toad"))
    assert [entry.name for entry in theirs.entries()] == Store(file).names() == ["frog", "toad"]
    assert len(Store(file).history("frog")) == 1
