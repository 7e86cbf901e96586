"""Work in processes of its own: a side of a comparison is a function of a job, both plain data.

Every process computes with the same number of threads. What runs beside each other in a comparison is run in
turn, so that a drift of the machine's speed meets all alike.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

Job = Mapping[str, Any]
Result = dict[str, Any]

ROOT = Path(__file__).parents[3]
CORES = len(os.sched_getaffinity(0))
THREADS = {f"{name}_NUM_THREADS": str(CORES) for name in ("OMP", "MKL", "OPENBLAS")}


def alternate(sides: Mapping[str, tuple[str, Job]], runs: int) -> dict[str, list[Result]]:
    """Run each side `runs` times in turn; a side is a function's name, as "theirs.article", and its job."""
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for number in range(runs):
        for name, (function, job) in sides.items():
            print(f"{name}, run {number + 1} of {runs}", file=sys.stderr, flush=True)
            results[name].append(run(function, job))
    return results


def run(function: str, job: Job, limit: float | None = None) -> Result:
    """Run a function of one of this folder's modules in a new process; adds "peak_mb" to its result.

    The process is killed after `limit` seconds. Raises SystemExit where it fails.
    """
    command = [sys.executable, "-m", "tests.benchmarks.peers.work", function]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out:
        given.write(json.dumps(job).encode())
        given.seek(0)
        peak, status = watched(command, limit, stdin=given, stdout=out)
        if status == -signal.SIGKILL:
            raise SystemExit(f"{function} was killed: the time is up, or the memory full")
        out.seek(0)
        printed = out.read().splitlines()
        if status:
            reason = printed[-1].decode(errors="replace") if printed else f"status {status}"
            raise SystemExit(f"{function} failed: {reason}")
        result: Result = json.loads(printed[-1])
    return result | {"peak_mb": peak}


def watched(command: list[str], limit: float | None = None, **files: Any) -> tuple[float, int]:
    """Run a command, killed with all that it started after `limit` seconds: peak in MB and exit status."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | THREADS, start_new_session=limit is not None, **files
    )
    timer = Timer(limit or 0.0, os.killpg, [process.pid, signal.SIGKILL])
    if limit is not None:
        timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss / 1024, process.returncode


def seconds(function: Callable[[], Any], times: int = 5) -> float:
    """Return the median time of a call after a first one that does not count."""
    return median([once(function) for _ in range(times + 1)][1:])


def once(function: Callable[[], Any]) -> float:
    """Return the time of a call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def keep(rows: Any) -> str:
    """Write an array to a temporary file that the command will remove, and return its path."""
    import numpy as np

    handle, path = tempfile.mkstemp(".npy", dir=os.environ["FIELDMARKS_BENCHMARK"])
    os.close(handle)
    np.save(path, rows)
    return path


def main() -> None:
    """Run the function that the command line names, with the job on stdin."""
    module, _, name = sys.argv[1].partition(".")
    function = getattr(importlib.import_module(f"tests.benchmarks.peers.{module}"), name)
    try:
        print(json.dumps(function(json.load(sys.stdin))))
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}")  # which `run` reads
        sys.exit(1)


if __name__ == "__main__":
    main()
