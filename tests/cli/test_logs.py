"""`-v`, `-q` and `--log-file`: which messages a command prints, and which it writes to the file."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.generation.scripted_server import ScriptedServer, refusal
from tests.kit import untimed

from fieldmarks.cli.console import say, shown, start_logging
from fieldmarks.cli.root import Root, main
from fieldmarks.errors import FieldmarksError

KEY = "sk-very-secret-key-0123456789"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([A-Z]+ fieldmarks[\w.]*: .*)\n")
library = logging.getLogger("fieldmarks.store.file")


@click.group(cls=Root, params=main.params)
def root(verbose: bool, quiet: bool, log_file: Path | None) -> None:
    """The root command with the options of the real one, and commands that only talk."""
    assert main.callback is not None
    main.callback(verbose=verbose, quiet=quiet, log_file=log_file)


@root.command()
def work() -> None:
    """Log a message of each level, one of them twice, and end with a closing line."""
    library.debug("looked at %d lines", 3)
    library.info("Waiting for 2 classes")
    for _ in range(2):
        library.warning("mine.jsonl: ignored an incomplete last line")
    library.error("cannot be written")
    say("Wrote 2 classes to mine.jsonl")


@root.command()
def fail() -> None:
    """Fail with a message that holds control characters."""
    raise FieldmarksError("mine\x1b[31m.jsonl: line 3\nis damaged")


@root.command()
@click.argument("number", type=int)
def count(number: int) -> None:
    """Take a number, which can be wrong usage."""


INFO, NOTE = "Waiting for 2 classes", "Note: mine.jsonl: ignored an incomplete last line"
ERROR, CLOSING = "Error: cannot be written", "Wrote 2 classes to mine.jsonl"
LOGGED = [
    "DEBUG fieldmarks.store.file: looked at 3 lines",
    "INFO fieldmarks.store.file: Waiting for 2 classes",
    "WARNING fieldmarks.store.file: mine.jsonl: ignored an incomplete last line",
    "WARNING fieldmarks.store.file: mine.jsonl: ignored an incomplete last line",
    "ERROR fieldmarks.store.file: cannot be written",
    "INFO fieldmarks: Wrote 2 classes to mine.jsonl",
]


def _lines(log: Path) -> list[str]:
    """Return a log's lines without their times."""
    text = log.read_text("utf-8")
    assert LINE.sub("", text) == ""
    return LINE.findall(text)


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ([], [INFO, NOTE, ERROR, CLOSING]),
        (["-v"], ["looked at 3 lines", INFO, NOTE, ERROR, CLOSING]),
        (["-q"], [ERROR, CLOSING]),
    ],
)
def test_what_is_printed(options: list[str], printed: list[str], runner: CliRunner) -> None:
    result = runner.invoke(root, [*options, "work"])
    assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (0, "", printed)


@pytest.mark.parametrize("options", [[], ["-v"], ["-q"]])
def test_the_log_file_holds_every_message_whatever_is_printed(
    options: list[str], runner: CliRunner, tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    result = runner.invoke(root, [*options, "--log-file", str(log), "work"])
    assert result.stderr == runner.invoke(root, [*options, "work"]).stderr
    assert _lines(log) == LOGGED


def test_two_commands_in_one_process_start_anew_and_share_a_log(runner: CliRunner, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    first, second = (runner.invoke(root, ["--log-file", str(log), "work"]) for _ in range(2))
    assert first.stderr == second.stderr
    assert NOTE in second.stderr.splitlines()
    assert _lines(log) == LOGGED * 2
    runner.invoke(root, ["work"])
    assert _lines(log) == LOGGED * 2


def test_control_characters_are_escaped_on_stderr_and_in_the_log(runner: CliRunner, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    result = runner.invoke(root, ["-q", "--log-file", str(log), "fail"])
    message = r"mine\x1b[31m.jsonl: line 3\nis damaged"
    assert (result.exit_code, result.stderr) == (1, f"Error: {message}\n")
    assert _lines(log) == [f"ERROR fieldmarks: {message}"]


def test_a_traceback_in_the_log_keeps_its_lines(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    start_logging(-1, log)
    try:
        raise ValueError("x")
    except ValueError:
        library.debug("a\nb", exc_info=True)
    first, *others = log.read_text("utf-8").splitlines()
    assert first.endswith(r"DEBUG fieldmarks.store.file: a\nb")
    assert (others[0], others[-1]) == ("Traceback (most recent call last):", "ValueError: x")


def test_wrong_usage_is_logged(runner: CliRunner, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert runner.invoke(root, ["--log-file", str(log), "count", "many"]).exit_code == 2
    assert _lines(log) == ["ERROR fieldmarks: Invalid value for 'NUMBER': 'many' is not a valid integer."]


def test_loud_and_quiet_at_once_is_wrong_usage(runner: CliRunner) -> None:
    result = runner.invoke(root, ["-v", "-q", "work"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: give either --verbose or --quiet"


def test_a_log_that_cannot_be_written_fails_before_the_work(runner: CliRunner, tmp_path: Path) -> None:
    log = tmp_path / "no folder" / "run.log"
    result = runner.invoke(root, ["--log-file", str(log), "work"])
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {log} cannot be written: No such file or directory: see --log-file\n",
    )


@pytest.mark.parametrize(
    "content", ['{"class": "owl", "descriptors": []}\n', "2026-01-31 notes\n", "\ufeff", "\0" * 300]
)
def test_a_file_that_is_no_log_is_left_alone(content: str, runner: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(content, encoding="utf-8")
    result = runner.invoke(root, ["--log-file", str(file), "work"])
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {file} is not a log of fieldmarks: pass another file with --log-file\n",
    )
    assert file.read_text(encoding="utf-8") == content


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_log_is_noted_once_and_ends_nothing(runner: CliRunner) -> None:
    result = runner.invoke(root, ["-q", "--log-file", "/dev/full", "work"])
    assert (result.exit_code, result.stderr.splitlines()) == (
        0,
        ["Note: /dev/full can no longer be written", ERROR, CLOSING],
    )


def test_quiet_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    for verbosity, word in ((-1, "far"), (0, "near")):
        start_logging(verbosity, None)
        with shown(sys.stderr, word.format, every=0.01) as progress:
            progress(_Done())
            time.sleep(0.1)
    assert {line.split(" (after")[0] for line in capsys.readouterr().err.splitlines()} == {"near"}


class _Done:
    done, failed, total, seconds = 1, 0, 1, 0.1


def test_quiet_generation_shows_its_closing_line_alone(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ScriptedServer() as serving:
        endpoint = ["--base-url", serving.url, "--model", "m", "--mode", "completions"]
        result = runner.invoke(
            main,
            ["-q", "--log-file", "run.log", "generate", "--class", "owl", "--store", "s.jsonl", *endpoint],
        )
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Wrote 1 class to s.jsonl (0 already there, 0 failed).\n"
    assert untimed(_lines(Path("run.log"))[-1]) == f"INFO fieldmarks: {result.stderr.strip()}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """A server that refuses every request, and repeats the key that it was sent."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedServer(lambda call: refusal(401, f"wrong key: {KEY} (Bearer {KEY})")) as serving:
        yield serving


@pytest.mark.parametrize("command", ["generate", "doctor"])
def test_a_key_that_a_server_echoes_is_masked_in_the_log_too(
    command: str, server: ScriptedServer, runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--class", "owl", "--store", "s.jsonl"] if command == "generate" else []
    arguments = [command, *more, "--base-url", server.url, "--model", "m"]
    result = runner.invoke(main, ["-v", "--log-file", "run.log", *arguments])
    assert result.exit_code == 1
    written = [path.read_text("utf-8") for path in tmp_path.iterdir()]
    assert "wrong key: ***" in result.output
    assert not any(KEY in text for text in [result.output, *written])
    if command == "generate":
        assert "wrong key: ***" in (tmp_path / "run.log").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["store", "list", "-q"], "-q goes before the command: fieldmarks -q store list …"),
        (
            ["doctor", "--log-file", "x"],
            "--log-file goes before the command: fieldmarks --log-file FILE doctor …",
        ),
        (["doctor", "--nonsense"], "No such option '--nonsense'."),
    ],
)
def test_an_option_of_all_commands_behind_one_is_explained(
    runner: CliRunner, words: list[str], said: str
) -> None:
    result = runner.invoke(main, words)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Error: {said}")
