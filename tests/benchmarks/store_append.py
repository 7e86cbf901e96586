"""Appending to a store against a bare write and fsync: `python tests/benchmarks/store_append.py [LINES]`."""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from fieldmarks.records import Entry
from fieldmarks.store import Store

RUNS = 7
ENTRY = Entry("tree frog", tuple(f"a descriptor with the number {number}" for number in range(8)), v=1)


def bare(file: Path, lines: int) -> float:
    """Append lines with one write and one fsync each, and nothing else."""
    data = b'{"class":"tree frog","descriptors":[' + b'"a descriptor with the number 1",' * 8 + b'"x"]}\n'
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    began = time.perf_counter()
    for _ in range(lines):
        os.write(fd, data)
        os.fsync(fd)
    took = time.perf_counter() - began
    os.close(fd)
    return took


def stored(file: Path, lines: int) -> float:
    """Append lines to a store, one at a time."""
    store = Store(file, create=True)
    began = time.perf_counter()
    for _ in range(lines):
        store.append(ENTRY)
    return time.perf_counter() - began


def main() -> None:
    """Time the two in turn, in the folder given by TMPDIR."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            (bare(Path(folder, f"a{run}"), lines), stored(Path(folder, f"b{run}"), lines))
            for run in range(RUNS)
        ]
    bare, append = (statistics.median(some) / lines * 1e6 for some in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    print(f"{lines} lines, {RUNS} runs, medians: write+fsync {bare:.0f} µs, append {append:.0f} µs")
    print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
