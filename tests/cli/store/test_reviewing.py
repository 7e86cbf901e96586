"""`store review`: marks in one line, taken back in another."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import write_store

from fieldmarks.cli import main
from fieldmarks.store import Store


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_store(Path("s.jsonl"), {"frog": ["a"], "newt": ["b"], "toad": ["c"]}).name


def _marks(file: str) -> list[str | None]:
    return [entry.review for entry in Store(file).entries()]


def test_marks_and_their_undoing(runner: CliRunner, file: str) -> None:
    done = runner.invoke(main, ["store", "review", file, "frog", "newt"])
    assert (done.exit_code, done.stdout) == (0, "frog (approved)\nnewt (approved)\n")
    assert done.stderr == "Marked 2 classes as approved. `fieldmarks store undo s.jsonl` reverts it.\n"
    tried = runner.invoke(main, ["store", "review", file, "--all", "--unsure", "--dry-run"])
    assert (tried.stdout, tried.stderr) == ("toad (unsure)\n", "Dry run: nothing was written.\n")
    assert _marks(file) == ["approved", "approved", None]
    again = runner.invoke(main, ["store", "review", file, "frog"])
    assert (again.exit_code, again.stderr) == (0, "Nothing to change.\n")
    changed = runner.invoke(main, ["store", "add", file, "frog", "z"])
    assert changed.stdout == "frog (no longer marked approved)\n+ z\n"
    runner.invoke(main, ["store", "undo", file])
    back = runner.invoke(main, ["store", "undo", file])
    assert back.stdout == "frog (no longer marked approved)\nnewt (no longer marked approved)\n"
    assert back.stderr.startswith("Undid a review of 2 classes by ")
    assert _marks(file) == [None, None, None]


def test_many_classes_at_once_are_asked_for(runner: CliRunner, file: str) -> None:
    write_store(Path(file), {f"class {number}": ["a"] for number in range(21)})
    refused = runner.invoke(main, ["store", "review", file, "--all"])
    assert refused.exit_code == 2
    assert "this would mark classes as approved (21 classes changed); pass --yes" in refused.stderr
    assert runner.invoke(main, ["store", "review", file, "--all", "--yes"]).exit_code == 0
    assert set(_marks(file)) == {"approved"}


@pytest.mark.parametrize("arguments", [[], ["frog", "--all"]])
def test_what_is_meant_must_be_said(runner: CliRunner, file: str, arguments: list[str]) -> None:
    result = runner.invoke(main, ["store", "review", file, *arguments])
    assert result.exit_code == 2
    assert "give the classes to mark, or --all for those without a mark" in result.stderr


def test_a_store_against_its_own_past(runner: CliRunner, file: str) -> None:
    Path(file).write_text('{"class": "frog", "descriptors": ["a"], "at": "2026-01-01T00:00:00+00:00"}\n')
    runner.invoke(main, ["store", "add", file, "frog", "b"])
    shown = runner.invoke(main, ["store", "diff", f"{file}@2026-01-02"])
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "frog\n+ b\n", "1 class differs.\n")
    same = runner.invoke(main, ["store", "diff", f"{file}@2026-01-02", f"{file}@2026-01-03T10:00"])
    assert (same.exit_code, same.stdout, same.stderr) == (0, "", "0 classes differ.\n")
    early = runner.invoke(main, ["store", "diff", f"{file}@2025-01-02"])
    assert early.exit_code == 1
    assert early.stderr.startswith(
        "Error: s.jsonl has nothing from before 2025-01-02T00:00:00+00:00; its first"
    )
    assert runner.invoke(main, ["store", "diff", file]).exit_code == 2


def test_the_history_says_what_became_of_a_mark(runner: CliRunner, file: str) -> None:
    for command in (["review", file, "frog"], ["undo", file], ["redo", file]):
        assert runner.invoke(main, ["store", *command]).exit_code == 0
    lines = runner.invoke(main, ["store", "history", file, "frog"]).stdout.splitlines()
    assert [line.strip() for line in lines if line.startswith("  ")][-2:] == [
        "no longer marked approved",
        "approved",
    ]
