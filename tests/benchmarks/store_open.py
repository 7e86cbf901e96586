"""Opening and indexing a store against parsing its lines alone: `python tests/benchmarks/store_open.py
[LINES]`.

The parsing alone is orjson's `loads` on each line of the same file, read in the same process. Also timed:
`show` of one class on a fresh opening, and the reading of a class from an open store.
"""

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from fieldmarks.store import Store

RUNS = 5
DESCRIPTORS = [
    "protruding eyes",
    "a large mouth with thick lips",
    "smooth, wet skin",
    "long hind legs",
    "round toe pads",
]


def line(number: int) -> bytes:
    """Return a line as generation writes it."""
    answer = "\n- ".join(DESCRIPTORS)
    return orjson.dumps(
        {
            "class": f"species number {number}",
            "descriptors": DESCRIPTORS,
            "v": 1,
            "origin": "generated",
            "prompt": {"name": "article", "sha256": "a" * 64, "style": "bullets"},
            "model": "some-instruct-model",
            "endpoint": "https://api.example.org/v1",
            "mode": "completions",
            "params": {"temperature": 0.0, "max_tokens": 256, "stop": ["\nQ:"], "seed": 1},
            "answer": f" {answer}",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 45, "completion_tokens": 60, "total_tokens": 105},
            "at": "2026-01-01T00:00:00+00:00",
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def parse_alone(file: Path) -> None:
    """Do the least that reading a store must do."""
    with file.open("rb") as lines:
        for line in lines:
            orjson.loads(line)


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one call, which other processes disturb less than the clock's."""
    gc.collect()
    began = time.process_time()
    result = work()
    took = time.process_time() - began
    del result  # to throw a store away is no part of opening it
    return took


def main() -> None:
    """Time the two in turn, so that a drift of the machine's speed meets both alike."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store.jsonl"
        with file.open("wb") as out:
            out.writelines(line(number) for number in range(lines))
        pairs = [(seconds(lambda: parse_alone(file)), seconds(lambda: Store(file))) for _ in range(RUNS)]
        store = Store(file)
        name = f"species number {lines // 2}"
        each = statistics.median(seconds(lambda: store.get(name)) for _ in range(100))
    alone, opened = (statistics.median(some) for some in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    print(f"{lines:,} lines, {RUNS} runs, medians: parsing {alone:.2f} s, opening {opened:.2f} s")
    print(f"ratio {ratio:.2f}")
    print(f"a class from an open store: {each * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
