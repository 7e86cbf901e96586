"""Kills, signals and crowds: no answer that has arrived is lost, and none is paid twice.

The suite holds a sample of each; `python -m pytest tests/faults -m attack` runs them at full length.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.generation.scripted_server import Call, Reply, ScriptedServer, completion, marks
from tests.kit import untimed

from fieldmarks.generation.question import reparse
from fieldmarks.store import Store

PROGRAM = "from fieldmarks.cli import main; main()"
FULL = [pytest.mark.slow, pytest.mark.attack]
CONCURRENCY = 16
UNDER_WAY = 2 * CONCURRENCY  # requests on the wire, and answers being written


def fill(server: ScriptedServer, classes: Path, store: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, "generate", str(classes), "--store", str(store)]
    command += ["--base-url", server.url, "--model", "m", "--mode", "completions", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_calls(server: ScriptedServer, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(server.calls) < count:
        assert time.monotonic() < deadline, "the run did not come that far"
        time.sleep(0.005)


def class_list(folder: Path, count: int) -> Path:
    path = folder / "classes.txt"
    path.write_text("".join(f"class {number:03}\n" for number in range(count)))
    return path


class Tokens:
    """A script whose answers each hold a token of their own; of each class the first answer is a refusal."""

    def __init__(self, delay: float) -> None:
        self.sent: list[str] = []  # in the order of their requests
        self.delay = delay
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Reply:
        name = re.findall(r"class \d+", call.text)[-1]
        with self._lock:
            self._asked[name] += 1
            first = self._asked[name] == 1
            token = f"token{call.number:05}"
            self.sent.append(token)
        text = f"I cannot help with {token}." if first else f" green skin {token}\n- long legs"
        return completion(text if not first else f"\n\n{text}", delay=self.delay)

    def arrived(self, start: int) -> set[str]:
        """Return the tokens from `start` on that the client must have stored, as it asked for more since."""
        with self._lock:
            return set(self.sent[start:-UNDER_WAY])


def tokens_on_disk(store: Path) -> set[str]:
    files = [path for path in (store, store.with_name(f"{store.name}.run")) if path.exists()]
    return {token for path in files for token in re.findall(r"token\d{5}", path.read_text())}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "classes"), [(4, 80), pytest.param(30, 300, marks=FULL)], ids=["sample", "full"]
)
def test_kills_lose_no_answer_that_had_arrived(tmp_path: Path, kills: int, classes: int) -> None:
    script = Tokens(0.25)
    store = tmp_path / "s.jsonl"
    names = class_list(tmp_path, classes)
    options = ("--samples", "3", "--concurrency", str(CONCURRENCY))
    needed = classes * 4  # three answers a class, and one refusal
    arrived: set[str] = set()
    with ScriptedServer(script) as server:
        for kill in range(1, kills + 1):
            start = len(script.sent)
            process = fill(server, names, store, *options)
            wait_for_calls(server, max(kill * needed // (kills + 1), start + UNDER_WAY + 4))
            time.sleep(kill % 5 * 0.02)
            process.kill()
            process.communicate()
            arrived |= script.arrived(start)
        process = fill(server, names, store, *options)
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr
        lost = arrived - tokens_on_disk(store)
        print(f"{kills} kills, {len(server.calls)} requests for {needed}, {len(lost)} of {len(arrived)} lost")
        assert len(arrived) > kills
        assert lost == set()
        assert len(server.calls) - needed <= kills * UNDER_WAY, "only what was under way is asked again"
    entries = list(Store(store).entries())
    assert len(entries) == classes
    assert all(reparse(entry) == entry.descriptors for entry in entries)
    assert all(len(entry.answers) in (3, 4) for entry in entries), "a refusal may have been in flight"
    assert not store.with_name("s.jsonl.run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("times", "seconds"), [(1, 1.5), pytest.param(20, 8.0, marks=FULL)], ids=["sample", "full"]
)
def test_signals_wait_for_the_answers_under_way(
    tmp_path: Path, number: signal.Signals, times: int, seconds: float
) -> None:
    names = class_list(tmp_path, 40)

    def interrupted(repeat: int) -> tuple[int, int, int, str]:
        store = tmp_path / f"s{repeat}.jsonl"
        with ScriptedServer(lambda call: completion(" a\n- b", delay=seconds)) as server:
            process = fill(server, names, store, "--concurrency", "16")
            wait_for_calls(server, 16 if repeat % 2 else 20)  # before the first answer, and after it
            time.sleep(repeat % 4 * seconds / 8)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60 + 4 * seconds)
            return process.returncode, len(server.calls), len(Store(store)), stderr

    results: list[tuple[int, int, int, str]] = []
    for start in range(0, times, 4):
        threads = [
            threading.Thread(target=lambda repeat=repeat: results.append(interrupted(repeat)))
            for repeat in range(start, min(start + 4, times))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == times
    for code, asked, stored, stderr in results:
        assert code == 128 + number, stderr
        assert stored == asked, stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "apart", "classes"),
    [
        (3, 0.3, 90),
        *(pytest.param(count, apart, 300, marks=FULL) for count in (2, 4) for apart in (0.0, 3.0)),
    ],
)
def test_processes_share_a_store(tmp_path: Path, processes: int, apart: float, classes: int) -> None:
    names, store = class_list(tmp_path, classes), tmp_path / "s.jsonl"
    with ScriptedServer(lambda call: completion(" a\n- b", delay=0.3)) as server:
        running = []
        for _ in range(processes):
            running.append(fill(server, names, store, "--concurrency", "8"))
            time.sleep(apart)
        ended = [process.communicate(timeout=300) for process in running]
        assert [process.returncode for process in running] == [0] * processes, ended
        print(f"{processes} processes {apart} s apart: {len(server.calls)} requests for {classes} classes")
        assert len(server.calls) <= 1.05 * classes
    closing = [stderr.splitlines()[-1] for _, stderr in ended]
    wrote = [int(re.findall(r"Wrote (\d+) class", line)[0]) for line in closing]
    there = [int(re.findall(r"\((\d+) already there", line)[0]) for line in closing]
    others = [int((re.findall(r", (\d+) by other processes", line) or [0])[0]) for line in closing]
    assert sum(wrote) == classes, closing
    assert [sum(counts) for counts in zip(wrote, there, others, strict=True)] == [classes] * processes
    assert sum(count > 0 for count in others) >= processes - 1
    assert len(Store(store)) == classes == len(store.read_text().splitlines())
    assert not store.with_name("s.jsonl.run").exists()


@pytest.mark.slow
def test_a_dead_processs_claims_are_released_at_once(tmp_path: Path) -> None:
    names, store = class_list(tmp_path, 20), tmp_path / "s.jsonl"
    with ScriptedServer(lambda call: completion(" a\n- b", delay=0.0 if call.number > 8 else 60)) as server:
        first = fill(server, names, store, "--concurrency", "8")
        wait_for_calls(server, 8)
        second = fill(server, names, store, "--concurrency", "8")
        wait_for_calls(server, 20)
        time.sleep(1)
        assert second.poll() is None, "it waits for what the first process is asking"
        first.kill()
        _, stderr = second.communicate(timeout=30)
        first.communicate()
    assert second.returncode == 0, stderr
    assert f"Waiting for 8 classes, asked by process {first.pid} on " in stderr
    assert len(Store(store)) == 20
    assert len(server.calls) == 28


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace("class 001", "class one"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.slow
@pytest.mark.parametrize("change", [Path.unlink, cut, edited, lambda path: path.write_text("")])
def test_a_store_that_changes_during_a_run_is_noticed(tmp_path: Path, change: "object") -> None:
    names, store = class_list(tmp_path, 40), tmp_path / "s.jsonl"
    with ScriptedServer(lambda call: completion(" a\n- b", delay=0.05)) as server:
        process = fill(server, names, store, "--concurrency", "2")
        wait_for_calls(server, 20)
        assert callable(change)
        change(store)
        _, stderr = process.communicate(timeout=60)
        there = sum(f"class {number:03}" in Store(store) for number in range(40))
        closing = stderr.splitlines()[-1]
        assert there < 40
        assert process.returncode == 3, stderr
        assert untimed(closing) == f"Wrote {there} classes to {store} (0 already there, 0 failed)."
        assert f"Lost: {40 - there} class" in stderr
        again = fill(server, names, store)
        again.communicate(timeout=60)
        assert again.returncode == 0
    assert all(f"class {number:03}" in Store(store) for number in range(40))


@pytest.mark.slow
def test_a_foreign_line_in_the_store_loses_no_answer(tmp_path: Path) -> None:
    names, store = class_list(tmp_path, 40), tmp_path / "s.jsonl"
    with ScriptedServer(lambda call: completion(" a\n- b", delay=0.2)) as server:
        process = fill(server, names, store, "--concurrency", "8")
        wait_for_calls(server, 20)
        with store.open("a") as file:
            file.write("a note by hand\n")
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        last = stderr.splitlines()[-1]
        assert last.startswith(f"Error: {store}, line "), stderr
        assert f"answers are kept in {store}.run" in last
        store.write_text(store.read_text().replace("a note by hand\n", ""))
        again = fill(server, names, store)
        again.communicate(timeout=60)
        assert again.returncode == 0
        assert len(server.calls) == 40, "nothing is asked twice"
    assert len(Store(store)) == 40


@pytest.mark.slow
def test_answers_that_no_disk_takes_are_in_a_temporary_file(tmp_path: Path) -> None:
    """The store's folder becomes unusable while answers are under way, as a network mount that goes away."""
    names, folder = class_list(tmp_path, 40), tmp_path / "a folder"
    folder.mkdir()
    store = folder / "s.jsonl"
    with ScriptedServer(lambda call: completion(" a\n- b", delay=0.5)) as server:
        process = fill(server, names, store, "--concurrency", "8")
        wait_for_calls(server, 12)
        folder.rename(tmp_path / "elsewhere")
        folder.write_text("a file in the place of the folder")
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        rescued = re.findall(r"(\d+) answers saved in (\S+?): add it to", stderr.splitlines()[-1])
        assert rescued, stderr
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)
        stored = len(Store(store))
        assert int(rescued[0][0]) == len(server.calls) - stored
        lines = Path(rescued[0][1]).read_text()
        assert all("answer" in json.loads(line) for line in lines.splitlines())
        (command,) = re.findall(r"\((cat .*)\) and run", stderr.splitlines()[-1])
        subprocess.run(command, shell=True, check=True)
        Path(rescued[0][1]).unlink()
        again = fill(server, names, store)
        again.communicate(timeout=60)
        assert again.returncode == 0
        assert len(server.calls) == 40, "nothing is asked twice"


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"notes\n", b"", b"[1]\n", b'{"class":"fox","descriptors":[]}\n', b"{"])
def test_a_foreign_file_in_the_place_of_the_run_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    names, store = class_list(tmp_path, 2), tmp_path / "s.jsonl"
    run_file = tmp_path / "s.jsonl.run"
    run_file.write_bytes(content)
    with ScriptedServer(marks) as server:
        process = fill(server, names, store)
        _, stderr = process.communicate(timeout=60)
    if content:
        assert (process.returncode, run_file.read_bytes(), server.calls) == (1, content, [])
        assert f"{run_file} exists and is not a run file of fieldmarks" in stderr
    else:
        assert process.returncode == 0, stderr
