"""What it takes to plan a run over a million classes, and to find what a stopped run left.

    python tests/benchmarks/million_classes.py [CLASSES]

A list of so many classes is written, and a store that has nine of ten. A fresh process then does what
`fieldmarks generate` does up to the first request: it reads the list, opens the store, sorts the classes and
claims the first 64. Shown are its CPU seconds and its peak memory; nothing is sent.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ANSWER = " green skin\n- large round eyes\n- long legs\n- a smooth and moist back\n"


def write(folder: Path, classes: int) -> None:
    """Write the list and the store."""
    from fieldmarks.generation.prompt import Prompt
    from fieldmarks.generation.question import Questions, Usage
    from fieldmarks.store.lines import encode

    questions = Questions(Prompt.load("article"), "m")
    with (folder / "classes.txt").open("w") as names, (folder / "store.jsonl").open("wb") as store:
        for number in range(classes):
            name = f"species number {number} of some genus"
            names.write(f"{name}\n")
            if number % 10 != 9:
                question = questions.of(name)
                sample = question.answered(ANSWER, "stop", Usage(50, 10), "completions")
                store.write(encode(question.line([sample], "http://127.0.0.1/v1")))


def plan(folder: Path) -> None:
    """Do what precedes the first request, and print the figures as JSON."""
    from fieldmarks.cli.generate import class_names
    from fieldmarks.generation import ledger
    from fieldmarks.generation.prompt import Prompt
    from fieldmarks.generation.question import Questions
    from fieldmarks.store import Store

    names = class_names(str(folder / "classes.txt"), (), None)
    store = Store(folder / "store.jsonl", create=True)
    run = ledger.Run(Questions(Prompt.load("article"), "m"), ledger.Budget(), 2)
    planned = ledger.Ledger(run, names, store, endpoint=None, lifetime=240, refresh=False)
    planned.step(64)
    figures = {
        "missing": planned.total,
        "cpu": time.process_time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    planned.close()
    print(json.dumps(figures))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        plan(Path(sys.argv[2]))
        return
    classes = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), classes)
        command = [sys.executable, __file__, "--child", folder]
        shown = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    print(
        f"{classes:,} classes, {shown['missing']:,} missing: {shown['cpu']:.0f} s CPU to the first request,"
        f" {shown['peak']:.0f} MiB peak"
    )


if __name__ == "__main__":
    main()
