"""Real jobs on Ray, as processes of their own, and the faults that are done to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet

EXACT = ("--dtype", "float32", "--engine", "torch", "--no-cache")
ACTOR = "MapWorker(MapBatches(Actor))"  # in the title of a process that embeds
PATIENCE = 120.0  # seconds for a job of a few images on a busy machine


@contextmanager
def job(sources: Sequence[str], out: Path, clip: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start `fieldmarks embed … --on ray`; whatever it leaves is ended."""
    words = ["embed", *sources, "--out", str(out), "--on", "ray", "--clip", str(clip), *EXACT, *more]
    command = [sys.executable, "-m", "fieldmarks", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        own: set[int] = set()
        try:
            yield process
        finally:
            own |= set(descendants(process.pid))
            process.kill()
            for pid in own:
                end(pid)


def finish(sources: Sequence[str], out: Path, clip: Path, *more: str) -> tuple[int, list[str]]:
    """Run a job to its end; return its exit code and what it said."""
    with job(sources, out, clip, *more) as process:
        _, said = process.communicate(timeout=PATIENCE * 3)
        return process.returncode, said.splitlines()


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


def actors(pid: int) -> list[int]:
    """Return the processes of a job that embed."""
    return [child for child in descendants(pid) if ACTOR in title(child)]


def end(pid: int) -> None:
    """Kill a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: object, process: subprocess.Popen[str]) -> bool:
    """Wait until a condition holds; False if the job ends or takes too long before."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


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
