"""Real jobs on Ray, as processes of their own, and the faults that are done to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet

EXACT = ("--dtype", "float32", "--engine", "torch", "--no-cache", "--batch", "8")
ACTOR = "MapWorker(MapBatches(Actor)).submit"  # in the title of a process that embeds
READER = "MapBatches(_Decoding)"  # and of one that decodes
PATIENCE = 240.0  # seconds for a job of a few images on a busy machine

T = TypeVar("T")


@contextmanager
def job(sources: Sequence[str], out: Path, clip: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start `fieldmarks embed … --on ray`; whatever it leaves is ended."""
    words = ["embed", *sources, "--out", str(out), "--on", "ray", "--clip", str(clip), *EXACT, *more]
    with started(words) as process:
        yield process


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command; whatever it leaves is ended."""
    command = [sys.executable, "-m", "fieldmarks", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process)


def finish(sources: Sequence[str], out: Path, clip: Path, *more: str) -> tuple[int, list[str]]:
    """Run a job to its end; return its exit code and what it said."""
    with job(sources, out, clip, *more) as process:
        return outcome(process)


def outcome(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Wait for the end of a job; return its exit code and what it said."""
    _, said = process.communicate(timeout=PATIENCE * 3)
    return process.returncode, said.splitlines()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a job, and then what it started, which would be nobody's child and last for a while."""
    started = descendants(process.pid)
    process.kill()
    process.wait()
    for pid in started:
        end(pid)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that these started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def title(pid: int) -> str:
    """Return what a process calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def at_work(pid: int, kind: str) -> list[int]:
    """Return the processes of a job that do one kind of work at this moment."""
    return [child for child in descendants(pid) if kind in title(child)]


def end(pid: int) -> None:
    """Kill a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], T], process: subprocess.Popen[str]) -> T:
    """Return what a condition gives once it holds; fail if the job ends or takes too long before."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := condition():
            return found
        assert process.poll() is None, "the job ended before"
        time.sleep(0.02)
    raise AssertionError(f"not so after {PATIENCE:.0f} s")


def shards(out: Path) -> int:
    """Return how many shards of a set are written."""
    return len(list((out / "metadata").glob("metadata_*.parquet")))


def contents(out: Path) -> dict[str, bytes | str]:
    """Return each image's embedding, or its error; a name that is there twice is a fault."""
    rows: dict[str, bytes | str] = {}
    for row in EmbeddingSet(out):
        assert row.image not in rows, f"{row.image} is embedded twice"
        rows[row.image] = (
            np.ascontiguousarray(row.vector).tobytes() if isinstance(row, Embedded) else row.error
        )
    return rows
