"""`store grep`, `drop --grep`, `replace`: what they print, when they ask, and what they leave in the file."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from tests.kit import on_a_terminal, write_store

from fieldmarks.cli import main
from fieldmarks.store import Store

pytestmark = pytest.mark.usefixtures("own_folder")
REVERTS = "`fieldmarks store undo dogs.jsonl` reverts it.\n"


@pytest.fixture
def file() -> Path:
    dogs = {"corgi": ["short legs", "large ears"], "basset": ["long ears", "Short legs"], "poodle": ["curls"]}
    return write_store(Path("dogs.jsonl"), dogs)


@pytest.fixture
def many() -> Path:
    return write_store(Path("many.jsonl"), {f"class {number}": ["a tail", "fur"] for number in range(21)})


def _store(runner: CliRunner, *arguments: str) -> Result:
    return runner.invoke(main, ["store", *arguments])


def test_grep(runner: CliRunner, file: Path) -> None:
    result = _store(runner, "grep", "dogs.jsonl", "legs|curl")
    assert (result.exit_code, result.stderr) == (0, "Found 2 descriptors in 3 classes.\n")
    assert result.stdout == "short legs: 2 classes: corgi #1, basset #2\ncurls: 1 class: poodle #1\n"
    shared = _store(runner, "grep", "dogs.jsonl", "--shared", "--json").stdout
    assert orjson.loads(shared) == {
        "descriptor": "short legs",
        "places": [
            {"class": "corgi", "number": 1, "descriptor": "short legs"},
            {"class": "basset", "number": 2, "descriptor": "Short legs"},
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wings"], "No descriptor matches.\n"),
        (["ears", "--shared"], "No descriptor matches.\n"),
    ],
)
def test_grep_without_matches_says_so(
    runner: CliRunner, file: Path, arguments: list[str], message: str
) -> None:
    result = _store(runner, "grep", "dogs.jsonl", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", message)


def test_no_shared_descriptor(runner: CliRunner) -> None:
    write_store(Path("one.jsonl"), {"corgi": ["short legs"]})
    result = _store(runner, "grep", "one.jsonl", "--shared")
    assert (result.exit_code, result.stderr) == (0, "No descriptor is in more than one class.\n")


def test_replace(runner: CliRunner, file: Path) -> None:
    before = file.read_bytes()
    shown = "short legs → Long ears: 1 class: corgi\nShort legs → Long ears: 1 class: basset (merged)\n"
    result = _store(runner, "replace", "dogs.jsonl", "short legs", "Long ears", "--dry-run")
    assert (result.exit_code, result.stdout, result.stderr) == (0, shown, "Dry run: nothing was written.\n")
    assert file.read_bytes() == before
    result = _store(runner, "replace", "dogs.jsonl", "short legs", "Long ears")
    done = f"2 classes changed: 1 descriptor added, 2 descriptors removed. {REVERTS}"
    assert (result.exit_code, result.stdout, result.stderr) == (0, shown, done)
    assert _store(runner, "undo", "dogs.jsonl").exit_code == 0
    lists = [entry.descriptors for entry in Store(file).entries()]
    assert lists == [("short legs", "large ears"), ("long ears", "Short legs"), ("curls",)]


def test_replace_in_one_class_and_by_a_pattern(runner: CliRunner, file: Path) -> None:
    result = _store(
        runner, "replace", "dogs.jsonl", r"(\w+) LEGS", r"legs, \1", "--regex", "--class", "corgi"
    )
    assert result.stdout == "short legs → legs, short: 1 class: corgi\n"
    result = _store(runner, "replace", "dogs.jsonl", "wings", "x", "--regex")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing to change.\n")
    result = _store(runner, "replace", "dogs.jsonl", "large ear", "x")
    error = "Error: dogs.jsonl: no class has the descriptor 'large ear'; did you mean 'large ears'?\n"
    assert (result.exit_code, result.stderr) == (1, error)


def test_drop_by_a_pattern(runner: CliRunner, file: Path) -> None:
    result = _store(runner, "drop", "dogs.jsonl", "poodle", "--grep", "CURL")
    assert result.stdout == "- curls: 1 class: poodle\n"
    left = "1 class changed: 1 descriptor removed. 1 class left without descriptors."
    assert result.stderr == f"{left} {REVERTS}"
    assert _store(runner, "drop", "dogs.jsonl", "--grep", "legs").exit_code == 0
    basset = Store(file).get("basset")
    assert basset is not None
    assert (basset.descriptors, basset.rejected) == (("long ears",), ("Short legs",))
    result = _store(runner, "drop", "dogs.jsonl", "--grep", "legs")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing to change.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["grep", "dogs.jsonl"],
        ["drop", "dogs.jsonl"],
        ["drop", "dogs.jsonl", "corgi", "short legs", "--grep", "x"],
        ["drop", "dogs.jsonl", "corgi", "--all", "--grep", "x"],
        ["replace", "dogs.jsonl", "short legs"],
    ],
)
def test_wrong_usage(runner: CliRunner, file: Path, arguments: list[str]) -> None:
    assert _store(runner, *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("command", "task"),
    [
        (["drop", "many.jsonl", "--grep", "tail"], "drop the descriptors that match 'tail'"),
        (["replace", "many.jsonl", "A tail", "a long tail"], "replace 'A tail' with 'a long tail'"),
    ],
)
def test_without_a_terminal_more_than_20_classes_need_yes(
    runner: CliRunner, many: Path, command: list[str], task: str
) -> None:
    before = many.read_bytes()
    result = _store(runner, *command)
    assert result.exit_code == 2
    assert result.stderr == f"Error: this would {task} (21 classes changed); pass --yes to go ahead\n"
    assert result.stdout == _store(runner, *command, "--dry-run").stdout, "shown first"
    assert result.stdout.count("\n") == 1
    assert many.read_bytes() == before
    assert _store(runner, *command, "--yes").exit_code == 0
    assert all("a tail" not in entry.descriptors for entry in Store(many).entries())
    assert _store(runner, "undo", "many.jsonl", "--yes").exit_code == 0
    assert all(entry.descriptors == ("a tail", "fur") for entry in Store(many).entries())


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, ("fur",)), (b"n\n", 1, ("a tail", "fur"))])
def test_a_terminal_is_asked(many: Path, answer: bytes, code: int, left: tuple[str, ...]) -> None:
    returned, shown = on_a_terminal(["store", "drop", "many.jsonl", "--grep", "tail"], answer)
    assert returned == code
    task = "This would drop the descriptors that match 'tail' (21 classes changed)."
    assert f"{task}\nGo ahead? [y/N]: " in shown
    assert {entry.descriptors for entry in Store(many).entries()} == {left}
