"""`store add`, `drop`, `edit`, `rename`, `undo`: what they print and what they leave in the file."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import on_a_terminal

from fieldmarks.cli import main
from fieldmarks.records import GENERATED, Entry
from fieldmarks.store import Store

REVERTS = "`fieldmarks store undo store.jsonl` reverts it.\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = Path("store.jsonl")
    Store(file, create=True).append(
        Entry("frog", ("wide mouth", "long tongue"), origin=GENERATED, answer="- x")
    )
    return file


def _frog(file: Path) -> Entry:
    entry = Store(file).get("frog")
    assert entry is not None
    return entry


def test_add_drop_undo(runner: CliRunner, file: Path) -> None:
    original = file.read_bytes()
    result = runner.invoke(
        main, ["store", "add", "store.jsonl", "frog", "green  skin", "--by", "ada", "--note", "seen"]
    )
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "frog\n+ green skin\n",
        f"1 class changed: 1 descriptor added. {REVERTS}",
    )
    entry = _frog(file)
    assert (entry.by, entry.note, entry.origin) == ("ada", "seen", "curated")
    result = runner.invoke(main, ["store", "drop", "store.jsonl", "frog", "1", "green skin"])
    assert result.stdout == "frog\n- wide mouth\n- green skin\n"
    assert result.stderr == f"1 class changed: 2 descriptors removed. {REVERTS}"
    assert _frog(file).rejected == ("wide mouth", "green skin")
    result = runner.invoke(main, ["store", "undo", "store.jsonl"])
    assert result.stdout == "frog\n+ wide mouth\n+ green skin\n"
    result = runner.invoke(main, ["store", "undo", "store.jsonl", "frog"])
    assert result.stdout == "frog\n- green skin\n"
    assert _frog(file).origin == GENERATED
    result = runner.invoke(main, ["store", "undo", "store.jsonl"])
    assert (result.exit_code, result.stderr) == (1, "Error: store.jsonl: nothing left to undo\n")
    assert file.read_bytes().startswith(original)


@pytest.mark.parametrize(
    ("arguments", "shown", "done"),
    [
        (["add", "frog", "x"], "frog\n+ x\n", "1 class changed: 1 descriptor added"),
        (["add", "newt", "x"], "newt (added)\n+ x\n", "1 class added: 1 descriptor added"),
        (["drop", "frog", "2"], "frog\n- long tongue\n", "1 class changed: 1 descriptor removed"),
        (
            ["drop", "frog", "--all"],
            "frog (dropped)\n- wide mouth\n- long tongue\n",
            "1 class removed",
        ),
        (
            ["rename", "frog", "toad"],
            "frog (dropped)\n- wide mouth\n- long tongue\ntoad (added)\n+ wide mouth\n+ long tongue\n",
            "Renamed 'frog' to 'toad'",
        ),
    ],
)
def test_a_dry_run_writes_nothing(
    runner: CliRunner, file: Path, arguments: list[str], shown: str, done: str
) -> None:
    before = file.read_bytes()
    result = runner.invoke(main, ["store", arguments[0], "store.jsonl", *arguments[1:], "--dry-run"])
    assert (result.exit_code, result.stdout) == (0, shown)
    assert result.stderr == "Dry run: nothing was written.\n"
    assert file.read_bytes() == before
    result = runner.invoke(main, ["store", arguments[0], "store.jsonl", *arguments[1:]])
    assert (result.stdout, result.stderr) == (shown, f"{done}. {REVERTS}")
    assert file.read_bytes() != before


def test_a_store_of_ones_own_begins_with_add(runner: CliRunner, file: Path) -> None:
    assert (
        runner.invoke(main, ["store", "add", "new/mine.jsonl", "tree frog", "round toe pads"]).exit_code == 0
    )
    assert Store("new/mine.jsonl").names() == ["tree frog"]


@pytest.mark.parametrize("name", ["frogs", "Frog", "fr-og"])
def test_a_name_that_may_be_misspelt_is_not_made_unasked(runner: CliRunner, file: Path, name: str) -> None:
    before = file.read_bytes()
    result = runner.invoke(main, ["store", "add", "store.jsonl", name, "x"])
    problem = f"store.jsonl has no class {name!r}; did you mean 'frog'? Pass --new to create the class."
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {problem}\n")
    assert runner.invoke(main, ["store", "add", "store.jsonl", name, "x", "--dry-run"]).exit_code == 0
    assert file.read_bytes() == before
    assert runner.invoke(main, ["store", "add", "store.jsonl", name, "x", "--new"]).exit_code == 0
    assert runner.invoke(main, ["store", "add", "store.jsonl", name, "y"]).exit_code == 0
    assert Store(file).names() == ["frog", name]


def test_names_that_differ_in_a_number_are_different(runner: CliRunner, file: Path) -> None:
    for name in ("engine 101", "engine 102"):
        assert runner.invoke(main, ["store", "add", "store.jsonl", name, "x"]).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code", "names"), [(b"y\n", 0, ["frog", "frogs"]), (b"n\n", 1, ["frog"])])
def test_a_terminal_is_asked_about_a_near_name(
    file: Path, answer: bytes, code: int, names: list[str]
) -> None:
    returned, shown = on_a_terminal(["store", "add", "store.jsonl", "frogs", "x"], answer)
    assert returned == code
    assert "did you mean 'frog'? This would create a new class.\nGo ahead? [y/N]: " in shown
    assert Store(file).names() == names


def test_what_changes_nothing_says_so(runner: CliRunner, file: Path) -> None:
    result = runner.invoke(main, ["store", "add", "store.jsonl", "frog", "Wide mouth."])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing to change.\n")


def test_wrong_usage(runner: CliRunner, file: Path) -> None:
    assert runner.invoke(main, ["store", "drop", "store.jsonl", "frog"]).exit_code == 2
    assert runner.invoke(main, ["store", "drop", "store.jsonl", "frog", "1", "--all"]).exit_code == 2
    assert runner.invoke(main, ["store", "add", "store.jsonl", "frog"]).exit_code == 2


def test_a_shipped_store_cannot_be_changed(runner: CliRunner) -> None:
    for arguments in (
        ["add", "frogs", "x", "y"],
        ["drop", "frogs", "bullfrog", "1"],
        ["import", "frogs", __file__],
    ):
        result = runner.invoke(
            main, ["store", *arguments, *(["--format", "csv"] * (arguments[0] == "import"))]
        )
        assert result.exit_code == 1
    result = runner.invoke(main, ["store", "drop", "frogs", "bullfrog", "1"])
    remedy = "`fieldmarks store copy frogs FILE` makes one of your own"
    assert result.stderr == f"Error: frogs ships with fieldmarks and is read-only: {remedy}\n"


def _editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)


def test_edit(runner: CliRunner, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _editor(
        tmp_path,
        monkeypatch,
        'sed -i -e "/wide mouth/d" "$1"; echo "green skin" >> "$1"; sleep 0.01; touch -d "+5 sec" "$1"',
    )
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "frog", "--note", "n"])
    assert (result.exit_code, result.stdout) == (0, "frog\n- wide mouth\n+ green skin\n")
    entry = _frog(file)
    assert (entry.descriptors, entry.rejected) == (("long tongue", "green skin"), ("wide mouth",))


def test_edit_several(runner: CliRunner, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(file).append(Entry("toad", ("may croak", "warts")), Entry("newt", ("crest",)))
    before = file.read_bytes()
    script = 'sed -i -e "s/^may croak/wide jaw/" -e "s/^crest/tall crest/" "$1"; touch -d "+5 sec" "$1"'
    _editor(tmp_path, monkeypatch, f'cp "$1" {tmp_path}/seen; {script}')
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "--flagged", "--by", "ada"])
    assert "=== toad\n# FM302 it says 'may'\nmay croak\nwarts\n" in (tmp_path / "seen").read_text()
    assert (result.exit_code, result.stdout) == (0, "toad\n- may croak\n+ wide jaw\n")
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "--flagged"])
    assert (result.exit_code, result.stderr) == (0, "store.jsonl: no class has problems.\n")
    assert runner.invoke(main, ["store", "undo", "store.jsonl"]).exit_code == 0
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "--all"])
    assert result.stdout == "toad\n- may croak\n+ wide jaw\nnewt\n- crest\n+ tall crest\n"
    assert result.stderr == f"2 classes changed: 2 descriptors added, 2 descriptors removed. {REVERTS}"
    assert runner.invoke(main, ["store", "undo", "store.jsonl"]).exit_code == 0
    assert [entry.descriptors for entry in Store(file).entries()][1:] == [("may croak", "warts"), ("crest",)]
    assert file.read_bytes().startswith(before)


def test_an_edit_of_several_is_refused_whole_where_another_changed_one(
    runner: CliRunner, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(file).append(Entry("toad", ("warts",)))
    theirs = '{"class": "toad", "descriptors": ["dry skin"]}'
    script = 'sed -i -e "s/^warts/bumps/" -e "s/^wide mouth/jaw/" "$1"; touch -d "+5 sec" "$1"'
    _editor(tmp_path, monkeypatch, f"echo '{theirs}' >> store.jsonl; {script}")
    before = file.read_bytes()
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "--all"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "class 'toad' changed in store.jsonl while you were editing: try again; your text" in result.stderr
    scratch = Path(result.stderr.strip().rpartition("your text is kept in ")[2])
    assert "bumps" in scratch.read_text()
    scratch.unlink()
    assert file.read_bytes() == before + theirs.encode() + b"\n"


@pytest.mark.parametrize("arguments", [[], ["frog", "--all"], ["--all", "--flagged"]])
def test_edit_needs_to_know_what(runner: CliRunner, file: Path, arguments: list[str]) -> None:
    result = runner.invoke(main, ["store", "edit", "store.jsonl", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "give one of CLASS, --flagged and --all" in result.stderr


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("true", 0, "Nothing to change.\n"),
        ('rm "$1"', 1, "Error: "),
        ('touch -d "+5 sec" "$1"', 0, "Nothing to change.\n"),
        ("exit 3", 1, "Error: "),
        (
            'echo > "$1"; touch -d "+5 sec" "$1"',
            1,
            "Error: no descriptor is left of class 'frog'; nothing was changed",
        ),
    ],
)
def test_an_edit_that_changes_nothing(
    runner: CliRunner,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    code: int,
    message: str,
) -> None:
    _editor(tmp_path, monkeypatch, script)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = file.read_bytes()
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "frog"])
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(message)
    assert file.read_bytes() == before


def test_a_broken_edit_keeps_the_text(
    runner: CliRunner, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _editor(tmp_path, monkeypatch, 'printf \'green skin\\n"open\\n\' > "$1"; touch -d \'+5 sec\' "$1"')
    before = file.read_bytes()
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "frog"])
    assert result.exit_code == 1
    assert "line 2: '\"open' begins with a double quote but is not JSON" in result.stderr
    scratch = Path(result.stderr.strip().rpartition("your text is kept in ")[2])
    assert scratch.read_text() == 'green skin\n"open\n'
    scratch.unlink()
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf 'gr\\374n\\n' > \"$1\"", "line 1: byte 0xFC is not UTF-8: save the file as UTF-8"),
        ("printf 'ab' | iconv -t UTF-16 > \"$1\"", "is UTF-16 text: save it as UTF-8"),
        ("printf 'a\\0b' > \"$1\"", "line 1: a NUL byte"),
        ('echo typed > "$1"; exit 3', "editor: Editing failed"),
    ],
)
def test_an_edit_that_cannot_be_used_stays_where_it_was_typed(
    runner: CliRunner,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    message: str,
) -> None:
    _editor(tmp_path, monkeypatch, f'{script}; cp "$1" {tmp_path}/typed' if "exit" not in script else script)
    before = file.read_bytes()
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "frog"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert message in result.stderr
    text = Path(result.stderr.strip().rpartition("your text is kept in ")[2])
    expected = b"typed\n" if "exit" in script else (tmp_path / "typed").read_bytes()
    assert text.read_bytes() == expected
    text.unlink()
    assert file.read_bytes() == before


@pytest.mark.parametrize("editor", ["/nonexistent/editor", "/", "'unclosed"])
def test_an_editor_that_cannot_be_started_is_named(
    runner: CliRunner, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editor: str
) -> None:
    monkeypatch.setenv("EDITOR", editor)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = runner.invoke(main, ["store", "edit", "store.jsonl", "frog"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("Error: ")
    assert editor in result.stderr
    assert "unexpected" not in result.stderr
    assert list(tmp_path.glob("fieldmarks-*")) == []


@pytest.mark.slow
def test_an_interrupted_editor_changes_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _editor(tmp_path, monkeypatch, "kill -INT $PPID; sleep 1")
    before = file.read_bytes()
    command = "from fieldmarks.cli import main; main(['store', 'edit', 'store.jsonl', 'frog'])"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=os.environ.copy()
    )
    assert done.returncode in (130, -signal.SIGINT)
    assert file.read_bytes() == before


@pytest.fixture
def old(file: Path) -> Path:
    """A store of answers that an earlier parser read badly, and of what people made of others."""
    numbers = "**1. Green skin** – bright\n**2. Sticky pads**"
    store = Store(file)
    store.append(
        Entry(
            "newt",
            ("perhaps legs", "a crest"),
            origin=GENERATED,
            answer="<think>- perhaps legs</think>\n- a crest",
        ),
        Entry("toad", origin="failed", answer=numbers),
        Entry("fox", ("I'm sorry",), origin=GENERATED, answer="- I'm sorry, but I can't help with that."),
        Entry("owl", ("x",), origin=GENERATED, answer="- round face"),
        Entry("owl", ("flat face",), origin="curated"),
        Entry("yak", ("horns",), origin=GENERATED, answer="- horns"),
    )
    return file


def test_reparse_shows_what_a_better_parser_reads_and_writes_only_with_yes(
    runner: CliRunner, old: Path
) -> None:
    before = old.read_bytes()
    shown = runner.invoke(main, ["store", "reparse", "store.jsonl"])
    assert (shown.exit_code, old.read_bytes()) == (0, before)
    assert "newt\n- perhaps legs\n" in shown.stdout
    assert "toad (added)\n+ Green skin – bright\n+ Sticky pads\n" in shown.stdout
    assert "owl" not in shown.stdout
    assert "yak" not in shown.stdout
    assert "fox: refused: I'm sorry, but I can't help with that." in shown.stderr
    assert shown.stderr.endswith("pass --yes to write.\n")
    done = runner.invoke(main, ["store", "reparse", "store.jsonl", "--yes", "--by", "ada"])
    assert done.exit_code == 0, done.stderr
    assert old.read_bytes().startswith(before)
    store = Store(old)
    lists = {entry.name: entry.descriptors for entry in store.entries()}
    assert lists["newt"] == ("a crest",)
    assert lists["toad"] == ("Green skin – bright", "Sticky pads")
    assert (lists["owl"], lists["fox"]) == (("flat face",), ("I'm sorry",))
    again = runner.invoke(main, ["store", "reparse", "store.jsonl", "--yes"])
    assert "Nothing to change." in again.stderr
    undone = runner.invoke(main, ["store", "undo", "store.jsonl"])
    assert "Undid a reparse of 3 classes by ada" in undone.stderr
    assert {entry.name: entry.descriptors for entry in Store(old).entries()}["newt"] == (
        "perhaps legs",
        "a crest",
    )


def test_a_line_typed_without_its_end_is_moved_and_said_to_be(runner: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(
        '{"class": "toad", "descriptors": ["warty skin"]}\n{"class": "frog", "descriptors": ["wet"]'
    )
    result = runner.invoke(main, ["store", "add", str(file), "newt", "crest"])
    advice = f"fix the line, or the next change moves it to {file}.torn"
    assert result.stderr.splitlines() == [
        f"Note: {file}: ignored an incomplete last line (40 bytes); {advice}",
        f"Note: {file}: moved the incomplete last line (40 bytes) to {file}.torn",
        f"1 class added: 1 descriptor added. `fieldmarks store undo {file}` reverts it.",
    ]
    assert (tmp_path / "s.jsonl.torn").read_text() == '{"class": "frog", "descriptors": ["wet"]\n'
