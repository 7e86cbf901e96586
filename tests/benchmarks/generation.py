"""How fast, and in how much memory, a run asks a server that takes 200 ms for each answer.

    python tests/benchmarks/generation.py [--runs 3] [--profile]

Server and client are processes of their own and share this machine's cores; plain sockets show what that
leaves. "ideal" is concurrency / latency. A server that takes exactly 200 ms answers in bursts, in which each
answer waits for those before it, and 1,000 requests in 64 lanes take 16 rounds, 98% of the ideal; so one
that takes 100 to 300 ms is measured too. The serial loop is what a script of a dozen lines does; it is timed
on 40 classes. Memory is the peak of a whole process.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

LATENCY = 0.2  # seconds
CONCURRENCY = 64
SERVER = Path(__file__).parents[1] / "generation" / "scripted_server.py"


def fill(url: str, classes: int, concurrency: int) -> dict[str, float]:
    """Fill a fresh store and return seconds, CPU seconds and the process's peak memory in MiB."""
    from fieldmarks.generation import run
    from fieldmarks.generation.endpoint import EndpointCompleter
    from fieldmarks.generation.prompt import Prompt
    from fieldmarks.generation.question import Questions
    from fieldmarks.store import Store

    names = [f"class {i}" for i in range(classes)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.jsonl", create=True)
        completer = EndpointCompleter(url, "m", mode="completions", concurrency=concurrency)
        start, cpu = time.perf_counter(), time.process_time()
        summary = run.fill(names, store, Questions(Prompt.load("article"), "m"), completer)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        if len(store) != classes or summary.failed:
            raise SystemExit(f"{len(store)} of {classes} classes done")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "peak": peak}


def bare(url: str, requests: int) -> float:
    """Return the seconds that plain sockets take for the same requests: what server and machine allow."""
    parts = urlsplit(url)
    body = json.dumps({"model": "m", "prompt": "x" * 160, "max_tokens": 200}).encode()
    head = (
        f"POST {parts.path}/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    pending = iter(range(requests))

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in pending:
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = answer.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            json.loads(await reader.readexactly(int(length)))
        writer.close()

    async def go() -> None:
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))

    start = time.perf_counter()
    asyncio.run(go())
    return time.perf_counter() - start


def in_a_process(url: str, classes: int, concurrency: int) -> dict[str, float]:
    """Do the same in a fresh process."""
    command = [sys.executable, __file__, "--child", url, str(classes), str(concurrency)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(shown.stdout))


def crowd(url: str, runs: int) -> float:
    """Print the figures of 1,000 classes, alternated with plain sockets, and return our median seconds."""
    ideal = CONCURRENCY / LATENCY
    both = [(in_a_process(url, 1000, CONCURRENCY), bare(url, 1000)) for _ in range(runs)]
    seconds = statistics.median(ours["seconds"] for ours, _ in both)
    cpu = statistics.median(ours["cpu"] for ours, _ in both)
    print(
        f"concurrency {CONCURRENCY}: {1000 / seconds:.0f} requests/s of {ideal:.0f} ideal "
        f"= {1000 / seconds / ideal:.0%} (median of {runs}: {seconds:.2f} s for 1,000 classes), "
        f"{cpu:.2f} ms CPU a request, so one core's limit is {1000 / cpu:.0f} requests/s"
    )
    plain = statistics.median(sockets for _, sockets in both)
    print(f"plain sockets, nothing stored: {1000 / plain:.0f} requests/s; we reach {plain / seconds:.0%}")
    return seconds


def measure(url: str, runs: int) -> None:
    """Print the figures."""
    serial = in_a_process(url, 40, 1)["seconds"] / 40
    print(f"serial loop: {1 / serial:.1f} requests/s; 1,000 classes take {1000 * serial:.0f} s (from 40)")
    seconds = crowd(url, runs)
    print(f"against the serial loop: {1000 * serial / seconds:.1f} times as fast")
    few, many = in_a_process(url, 100, CONCURRENCY)["peak"], in_a_process(url, 10_000, CONCURRENCY)["peak"]
    print(f"peak memory: 100 classes {few:.0f} MiB, 10,000 classes {many:.0f} MiB: {many - few:.0f} MiB more")


def profile(url: str) -> None:
    """Print where the client's own time goes."""
    profiler = cProfile.Profile()
    profiler.runcall(fill, url, 1000, CONCURRENCY)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


@contextmanager
def serving(least: float, most: float) -> Iterator[str]:
    """Serve in a process of its own, each answer after `least` to `most` seconds; give the URL."""
    command = [sys.executable, str(SERVER), str(least), str(most)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="runs of which the median is shown")
    parser.add_argument("--profile", action="store_true", help="profile one run instead")
    parser.add_argument("--child", nargs=3, metavar=("URL", "CLASSES", "CONCURRENCY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        url, classes, concurrency = given.child
        print(json.dumps(fill(url, int(classes), int(concurrency))))
        return
    with serving(LATENCY, LATENCY) as url:
        if given.profile:
            profile(url)
            return
        measure(url, given.runs)
    with serving(0.5 * LATENCY, 1.5 * LATENCY) as url:
        print("the same with answers after 100 to 300 ms:")
        crowd(url, given.runs)


if __name__ == "__main__":
    main()
