"""Crashes, crowds and full disks: no acknowledged line is missing, a refused write changes nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store import Store, durable

# Writes lines for ever and acknowledges each on stdout once `append` has returned.
WRITER = """
import itertools, sys
from fieldmarks.records import Entry
from fieldmarks.store import Store
store = Store(sys.argv[1], create=True)
for number in itertools.count():
    store.append(Entry(f"{sys.argv[2]} {number}", ("a descriptor of some length",) * (number % 50)))
    print(number, flush=True)
    if number + 1 == int(sys.argv[3]):
        break
"""
COMPACTOR = """
import sys
from fieldmarks.store import Store
from fieldmarks.store.compare import compact
for _ in range(40):
    compact(Store(sys.argv[1]))
"""
FULL_DISK = """
import resource, sys
from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store import Store
store = Store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    if sys.argv[3] == "append":
        store.append(Entry("toad", ("x" * 5000,)))
    else:
        store.rewrite(lambda old: (line for line, _ in old.lines()))
except StoreError as error:
    print(error)
    print(store.names())
"""


def _start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_fifty_kills_lose_no_acknowledged_line(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    acknowledged: list[str] = []
    for kill in range(50):
        writer = _start(WRITER, str(file), str(kill), "-1")
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(0.002 * (kill % 7))
        writer.send_signal(signal.SIGKILL)
        output = first + writer.stdout.read()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        acknowledged += [f"{kill} {number}" for number in output.split("\n")[:-1]]
    names = set(Store(file).names())
    assert set(acknowledged) <= names
    assert len(names) - len(acknowledged) <= 50, "of each process one line may be written, not acknowledged"


@pytest.mark.slow
def test_eight_processes_append_a_thousand_lines_each(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    writers = [_start(WRITER, str(file), f"w{number}", "1000") for number in range(8)]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    names = Store(file).names()
    assert len(names) == len(set(names)) == len(file.read_bytes().splitlines()) == 8000


@pytest.mark.slow
def test_compaction_among_writers_loses_no_line(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    Store(file, create=True).append(Entry("first"))
    processes = [_start(WRITER, str(file), f"w{number}", "200") for number in range(3)]
    processes.append(_start(COMPACTOR, str(file)))
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert len(Store(file)) == 601


@pytest.mark.parametrize("action", ["append", "rewrite"])
def test_a_full_disk_changes_nothing(tmp_path: Path, action: str) -> None:
    file = tmp_path / "store.jsonl"
    Store(file, create=True).append(*(Entry(f"frog {number}", ("webbed feet",)) for number in range(100)))
    before = file.read_bytes()
    limit = len(before) + 100 if action == "append" else len(before) - 100
    command = [sys.executable, "-c", FULL_DISK, str(file), str(limit), action]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[0] == f"{file} cannot be written: File too large; nothing was changed"
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".store.jsonl.lock", "store.jsonl"]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How large each file and folder was when it last went to disk, by inode."""
    sizes: dict[int, int] = {}
    fsync = os.fsync

    def noting(fd: int) -> None:
        fsync(fd)
        sizes[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fsync", noting)
    return sizes


def test_what_is_appended_is_on_disk(tmp_path: Path, synced: dict[int, int]) -> None:
    file, torn = tmp_path / "store.jsonl", tmp_path / "store.jsonl.torn"
    store = Store(file, create=True)
    for name in ("frog", "toad"):
        store.append(Entry(name))
        assert synced[file.stat().st_ino] == file.stat().st_size
    with file.open("ab") as typed:
        typed.write(b'{"class": "ne')
    Store(file).append(Entry("newt"))
    for path in (file, torn):
        assert synced[path.stat().st_ino] == path.stat().st_size > 0
    assert tmp_path.stat().st_ino in synced


def test_what_is_not_to_be_synced_is_not(tmp_path: Path, synced: dict[int, int]) -> None:
    durable.append(tmp_path / "store.jsonl", 0, b"new\n", sync=False)
    assert synced == {}


def test_what_replaces_a_file_is_on_disk_under_its_name(tmp_path: Path, synced: dict[int, int]) -> None:
    file = tmp_path / "store.jsonl"
    durable.replace(file, [b"new ", b"content"])
    assert synced == {
        file.stat().st_ino: len(b"new content"),
        tmp_path.stat().st_ino: tmp_path.stat().st_size,
    }


def test_a_line_that_another_program_is_writing_is_not_cut_off(tmp_path: Path) -> None:
    """A file grows page by page: what looks like an incomplete line may be whole a moment later."""
    file = tmp_path / "store.jsonl"
    line = b'{"class": "toad", "descriptors": ["warty skin"]}\n'
    store = Store(file, create=True)
    store.append(Entry("frog", ("webbed feet",)))
    with file.open("ab", buffering=0) as theirs:
        theirs.write(line[:20])
        rest = Timer(0.05, theirs.write, [line[20:]])
        rest.start()
        store.append(Entry("newt", ("crest",)))
        rest.join()
    assert Store(file).names() == ["frog", "toad", "newt"]
    assert not file.with_name("store.jsonl.torn").exists()


def test_a_file_that_was_written_to_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    store = Store(file, create=True)
    store.append(Entry("frog"), Entry("frog", ("webbed feet",)))
    line = b'{"class": "toad", "descriptors": ["warty skin"]}\n'

    def choose(old: Store) -> Iterator[bytes]:
        yield from (text for text, _ in old.lines())
        with file.open("ab") as theirs:
            theirs.write(line)

    before = file.read_bytes()
    with pytest.raises(StoreError, match="changed by another program; try again; nothing was changed"):
        store.rewrite(choose)
    assert file.read_bytes() == before + line
    assert sorted(path.name for path in tmp_path.iterdir()) == [".store.jsonl.lock", "store.jsonl"]


def test_an_append_cuts_off_no_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    file.write_bytes(b"one\ntwo\nthr")
    with pytest.raises(OSError, match="changed by another program"):
        durable.append(file, 4, b"new\n")
    assert file.read_bytes() == b"one\ntwo\nthr"
    durable.append(file, 8, b"new\n")
    assert file.read_bytes() == b"one\ntwo\nnew\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write what is read-only")
def test_a_read_only_file(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    Store(file, create=True).append(Entry("frog"))
    file.chmod(0o444)
    with pytest.raises(StoreError, match="cannot be written: Permission denied"):
        Store(file).append(Entry("toad"))


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "frogs").write_bytes(b"")
    with pytest.raises(StoreError, match=r"frogs/store\.jsonl cannot be written: "):
        Store(tmp_path / "frogs" / "store.jsonl", create=True).append(Entry("frog"))


def test_replacing_keeps_the_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    file.write_bytes(b"old")
    file.chmod(0o640)
    durable.replace(file, [b"new ", b"content"])
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new content", 0o640)

    def broken() -> "list[bytes]":
        raise StoreError("no")

    with pytest.raises(StoreError, match=r"^no$"):
        durable.replace(file, (chunk for chunk in broken()))
    assert [path.name for path in tmp_path.iterdir()] == ["store.jsonl"]
    assert file.read_bytes() == b"new content"


@pytest.mark.slow
def test_a_held_lock_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl"
    with durable.locked(file):
        writer = _start(WRITER, str(file), "w", "1")
        time.sleep(0.3)
        assert writer.poll() is None
        assert not file.exists()
    writer.communicate()
    assert Store(file).names() == ["w 0"]


def test_a_lock_without_a_file_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "new" / "deep" / "store.jsonl"
    with durable.locked(file):
        with durable.locked(file):
            pass
        assert (file.parent / ".store.jsonl.lock").exists()
    assert list(tmp_path.iterdir()) == []
    file.parent.mkdir(parents=True)  # by somebody else: it stays
    with durable.locked(file):
        pass
    assert list(file.parent.iterdir()) == []
    with durable.locked(file):
        file.touch()
    with durable.locked(file):
        pass
    assert sorted(path.name for path in file.parent.iterdir()) == [".store.jsonl.lock", "store.jsonl"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for path in (tmp_path / "notes/store.jsonl", tmp_path / "notes/deep/store.jsonl"):
        with pytest.raises(StoreError, match="notes is not a folder; nothing"), durable.locked(path):
            pass
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.slow
def test_a_lock_that_goes_and_comes_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    """Each process makes the folder and the lock, and removes both: what they do within never overlaps.

    A folder that one makes while the other removes it belongs to neither and may stay, empty.
    """
    script = """
import os, sys
from pathlib import Path
from fieldmarks.store import durable
for _ in range(60):
    with durable.locked(Path("new/store.jsonl")):
        os.close(os.open("busy", os.O_CREAT | os.O_EXCL))
        os.unlink("busy")
"""
    running = [subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_an_edit_right_after_an_append_changes_the_files_identity(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    for number in range(100):
        path.write_bytes(b"")
        status = durable.append(path, 0, b"fox\n", sync=False)
        path.write_bytes(b"cat\n")  # mostly within the tick of the clock by which the kernel sets times
        assert durable.identity(path.stat()) != durable.identity(status), number
