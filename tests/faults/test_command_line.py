"""The process of a command: whatever happens, one line and the exit code that tells it.

Commands of our own stand for those that fail in ways that no command should.
"""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fieldmarks.cli import main
from fieldmarks.cli.root import Root
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store import Store

FIELDMARKS = [sys.executable, "-m", "fieldmarks"]
FROG = b'{"class": "frog", "descriptors": ["wide mouth"]}\n'


class Unspeakable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def _recurse() -> None:
    _recurse()


def _group() -> None:
    raise BaseExceptionGroup("group", [ValueError("a"), KeyboardInterrupt()])


def _cause(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


REPORT = "please report it. FIELDMARKS_DEBUG=1 shows the traceback\n"
FAILURES: dict[str, tuple[Callable[[], None], int, str]] = {
    "type": (
        _cause(TypeError("a\nb\x1b[31m")),
        1,
        rf"Error: unexpected error (TypeError: a b\x1b[31m); {REPORT}",
    ),
    "no text": (_cause(MemoryError()), 1, f"Error: unexpected error (MemoryError); {REPORT}"),
    "unspeakable": (_cause(Unspeakable()), 1, f"Error: unexpected error (Unspeakable); {REPORT}"),
    "recursion": (_recurse, 1, "Error: unexpected error (RecursionError: maximum recursion depth exceeded"),
    "end of file": (_cause(EOFError("cut")), 1, f"\nError: unexpected error (EOFError: cut); {REPORT}"),
    "file": (_cause(OSError(5, "Input/output error", "x")), 1, "Error: unexpected error (OSError: [Errno 5]"),
    "output": (
        _cause(OSError(28, "No space left on device")),
        1,
        "Error: the output cannot be written: No space",
    ),
    "reader left": (_cause(BrokenPipeError(32, "Broken pipe")), 1, ""),
    "base": (_cause(GeneratorExit()), 1, f"Error: unexpected error (GeneratorExit); {REPORT}"),
    "ours": (_cause(StoreError("x.jsonl\n\x1b]0;y is broken")), 1, "Error: x.jsonl\\n\\x1b]0;y is broken\n"),
    "interrupt": (_cause(KeyboardInterrupt()), 130, "\nInterrupted.\n"),
    "interrupt in a group": (_group, 130, "Interrupted.\n"),
    "usage": (_cause(click.ClickException("no")), 1, "Error: no\n"),
    "long": (
        _cause(ValueError("x" * 10_000)),
        1,
        f"Error: unexpected error (ValueError: {'x' * 500}); {REPORT}",
    ),
}


def _root(fail: Callable[[], None]) -> Root:
    root = Root("root", callback=lambda: None)
    root.add_command(click.Command("fail", callback=fail))
    return root


@pytest.mark.parametrize("kind", FAILURES)
def test_every_failure_is_one_line_and_its_exit_code(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIELDMARKS_DEBUG", raising=False)
    fail, code, message = FAILURES[kind]
    result = CliRunner().invoke(_root(fail), ["fail"])
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(message)
    assert len(result.stderr.strip().splitlines()) <= 1
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARKS_DEBUG", "1")
    result = CliRunner().invoke(_root(_cause(TypeError("why"))), ["fail"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert "in fail\n" in result.stderr
    assert result.stderr.endswith(f"Error: unexpected error (TypeError: why); {REPORT}")


def test_the_help_names_the_exit_codes() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    for line in ("0    everything was done", "2    wrong usage", "130  interrupted", "143  terminated"):
        assert f"  {line}" in shown


# Streams.


def _shell(script: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a shell script in which "$FM" is the program."""
    known = os.environ | {"FM": f"{sys.executable} -m fieldmarks"} | environment
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=120, env=known)


@pytest.fixture
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.jsonl").write_bytes(FROG)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("$FM store list imagenette > /dev/full", 1, b"output cannot be written: No space left on device"),
        ("$FM --help > /dev/full", 1, b"output cannot be written: No space left on device"),
        ("$FM store export imagenette - > /dev/full", 1, b"output cannot be written: No space left on"),
        ("$FM store list imagenette >&-", 1, b"output cannot be written: Bad file descriptor"),
        ("$FM store compact s.jsonl >&-", 0, b"1 of 1 lines stay."),
        ("$FM store list nonesuch 2>&-", 1, b""),
        ("$FM store list nonesuch 2>/dev/full", 1, b""),
        ("$FM store compact s.jsonl 2>/dev/full", 0, b""),
        ("$FM store compact s.jsonl <&- >&- 2>&-", 0, b""),
        (
            "$FM generate - --store n.jsonl --base-url http://127.0.0.1:9/v1 --model m <&-",
            1,
            b"stdin contains no class name",
        ),
    ],
)
@pytest.mark.usefixtures("_store")
def test_closed_and_full_streams(script: str, code: int, message: bytes) -> None:
    done = _shell(script)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count(b"\n") == bool(message)
    assert Path("s.jsonl").read_bytes() == FROG


@pytest.mark.slow
@pytest.mark.usefixtures("_store")
def test_a_store_never_gets_the_number_of_a_closed_stream() -> None:
    assert (
        _shell("$FM store add s.jsonl frog 'webbed feet' <&- >&- 2>&-").returncode == 1
    )  # its stdout failed
    lines = Path("s.jsonl").read_bytes().splitlines()
    assert lines[0] == FROG.strip()
    assert [current.descriptors for current in Store("s.jsonl").entries()] == [("wide mouth", "webbed feet")]
    assert len(lines) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("_store")
def test_a_reader_that_leaves_ends_the_command_without_a_word() -> None:
    Store("s.jsonl").append(*(_entry(number) for number in range(3000)))
    done = _shell("$FM store list s.jsonl | head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.startswith(b"class")


def _entry(number: int) -> Entry:
    return Entry(f"class {number}", ("a descriptor that is long enough",))


SCRIPTS = ("жаба", "木の蛙", "ضفدع", "🐸", "tôad", "→ … – █")


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LANG": "C", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("_store")
def test_terminals_that_are_not_unicode(environment: dict[str, str]) -> None:
    Store("s.jsonl").append(*(Entry(name, (name, "may " * 40)) for name in SCRIPTS))
    for command in ("store list s.jsonl --json", "store lint s.jsonl", "store undo nonesuch→"):
        done = _shell(f"$FM {command}", **environment)
        assert done.returncode in (0, 1)
        assert b"Traceback" not in done.stderr
        assert b"unexpected error" not in done.stderr
        assert b"Unicode" not in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("_store")
def test_a_bar_on_an_ascii_terminal() -> None:
    own, theirs = pty.openpty()
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "TERM": "xterm"}
    command = [*FIELDMARKS, "store", "lint", "s.jsonl"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while part := _read(own):
            shown += part
    os.close(own)
    assert process.returncode == 0
    assert b"No findings" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


@pytest.mark.slow
@pytest.mark.usefixtures("_store")
def test_names_that_are_not_text(demo_lm: Path) -> None:
    script = (
        "$FM generate --class fox --store $'\\xff.jsonl' --local \"$LM\" --max-tokens 4 --retries 0 --json"
    )
    done = _shell(script, LM=str(demo_lm))
    assert b"unexpected error" not in done.stderr
    assert b'"store": "\\udcff.jsonl"' in done.stdout
    assert Path(os.fsdecode(b"\xff.jsonl")).is_file()
    for script, code in (
        ("$FM store list $'\\xff.jsonl'", 0),
        ("$FM store list $'\\xfe.jsonl'", 1),
        ("$FM store add s.jsonl $'\\xff' x", 1),
        ("$FM store add s.jsonl frog x --note $'\\xff'", 1),
        ("LOGNAME=$'\\xff' $FM store add s.jsonl frog x", 0),
        ("$FM store $'\\xff'", 2),
        ("$FM store list s.jsonl --sort $'\\xff'", 2),
        ("$FM store list s.jsonl --grep $'\\xff'", 0),
    ):
        done = _shell(script)
        assert done.returncode == code, script
        assert b"unexpected error" not in done.stderr
        assert b"Traceback" not in done.stderr
    assert Store("s.jsonl").history("frog")[-1].by == "\\udcff"


# Signals. Each program prints a line when it may be struck.

PROGRAM = """
import sys, threading, time
import click
from fieldmarks.cli.root import Root

main = Root("main", callback=lambda: None)

@main.command()
def wait():
    "Wait, and clean up slowly."
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(0.5)
        print("cleaned up", flush=True)

@main.command()
def thread():
    "End with a thread still at work."
    threading.Thread(target=time.sleep, args=(20,)).start()
    print("ready", flush=True)
    time.sleep(60)

@main.command()
def finalizer():
    "Spend the time in a finalizer, where exceptions are dropped."
    class Slow:
        def __del__(self):
            print("ready", flush=True)
            time.sleep(2)
    slow = Slow()
    del slow
    time.sleep(60)

@main.command()
def done():
    "End well, with a thread still at work."
    def work():
        while threading.main_thread().is_alive():  # until the interpreter waits for this thread
            time.sleep(0.01)
        print("ready", flush=True)
        time.sleep(20)
    threading.Thread(target=work).start()

main()
"""


def _struck(command: str, signals: list[signal.Signals], gap: float = 0.3) -> tuple[int, bytes, bytes, float]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        began = time.monotonic()
        for number in signals:
            time.sleep(gap)
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err, time.monotonic() - began


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "code", "last"),
    [([INT], 130, b"Interrupted.\n"), ([TERM], 143, b"Terminated.\n")],
)
def test_a_signal_lets_a_command_clean_up(signals: list[signal.Signals], code: int, last: bytes) -> None:
    returned, out, err, _ = _struck("wait", signals)
    assert (returned, out) == (code, b"cleaned up\n")
    assert err.strip() == last.strip()


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[INT, INT], [INT, INT, INT], [TERM, TERM, TERM], [TERM, INT, INT, INT]])
def test_further_signals_end_the_clean_up_quietly(signals: list[signal.Signals]) -> None:
    returned, out, err, _ = _struck("wait", signals)
    assert returned == (130 if signals[0] == INT else 143)
    assert out == b""
    assert err.strip() in (b"Interrupted.", b"Terminated.")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["thread", "done"])
def test_a_signal_after_the_exit_code_is_decided_ends_the_process_with_it(command: str) -> None:
    returned, _, err, seconds = _struck(command, [INT, INT, INT], gap=0.5)
    assert returned == (130 if command == "thread" else 0)
    assert err.strip() == (b"Interrupted." if command == "thread" else b"")
    assert seconds < 15


@pytest.mark.slow
def test_a_signal_in_a_finalizer_is_not_lost() -> None:
    returned, _, err, seconds = _struck("finalizer", [INT])
    assert (returned, err.strip()) == (130, b"Interrupted.")
    assert seconds < 30


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143)])
@pytest.mark.usefixtures("_store")
def test_a_signal_while_a_store_is_rewritten_leaves_nothing_behind(number: signal.Signals, code: int) -> None:
    line = FROG * 20_000
    Path("s.jsonl").write_bytes(line)
    with subprocess.Popen([*FIELDMARKS, "store", "compact", "s.jsonl", "--keep-history"]) as process:
        while process.poll() is None and not list(Path().glob("*.tmp")):
            time.sleep(0.001)
        process.send_signal(number)
    assert process.returncode in (code, 0)
    assert list(Path().glob(".*.tmp")) == []
    assert Path("s.jsonl").read_bytes() == line


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [INT, TERM])
def test_a_signal_that_is_ignored_stays_ignored(ignored: signal.Signals) -> None:
    script = f'trap \'\' {ignored.name.removeprefix("SIG")}; exec "$0" -c "$1" done'
    with subprocess.Popen(
        ["bash", "-c", script, sys.executable, PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.3)
        process.send_signal(ignored)
        time.sleep(0.5)
        assert process.poll() is None
        process.kill()


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("part", range(4))
@pytest.mark.usefixtures("_store")
def test_signals_at_every_moment_of_a_change(part: int) -> None:
    """Whenever SIGTERM comes, the store has the change whole or not at all, and no temporary file stays."""
    for step in range(10):
        Path("s.jsonl").write_bytes(FROG)
        with subprocess.Popen(
            [*FIELDMARKS, "store", "add", "s.jsonl", "frog", "webbed feet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            time.sleep(0.15 + 0.02 * (part * 10 + step) / 2)
            process.send_signal(TERM)
            _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 143, -TERM)
        assert b"Traceback" not in err
        lines = Path("s.jsonl").read_bytes().splitlines(keepends=True)
        assert lines[0] == FROG
        assert len(lines) <= 2
        assert [path.name for path in Path().glob("*.tmp")] == []


def test_in_process_use_leaves_signals_and_streams_alone() -> None:
    before = (signal.getsignal(INT), signal.getsignal(TERM), sys.stdout, sys.stderr, sys.unraisablehook)
    assert CliRunner().invoke(main, ["store", "list", "frogs"]).exit_code == 0
    after = (signal.getsignal(INT), signal.getsignal(TERM), sys.stdout, sys.stderr, sys.unraisablehook)
    assert after == before
