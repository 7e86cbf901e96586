"""`store undo`, `redo`, `restore`: what they say first, when they ask, and what they leave in the file."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.kit import on_a_terminal

from fieldmarks.cli import main
from fieldmarks.records import CURATED, FAILED, GENERATED, IMPORTED, Entry
from fieldmarks.store import Store, exchange
from fieldmarks.store.edits import Stamp

pytestmark = pytest.mark.usefixtures("own_folder")
AT = "2026-01-02T03:04:05+00:00"


def _imported(classes: int) -> Path:
    """Return a store with an answer for "frog" and an import of so many classes."""
    file = Path("store.jsonl")
    store = Store(file, create=True)
    store.append(Entry("frog", ("wide mouth",), origin=GENERATED, answer="- wide mouth"))
    lines = [Entry(f"class {number}", (f"trait {number}",), origin=IMPORTED) for number in range(classes)]
    exchange.import_file(store, lines, Stamp(by="ada", note="from the sheet", at=AT))
    return file


def _store(runner: CliRunner, *arguments: str) -> Result:
    return runner.invoke(main, ["store", *arguments, "--by", "bob"])


def test_undo_says_what_it_takes_back_and_redo_brings_it_back(runner: CliRunner) -> None:
    file = _imported(2)
    before = file.read_bytes()
    what = f"an import of 2 classes by ada at {AT} (from the sheet)"
    result = _store(runner, "undo", "store.jsonl")
    assert result.exit_code == 0
    assert result.stdout == "class 0 (dropped)\n- trait 0\nclass 1 (dropped)\n- trait 1\n"
    again = "`fieldmarks store redo store.jsonl` brings it back."
    assert result.stderr == f"Undid {what}: 2 classes removed. {again}\n"
    assert Store(file).names() == ["frog"]
    result = _store(runner, "redo", "store.jsonl")
    assert result.stdout == "class 0 (added)\n+ trait 0\nclass 1 (added)\n+ trait 1\n"
    assert result.stderr == (
        f"Redid {what}: 2 classes brought back. `fieldmarks store undo store.jsonl` reverts it.\n"
    )
    assert Store(file).names() == ["frog", "class 0", "class 1"]
    result = _store(runner, "redo", "store.jsonl")
    assert (result.exit_code, result.stderr) == (1, "Error: store.jsonl: nothing to redo\n")
    assert file.read_bytes().startswith(before)


def test_history_names_undo_and_redo(runner: CliRunner) -> None:
    _imported(1)
    for verb in ("undo", "redo"):
        assert _store(runner, verb, "store.jsonl", "class 0").exit_code == 0
    shown = runner.invoke(main, ["store", "history", "store.jsonl", "class 0"]).stdout
    heads = [line.split(",")[0] for line in shown.splitlines() if not line.startswith(" ")]
    assert heads == ["1. imported", "2. undo", "3. redo"]


@pytest.mark.parametrize(("classes", "code"), [(20, 0), (21, 2)])
def test_without_a_terminal_more_than_20_classes_need_yes(runner: CliRunner, classes: int, code: int) -> None:
    file = _imported(classes)
    before = file.read_bytes()
    result = _store(runner, "undo", "store.jsonl")
    assert result.exit_code == code
    if code:
        assert (result.stdout.count("\n"), result.stderr.count("\n")) == (42, 1)
        assert "(21 classes removed); pass --yes to go ahead" in result.stderr
        assert file.read_bytes() == before
        assert _store(runner, "undo", "store.jsonl", "--dry-run").exit_code == 0
        assert file.read_bytes() == before
        assert _store(runner, "undo", "store.jsonl", "--yes").exit_code == 0
    assert Store(file).names() == ["frog"]
    assert _store(runner, "redo", "store.jsonl").exit_code == code
    assert _store(runner, "redo", "store.jsonl", "--yes").exit_code == (1 if code == 0 else 0)
    assert len(Store(file)) == 1 + classes


def test_what_is_shown_of_a_large_change_is_capped_and_a_dry_run_shows_all(runner: CliRunner) -> None:
    _imported(100)
    result = _store(runner, "undo", "store.jsonl", "--dry-run")
    assert result.stdout.count("\n") == 200
    result = _store(runner, "undo", "store.jsonl", "--yes")
    assert result.stdout.count("\n") == 60
    assert "… 140 more lines\n" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 1), (b"n\n", 1, 31), (b"\n", 1, 31)])
def test_a_terminal_is_asked(answer: bytes, code: int, left: int) -> None:
    file = _imported(30)
    returned, shown = on_a_terminal(["store", "undo", "store.jsonl"], answer)
    assert returned == code
    question = (
        f"This would undo an import of 30 classes by ada at {AT} (from the sheet) (30 classes removed)."
    )
    assert f"{question}\nGo ahead? [y/N]: " in shown
    assert ("Nothing was changed." in shown) == (code == 1)
    assert len(Store(file)) == left


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (Entry("frog", ("x",), origin=CURATED, change="c"), "an edit of 1 class"),
        (Entry("frog", removed=True, change="c"), "a removal of 1 class"),
        (Entry("frog", ("new",), origin=GENERATED), "an answer of 1 class"),
    ],
)
def test_kinds_of_changes_are_named(runner: CliRunner, line: Entry, what: str) -> None:
    Store("store.jsonl", create=True).append(Entry("frog", ("a",), origin=GENERATED), line)
    assert _store(runner, "undo", "store.jsonl", "frog").stderr.startswith(f"Undid {what}: ")


def test_a_renaming_is_named(runner: CliRunner) -> None:
    _imported(0)
    assert _store(runner, "rename", "store.jsonl", "frog", "tree frog").exit_code == 0
    shown = _store(runner, "undo", "store.jsonl").stderr
    assert shown.startswith("Undid a rename of 2 classes by bob at ")
    assert "1 class removed, 1 class brought back." in shown


def test_restore(runner: CliRunner) -> None:
    store = Store("store.jsonl", create=True)
    store.append(
        Entry("frog", ("first",), origin=GENERATED, answer="- first"),
        Entry("frog", origin=FAILED, answer="?"),
        Entry("frog", ("typed",)),
        Entry("frog", removed=True),
    )
    before = Path("store.jsonl").read_bytes()
    for number, message in (
        ("2", "line 2 of class 'frog' is a failed answer and has no descriptors"),
        ("4", "line 4 of class 'frog' removed the class: to remove it again, use"),
        ("5", "the history of class 'frog' has lines 1–4, no line 5"),
        ("0", "the history of class 'frog' has lines 1–4, no line 0"),
    ):
        result = _store(runner, "restore", "store.jsonl", "frog", number)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert message in result.stderr
    assert _store(runner, "restore", "store.jsonl", "toad", "1").exit_code == 1
    assert _store(runner, "restore", "store.jsonl", "frog", "x").exit_code == 2
    result = _store(runner, "restore", "store.jsonl", "frog", "1", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "frog (added)\n+ first\n")
    assert Path("store.jsonl").read_bytes() == before
    result = _store(runner, "restore", "store.jsonl", "frog", "1", "--note", "better")
    assert result.stderr == ("Restored line 1 of 'frog'. `fieldmarks store undo store.jsonl` reverts it.\n")
    store = Store("store.jsonl")
    store.append(Entry("frog", ("newer",), origin=GENERATED))
    entry = store.get("frog")
    assert entry is not None
    assert (entry.descriptors, entry.origin, entry.note) == (("first",), CURATED, "better")
    result = _store(runner, "restore", "store.jsonl", "frog", "5")
    assert (result.exit_code, result.stderr) == (0, "Nothing to change.\n")
    assert _store(runner, "undo", "store.jsonl", "frog").exit_code == 0
    assert "frog" not in Store("store.jsonl")
