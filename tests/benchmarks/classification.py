"""What classification takes: a first and a second run over the same photos, and memory over a long stream.

    python tests/benchmarks/classification.py PHOTOS CLIP [STREAM]

PHOTOS is a folder, CLIP a model's folder, STREAM the length of the long stream (10,000 when left out). A
model of true size with random weights serves as well as a trained one. Every run is a process of its own;
"loop" is the time of its predictions alone, "process" that of everything from start to end.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

RUN = """
import json, resource, sys, time
import fieldmarks as fm
from fieldmarks.classification.sources import find
from fieldmarks.hub import own_process
own_process()  # as the command line does
classes = {f"class {n}": [f"mark {n} {m}" for m in range(6)] for n in range(10)}
classifier = fm.Classifier(classes, clip=sys.argv[1], cache=sys.argv[2] == "cache")
started = time.perf_counter()
count = sum(1 for _ in classifier.stream(find(["-"], sys.stdin)))
print(json.dumps({
    "pictures": count,
    "loop": time.perf_counter() - started,
    "cpu": time.process_time(),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def run(clip: str, paths: list[str], cache: str, folder: str) -> dict[str, Any]:
    """Classify paths in a new process and return its figures."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, clip, cache],
        input="\n".join(paths),
        env=os.environ | {"FIELDMARKS_CACHE": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures | {"process": time.perf_counter() - started}


def main(photos: str, clip: str, stream: int) -> None:
    """Print the figures and their ratios."""
    paths = sorted(
        str(path) for path in Path(photos).rglob("*.*") if path.suffix.lower() in (".jpg", ".jpeg")
    )
    with tempfile.TemporaryDirectory() as folder:
        first, second = run(clip, paths, "cache", folder), run(clip, paths, "cache", folder)
    for name, figures in (("first", first), ("second", second)):
        print(
            f"{name:7} {figures['pictures']} images  loop {figures['loop']:.2f} s"
            f"  process {figures['process']:.2f} s  CPU {figures['cpu']:.2f} s"
        )
    ratios = {key: first[key] / second[key] for key in ("loop", "process")}
    print(f"the second is {ratios['loop']:.0f}x faster in the loop, {ratios['process']:.1f}x as a process")
    short, long = (run(clip, list(islice(cycle(paths), count)), "none", "") for count in (100, stream))
    for figures in (short, long):
        print(
            f"{figures['pictures']:7} images, no cache  peak {figures['peak_mb']:.0f} MB"
            f"  loop {figures['loop']:.1f} s"
        )
    print(f"{long['peak_mb'] - short['peak_mb']:+.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10_000)
