"""Stores, lists and prompts that are broken or not what they seem, and exports onto what belongs to others.

The suite holds a sample of each; `python -m pytest tests/faults -m attack` runs them at full length.
"""

import json
import os
import random
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.kit import untimed

from fieldmarks import paths
from fieldmarks.cli import main
from fieldmarks.errors import ClassNameError, FieldmarksError, StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, IMPORTED, Entry
from fieldmarks.store import Store, edits, exchange, queries, undoing
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lines import MAX_LINE, current, decode, encode
from fieldmarks.store.lint import lint
from fieldmarks.store.lint_rules import Config

pytestmark = pytest.mark.usefixtures("own_folder")
NOBODY = 65534
ROOT = os.geteuid() == 0

GOOD = b'{"class": "frog", "descriptors": ["wide mouth"]}\n'
WRITTEN = b'{"class":"newt","descriptors":["crest"],"v":1,"origin":"generated"%s}\n'
READING = (("list",), ("show", "newt"), ("history", "newt"), ("lint",), ("stats",), ("export", "-"))
CHANGING = (
    ("add", "newt", "x"),
    ("drop", "newt", "1"),
    ("undo",),
    ("redo",),
    ("restore", "newt", "1"),
    ("rename", "newt", "eft"),
    ("lint", "--fix"),
    ("compact", "--yes"),
)


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * levels + closing * levels


def _store(*arguments: str) -> Result:
    """Run a store command on "s.jsonl", and require that it ends in order."""
    verb, *rest = arguments
    result = CliRunner().invoke(main, ["store", verb, "s.jsonl", *rest])
    assert result.exit_code in (0, 1), result.stderr
    assert isinstance(result.exception, SystemExit | None)
    assert "unexpected error" not in result.stderr
    assert "Traceback" not in result.stderr
    return result


DAMAGED = {
    "nested lists": (WRITTEN % (b',"x":' + nested(1100)), "line 2: not JSON: depth limit"),
    "nested objects": (WRITTEN % (b',"x":' + nested(3000, b'{"a":', b"}")), "line 2: not JSON"),
    "nested where a text is expected": (
        b'{"class":' + nested(2000) + b',"descriptors":[],"v":1,"origin":"generated"}\n',
        "line 2: not JSON: depth limit",
    ),
    "nested and typed": (b'{"class": "newt", "x": %s}\n' % nested(1100), "line 2: not JSON: depth limit"),
    "nested a little too deeply": (
        b'{"class": "newt", "descriptors": [], "x": %s}\n' % nested(300),
        "line 2: objects are nested too deeply",
    ),
    "lone surrogate in the class": (rb'{"class": "a\ud800", "descriptors": []}' + b"\n", "line 2: not JSON"),
    "lone surrogate in a descriptor": (WRITTEN % rb',"note":"\udfff"', "line 2: not JSON"),
    "NaN": (WRITTEN % b',"x":NaN', "line 2: not JSON"),
    "Infinity": (b'{"class": "newt", "descriptors": [], "x": Infinity}\n', "line 2: not JSON"),
    "1e400": (WRITTEN % b',"x":1e400', "line 2: not JSON"),
    "an integer of 10,000 digits": (WRITTEN % (b',"x":' + b"9" * 10_000), "line 2: not JSON"),
    "NUL": (WRITTEN % b',"x":"\0"', "line 2: a line has NUL bytes"),
    "a key twice": (b'{"class": "newt", "descriptors": [], "x": 1, "x": 2}\n', "the key 'x' occurs twice"),
    "100,000 keys and one twice": (
        b'{"class":"newt","descriptors":[]'
        + b"".join(b',"k%d":1' % number for number in range(100_000))
        + b',"k99999":2}\n',
        "the key 'k99999' occurs twice: keep one",
    ),
    "a list": (b'["newt"]\n', "line 2: expected an object in braces, found list"),
    "a wrong type": (b'{"class": "newt", "descriptors": "crest"}\n', "'descriptors' has the wrong type"),
    "redo of a wrong type": (WRITTEN % b',"redo":"x"', "'redo' has the wrong type"),
    "a line over 8 MiB": (b'{"class": "%s"}\n' % (b"x" * MAX_LINE), "line 2: a line has 8,388,609 bytes"),
    "a byte order mark inside": (b"\xef\xbb\xbf" + GOOD, "line 2: not JSON"),
    "two objects on one line, the second torn": (b'{"class": "a"}{"class": "b', "line 2: not JSON"),
    "Latin-1": ('{"class": "tôad", "descriptors": []}\n'.encode("latin-1"), "line 2: not JSON"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_line_is_named_and_stays(kind: str) -> None:
    line, message = DAMAGED[kind]
    data = GOOD + line
    Path("s.jsonl").write_bytes(data)
    for arguments in (
        ("history", "newt"),
        ("show", "newt"),
        ("stats",),
        ("compact", "--yes"),
        ("add", "newt", "x"),
    ):
        result = _store(*arguments)
        if result.exit_code:
            assert "s.jsonl, line 2: " in result.stderr
            assert message in result.stderr
            assert result.stderr.count("\n") == 1
    assert any(_store(*arguments).exit_code for arguments in (("history", "newt"), ("stats",)))
    assert Path("s.jsonl").read_bytes()[: len(data)] == data


FOREIGN = {
    "UTF-16": (GOOD.decode().encode("utf-16"), "s.jsonl is UTF-16 text: save it as UTF-8"),
    "UTF-16 without a mark": (GOOD.decode().encode("utf-16-le"), "s.jsonl is UTF-16 text"),
    "UTF-16 of one line": (GOOD.decode().strip().encode("utf-16-be"), "s.jsonl is UTF-16 text"),
    "UTF-32": (GOOD.decode().encode("utf-32"), "s.jsonl is UTF-32 text: save it as UTF-8"),
    "CR alone": (GOOD.replace(b"\n", b"\r") * 3, "its lines end in CR alone"),
    "CR alone and torn": (GOOD.replace(b"\n", b"\r") * 3 + b'{"class": "to', "its lines end in CR alone"),
    "laid out": (json.dumps({"class": "frog", "descriptors": ["a"]}, indent=2).encode(), "(`jq -c`)"),
    "a laid-out list": (json.dumps([{"class": "frog"}], indent=2).encode(), "(`jq -c`)"),
    "notes": (b"buy milk\ncall Ada", "line 1: not JSON"),
    "notes that begin as JSON does": (b'{remember: "milk', "line 1: not JSON"),
    "another program's JSON, cut": (b'{"user": "ada", "tokens": ["a", "b', "line 1: not JSON"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "line 1: "),
    "bytes without a line end": (bytes(range(1, 10)) + b'"{[', "line 1: not JSON"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_store_is_named_and_no_byte_of_it_is_cut_off(kind: str) -> None:
    data, message = FOREIGN[kind]
    Path("s.jsonl").write_bytes(data)
    for arguments in (*READING, *CHANGING):
        result = _store(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert Path("s.jsonl").read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n", b'{"class":"fr', b"\0" * 50])
def test_a_store_without_classes_can_be_read_and_begun(data: bytes) -> None:
    Path("s.jsonl").write_bytes(data)
    for arguments in (("list",), ("lint",), ("stats",), ("compact", "--dry-run")):
        assert _store(*arguments).exit_code == 0
    for arguments in (("show", "newt"), ("history", "newt"), ("undo",), ("redo",), ("export", "x.csv")):
        result = _store(*arguments)
        assert (result.exit_code, result.stderr.splitlines()[-1][:14]) == (1, "Error: s.jsonl")
    assert not Path("x.csv").exists()
    assert _store("add", "newt", "crest").exit_code == 0
    assert Store("s.jsonl").names() == ["newt"]


@pytest.mark.slow
def test_odd_values_of_other_programs_survive_every_change() -> None:
    odd: dict[str, object] = {
        "huge": 10**300,
        "deep": [1],
        "many": {f"k{number}": number for number in range(10_000)},
    }
    for _ in range(240):
        odd["deep"] = [odd["deep"]]
    line = {"class": "newt", "descriptors": ["crest", "tail"], "note": "n", **odd}
    Path("s.jsonl").write_text(json.dumps(line) + "\r\n")
    for arguments in (*READING, ("show", "newt", "--json"), ("history", "newt", "--json"), *CHANGING[:-1]):
        assert _store(*arguments).exit_code in (0, 1)
    assert Store("s.jsonl").history("eft") == [] or _store("undo").exit_code == 0
    assert _store(*CHANGING[-1]).exit_code == 0
    for entry in Store("s.jsonl").entries():
        assert {key: entry.extra[key] for key in odd} == odd


def test_what_could_not_be_read_back_is_not_written() -> None:
    store = Store("s.jsonl", create=True)
    deep: object = 10**30
    for _ in range(400):
        deep = [deep]
    for extra in ({"x": deep}, {"x": "\ud800"}, {"x": float("nan"), "y": 10**30}, {"x": object()}):
        with pytest.raises(StoreError, match="class 'newt' cannot be written"):
            store.append(Entry("newt", extra=extra))
    assert not Path("s.jsonl").exists()


@pytest.mark.parametrize("option", ["--note", "--by"])
def test_arguments_that_are_not_text_are_refused_and_names_of_files_are_not(option: str) -> None:
    result = _store("add", "newt", "crest", option, "\udcff")
    assert (result.exit_code, "is not Unicode text: remove it" in result.stderr) == (1, True)
    assert "is not Unicode text" in _store("add", "\udcff", "crest").stderr
    result = CliRunner().invoke(main, ["store", "add", "\udcff.jsonl", "newt", "crest"])
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert result.stderr.startswith("1 class added: ")
    for arguments in (("list",), ("show", "newt"), ("undo",), ("export", "\udcfe.csv"), ("compact", "--yes")):
        result = CliRunner().invoke(main, ["store", arguments[0], "\udcff.jsonl", *arguments[1:]])
        assert "unexpected error" not in result.stderr
    assert Path(os.fsdecode(b"\xff.jsonl")).is_file()


# Places: what stands where a file is expected.


def _place(kind: str, path: Path) -> None:
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path.symlink_to(kind)


PLACES = ["FIFO", "socket", "folder", "loop", "dangling link", "/dev/zero", "/dev/full", "/proc/self/status"]


@pytest.mark.parametrize("kind", PLACES)
def test_a_store_that_is_no_regular_file(kind: str) -> None:
    _place(kind, Path("s.jsonl"))
    for arguments in (*READING, *CHANGING[1:]):
        result = _store(*arguments)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith("Error: s.jsonl ")
    if kind != "dangling link":  # through which a store may begin
        assert _store("add", "newt", "x").exit_code == 1


def _lists(path: str) -> dict[str, list[str]]:
    return {
        "class list": [
            "generate",
            path,
            "--store",
            "new.jsonl",
            "--base-url",
            "http://127.0.0.1:9",
            "--model=m",
        ],
        "list --missing": ["store", "list", "frogs", "--missing", path],
        "import": ["store", "import", "new.jsonl", path, "--format", "csv"],
        "import JSON": ["store", "import", "new.jsonl", path, "--format", "json"],
        "prompt": ["prompts", "show", path],
        "lint --config": ["store", "lint", "frogs", "--config", path],
        "lint --examples": ["store", "lint", "frogs", "--examples", path],
        "salvage": ["store", "copy", path, "new.jsonl", "--salvage"],
        "store": ["store", "list", path],
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("use", _lists(""))
def test_a_list_that_is_no_regular_file(kind: str, use: str) -> None:
    _place(kind, Path("list.txt"))
    began = time.monotonic()
    result = CliRunner().invoke(main, _lists("list.txt")[use])
    assert time.monotonic() - began < 20
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "unexpected error" not in result.stderr
    assert "list.txt" in result.stderr
    assert not Path("new.jsonl").exists()


CONTENTS = {
    "UTF-16": ("frog,a\n".encode("utf-16"), "list.txt is UTF-16 text: save it as UTF-8"),
    "UTF-32": ("frog,a\n".encode("utf-32"), "list.txt is UTF-32 text"),
    "cut UTF-16": ("frog,a\n".encode("utf-16")[:-1], "list.txt is "),
    "Latin-1": (b"frog,a\nt\xf4ad,b\n", "list.txt, line 2: byte 0xF4 is not UTF-8: save the file as UTF-8"),
    "NUL": (b"frog,a\n\0\n", "list.txt, line 2: a NUL byte"),
}


TABLES = ("class list", "list --missing", "import", "import JSON")  # whose reader knows the encodings


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (kind, use)
        for kind in CONTENTS
        for use in _lists("")
        if use not in ("salvage", "store") and (use not in TABLES or kind in ("NUL", "cut UTF-16"))
    ],
)
def test_a_list_in_another_encoding_is_named(kind: str, use: str) -> None:
    data, message = CONTENTS[kind]
    Path("list.txt").write_bytes(data)
    result = CliRunner().invoke(main, _lists("list.txt")[use])
    assert (result.exit_code, result.stderr) == (1, f"Error: {result.stderr.removeprefix('Error: ')}")
    assert message in result.stderr
    assert not Path("new.jsonl").exists()


@pytest.mark.parametrize(
    ("use", "text", "message"),
    [
        ("prompt", f"---\nstop: {'[' * 5000}\n---\n{{class}}\n", "stop: expected a JSON list"),
        ("prompt", '---\nstop: ["\\ud800"]\n---\n{class}\n', "stop: expected a JSON list"),
        ("prompt", f"---\n{'x' * 90_000}\n---\n{{class}}\n", "header line 'xxx"),
        ("import JSON", '{"frog": ' + "[" * 5000 + "]" * 5000 + "}", "list.txt: not JSON"),
        ("import JSON", '{"frog": ' + "[" * 900 + "]" * 900 + "}", "list.txt: "),
        ("import JSON", '{"frog": ["\\ud800"]}', "list.txt: not JSON"),
        ("import JSON", '{"frog": NaN}', "list.txt: not JSON"),
        ("import JSON", '{"frog": 1e400}', "list.txt: not JSON"),
        ("import JSON", '{"frog": ' + "1" * 5000 + "}", "list.txt: "),
        ("import JSON", '{"frog": [["a"]]}', "class 'frog': expected a list of strings, found a list with a"),
        ("import", 'frog,"a\n', "list.txt, line 1: a quoted cell is not closed"),
        ("import", f"frog,{'x' * 200_000}\n", "list.txt, line 1: field larger than field limit"),
        ("lint --config", "x = " + "[" * 5000, "list.txt is not TOML"),
        ("class list", "x" * 301, "list.txt, line 1: class name 'xxx"),
        ("class list", "\n\r\n \n", "list.txt contains no class name"),
    ],
)
def test_a_hostile_list_is_one_line_of_error(use: str, text: str, message: str) -> None:
    Path("list.txt").write_text(text)
    result = CliRunner().invoke(main, _lists("list.txt")[use])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr
    assert not Path("new.jsonl").exists()


def test_a_pipe_with_a_writer_is_read() -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["sh", "-c", "sleep 0.2; echo frog > pipe"]):
        assert paths.read_text("pipe", 100, ClassNameError) == "frog\n"


@pytest.mark.slow
@pytest.mark.attack
def test_a_pipe_whose_writer_is_silent_is_given_up() -> None:
    os.mkfifo("pipe")
    with subprocess.Popen(["sh", "-c", "exec 3> pipe; exec sleep 100"]) as writer:
        try:
            with pytest.raises(ClassNameError, match="nothing came from pipe"):
                paths.read_text("pipe", 100, ClassNameError)
        finally:
            writer.kill()


@contextmanager
def _nobody(folder: Path) -> Iterator[None]:
    """Be another user, who may write into `folder`; what a command imports must be loaded before."""
    for parent in folder.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # the latter are of pytest-xdist
            parent.chmod(0o755)
    folder.chmod(0o777)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_files_that_may_not_be_read_or_written(tmp_path: Path) -> None:
    for name, mode in (("secret.jsonl", 0o600), ("fixed.jsonl", 0o644)):
        Path(name).write_bytes(GOOD)
        Path(name).chmod(mode)
    commands = (
        ("store", "list", "secret.jsonl"),
        ("store", "add", "secret.jsonl", "newt", "x"),
        ("store", "list", "frogs", "--missing", "secret.jsonl"),
        ("store", "import", "new.jsonl", "secret.jsonl", "--format", "csv"),
        ("prompts", "show", "secret.jsonl"),
        ("store", "add", "fixed.jsonl", "newt", "x"),
        ("store", "export", "fixed.jsonl", "folder/new.csv"),
    )
    Path("folder").mkdir()
    for command in (*commands, ("store", "export", "frogs", "loads.csv")):
        CliRunner().invoke(main, [*command, "--help"])
    assert CliRunner().invoke(main, ["store", "copy", "frogs", "loads.jsonl"]).exit_code == 0
    assert CliRunner().invoke(main, ["store", "add", "loads.jsonl", "newt", "x"]).exit_code == 0
    assert CliRunner().invoke(main, ["store", "export", "loads.jsonl", "loads.csv"]).exit_code == 0
    assert CliRunner().invoke(main, ["store", "import", "loads.jsonl", "loads.csv"]).exit_code == 0
    assert CliRunner().invoke(main, ["store", "list", "frogs", "--missing", "loads.csv"]).exit_code == 0
    assert CliRunner().invoke(main, ["prompts", "show", "article"]).exit_code == 0
    with _nobody(tmp_path):
        for command in commands:
            result = CliRunner().invoke(main, command)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
            assert "Permission denied" in result.stderr
            assert "unexpected error" not in result.stderr
    assert Path("secret.jsonl").read_bytes() == Path("fixed.jsonl").read_bytes() == GOOD


# Rewriting keeps whose file it is.


def test_compaction_keeps_mode_and_owner_and_follows_links() -> None:
    Path("real.jsonl").write_bytes(GOOD * 2)
    Path("real.jsonl").chmod(0o640)
    if ROOT:
        os.chown("real.jsonl", NOBODY, NOBODY)
    Path("s.jsonl").symlink_to("real.jsonl")
    before = Path("real.jsonl").stat()
    assert untimed(_store("compact", "--yes").stderr) == (
        "1 of 2 lines stay. 1 earlier line removed for good: undo goes no further back than this.\n"
    )
    after = Path("real.jsonl").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert Path("s.jsonl").is_symlink()
    assert Path("real.jsonl").read_bytes() == GOOD


def test_compaction_tells_of_other_hard_links() -> None:
    Path("s.jsonl").write_bytes(GOOD * 2)
    Path("other.jsonl").hardlink_to("s.jsonl")
    assert "had 2 hard links: its other names keep the old content" in _store("compact", "--yes").stderr
    assert Path("other.jsonl").read_bytes() == GOOD * 2


@pytest.mark.skipif(not ROOT, reason="only root can become another user")
def test_compaction_by_another_user_says_whose_the_file_is_now(tmp_path: Path) -> None:
    for _ in range(2):  # the first time loads what the command imports
        Path("s.jsonl").write_bytes(GOOD * 2)
        _store("compact", "--yes")
    Path("s.jsonl").write_bytes(GOOD * 2)
    Path("s.jsonl").chmod(0o664)
    Path(".s.jsonl.lock").unlink()
    with _nobody(tmp_path):
        result = _store("compact", "--yes")
    assert result.exit_code == 0
    assert "now belongs to 65534:65534, as only root could keep its owner 0:0 (user:group)" in result.stderr
    assert stat.S_IMODE(Path("s.jsonl").stat().st_mode) == 0o664


# Exports onto what is there.


def _snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies in a folder: mode and contents or target of everything but locks."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = b""
        if path.is_symlink():
            data = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            data = path.read_bytes()
        if not path.name.endswith(".lock"):
            found[str(path.relative_to(folder))] = (status.st_mode, data)
    return found


def _write(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _read_only(path: Path) -> None:
    path.write_bytes(b"mine")
    path.chmod(0o444)


def _with_files(path: Path) -> None:
    path.mkdir()
    (path / "README.md").write_text("# mine\n")
    (path / "notes.txt").write_text("mine\n")


def _linked(path: Path) -> None:
    path.with_name("target").write_bytes(b"mine")
    path.symlink_to("target")


def _linked_folder(path: Path) -> None:
    path.with_name("real").mkdir()
    path.symlink_to("real")


TARGETS: dict[str, Callable[[Path], object]] = {
    "notes": _write(b"buy milk\n"),
    "notes without a line end": _write(b"buy milk"),
    "binary": _write(bytes(range(256)) * 10),
    "empty": _write(b""),
    "UTF-16": _write("notes\n".encode("utf-16")),
    "JSON of others": _write(b'{"version": 3, "settings": []}'),
    "JSON of the same form": _write(b'{"frog": ["theirs"]}'),
    "JSON lines of others": _write(b'{"user": 1}\n{"user": 2}\n'),
    "CSV of others": _write(b"date,amount\n2026-01-01,5\n"),
    "a manifest without a last line end": _write(b"a.png\nb.png"),
    "another store": _write(GOOD),
    "a damaged store": _write(GOOD + b"{broken"),
    "read-only": _read_only,
    "empty folder": Path.mkdir,
    "folder with files": _with_files,
    "symlink": _linked,
    "dangling symlink": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "symlink to a folder": _linked_folder,
    "FIFO": os.mkfifo,
    "socket": lambda path: _place("socket", path),
    "device": lambda path: path.symlink_to("/dev/null"),
    "hard link to the store": lambda path: path.hardlink_to("s.jsonl"),
    "symlink to the store": lambda path: path.symlink_to("s.jsonl"),
    "below a file": lambda path: None,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "csv", "tsv", "folder", "copy", "merge", "salvage"])
@pytest.mark.parametrize("kind", TARGETS)
def test_an_export_touches_nothing_that_is_there(tmp_path: Path, kind: str, form: str) -> None:
    Path("s.jsonl").write_bytes(GOOD)
    target = Path("out")
    TARGETS[kind](target)
    if kind == "below a file":
        target = Path("s.jsonl/out")
    before = _snapshot(tmp_path)
    commands = {
        "copy": ["copy", "s.jsonl", str(target)],
        "merge": ["merge", str(target), "s.jsonl", "frogs", "--prefer", "a"],
        "salvage": ["copy", "s.jsonl", str(target), "--salvage"],
    }
    command = commands.get(form, ["export", "s.jsonl", str(target), "--format", form])
    result = CliRunner().invoke(main, ["store", *command])
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert str(target) in result.stderr
    assert "unexpected error" not in result.stderr
    assert _snapshot(tmp_path) == before


@pytest.mark.parametrize("form", ["json", "csv", "folder"])
@pytest.mark.parametrize(
    "kind",
    [
        "folder with files",
        "symlink to a folder",
        "dangling symlink",
        "loop",
        "FIFO",
        "socket",
        "device",
        "hard link to the store",
        "symlink to the store",
        "below a file",
    ],
)
def test_with_force_an_export_overwrites_regular_files_only(tmp_path: Path, kind: str, form: str) -> None:
    if (form, kind) == ("folder", "symlink to a folder"):
        return  # an empty folder, which --force may fill
    Path("s.jsonl").write_bytes(GOOD)
    target = Path("out")
    TARGETS[kind](target)
    if kind == "below a file":
        target = Path("s.jsonl/out")
    before = _snapshot(tmp_path)
    result = CliRunner().invoke(
        main, ["store", "export", "s.jsonl", str(target), "--format", form, "--force"]
    )
    assert result.exit_code == 1
    assert str(target) in result.stderr
    assert _snapshot(tmp_path) == before
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_an_export_of_no_class_is_refused_with_the_remedy() -> None:
    assert _store("add", "newt", "crest").exit_code == 0
    assert _store("undo").exit_code == 0
    for arguments in (("x.csv",), ("card",), ("-",)):
        result = _store("export", *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        remedy = "`fieldmarks store redo s.jsonl` brings back what an undo took away"
        assert result.stderr == f"Error: s.jsonl has no class left: {remedy}\n"
    assert sorted(path.name for path in Path().iterdir() if not path.name.startswith(".")) == ["s.jsonl"]


# Mutations: whatever a file holds, reading it ends in an answer or in an error of ours, and no line is lost.

SEED_STORE = (
    Entry("frog", ("wide mouth", "long tongue"), v=1, origin=GENERATED, answer="- wide mouth", at="2026"),
    Entry("töad", ("dry skin ·", "short\tlegs"), extra={"x": [1, {"y": None}], "big": 10**25}),
    Entry("frog", ("wide mouth",), v=1, origin=CURATED, change="c1", rejected=("long tongue",), note="n"),
    Entry("newt", origin=FAILED, v=1, answer="no idea"),
    Entry("frog", ("wide mouth", "long tongue"), v=1, origin=GENERATED, undo=True, change="c2"),
    Entry("newt", ("crest",), v=1, origin=IMPORTED, change="c3", usage={"prompt_tokens": 3}),
    Entry("frog", ("wide mouth",), v=1, origin=CURATED, redo=True, change="c4"),
    Entry("eft", removed=True, v=1, origin=CURATED, change="c5"),
)
PIECES = (
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"}",
    b"[" * 1100,
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"1e400",
    b"NaN",
    rb"\ud800",
    b'"undo":true,',
    b'"redo":true,',
    b'"class":"x",',
    b"9" * 5000,
    b"null",
    b"-1",
    b"",
)


def mutated(data: bytes, source: random.Random) -> bytes:
    """Return data with one to four cuts, copies, swaps or foreign pieces."""
    for _ in range(source.randint(1, 4)):
        start, end = sorted(source.randrange(len(data) + 1) for _ in "ab")
        action = source.randrange(6)
        if action == 0:
            data = data[:start] + data[end:]
        elif action == 1:
            data = data[:start]
        elif action == 2:
            data = data[:start] + source.choice(PIECES) + data[start:]
        elif action == 3:
            data = data[:start] + source.choice(PIECES) + data[min(start + 3, len(data)) :]
        elif action == 4:
            data = data[:end] + data[start:end] + data[end:]
        elif data:
            lines = data.splitlines(keepends=True)
            source.shuffle(lines)
            data = b"".join(lines)
    return data


def _whole_lines(data: bytes) -> list[bytes]:
    """Return the lines of a file that are a store's, without their ends."""
    whole = []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        try:
            decode(line)
        except StoreError:
            continue
        whole.append(line.strip())
    return whole


def _message(action: Callable[[], object]) -> str:
    """Return the message of an error of ours, which alone an action may raise, or an empty one."""
    try:
        action()
    except FieldmarksError as error:
        return str(error)
    return ""


def _read_all(store: Store, kind: str) -> None:
    for name in store.all_names():
        history = queries.history(store, name)
        assert store.get(name) == current(history)
    queries.rows(store, Config())
    queries.stats(store, Config())
    for entry in store.entries():
        queries.show(store, entry.name, Config())
    lint(store.entries(), Config())
    exchange.export_text(exchange.current_entries(store), kind)


def _attack(seed: int) -> None:
    source = random.Random(seed)
    file = Path("s.jsonl")
    data = mutated(b"".join(map(encode, SEED_STORE)), source)
    file.write_bytes(data)
    before = _whole_lines(data)
    message = _message(lambda: _read_all(Store(file), source.choice(["json", "csv"])))
    assert not message or "s.jsonl" in message
    assert file.read_bytes() == data, "reading changes nothing"
    changes: list[Callable[[Store], object]] = [
        lambda store: undoing.undo(store, None, Stamp()),
        lambda store: undoing.redo(store, None, Stamp()),
        lambda store: edits.add(store, "frog", ["x"], Stamp()),
        *(partial(undoing.restore, name=name, number=1, stamp=Stamp()) for name in ("frog", "newt")),
        *(partial(undoing.undo, name=name, stamp=Stamp()) for name in ("frog", "newt")),
    ]
    for change in source.sample(changes, 3):
        message = _message(lambda change=change: change(Store(file)))  # type: ignore[misc]
        assert not message or "s.jsonl" in message or "class" in message
    after = {line.strip() for line in file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")}
    assert [line for line in before if line not in after] == []


@pytest.mark.parametrize("part", range(6))
def test_mutated_stores(part: int) -> None:
    for seed in range(part * 10, part * 10 + 10):
        _attack(seed)


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("part", range(20))
def test_all_mutated_stores(part: int) -> None:
    for seed in range(1000 + part * 50, 1050 + part * 50):
        _attack(seed)


def _large(kind: str, count: int) -> None:
    """Write a store that is large in one way."""
    if kind == "classes with one list":
        lines = [Entry(f"class {number}", ("a", "smells of b")) for number in range(count)]
    elif kind == "names that differ by punctuation":
        lines = [Entry("a" + "-" * (number % 200) + "_" * (number // 200) + "b") for number in range(count)]
    elif kind == "descriptors":
        lines = [Entry("a", tuple(f"smells of {number % (count // 2)}" for number in range(count)))]
    else:
        lines = [Entry("a", (f"x {number}",), v=1, change=f"c{number}") for number in range(count)]
    Path("s.jsonl").write_bytes(b"".join(map(encode, lines)))


def _seconds(kind: str, count: int) -> float:
    _large(kind, count)
    name = Store("s.jsonl").names()[0]
    began = time.process_time()
    for arguments in (
        ("show", name),
        ("history", name),
        ("lint",),
        ("lint", "--github"),
        ("list",),
        ("stats",),
        ("undo", "--dry-run"),
        ("drop", name, *(f"smells of {number}" for number in range(count // 4)), "--dry-run"),
    ):
        result = _store(*arguments)
        assert "unexpected error" not in result.stderr
    return time.process_time() - began


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize(
    "kind", ["classes with one list", "names that differ by punctuation", "descriptors", "lines of a class"]
)
def test_commands_are_linear_in_the_store(kind: str) -> None:
    _seconds(kind, 100)  # what is loaded on first use
    small, large = _seconds(kind, 1_000), _seconds(kind, 10_000)
    assert large < 25 * max(small, 0.05), f"{small:.2f} s for 1,000, {large:.2f} s for 10,000"
