"""What an evaluation of very many embeddings takes in memory and time.

    python tests/benchmarks/many_rows.py [--rows 1000000] [--dim 512] [--classes 1000] [--arms A,B]

An embedding set of random vectors is written, each near the text of its class, with a saved classifier of
these texts. A fresh process then runs `fieldmarks evaluate --image-embeddings` on a tenth of the rows and on
all of them. Shown are its CPU seconds and its peak memory, and what a row adds to it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MADE_WITH = {"model": "/models/clip", "dtype": "float32", "engine": "torch", "decode": "full"}
PART = 10_000  # rows of a shard


def write(folder: Path, rows: int, dim: int, classes: int) -> None:
    """Write a set of so many rows, and the classifier if it is missing."""
    from fieldmarks.classification.classifier_file import ClassifierFile
    from fieldmarks.classification.embedder import Embedded
    from fieldmarks.classification.embedding_writer import SetWriter
    from fieldmarks.classification.head import Head
    from fieldmarks.classification.texts import Texts

    random = np.random.default_rng(0)
    texts = random.standard_normal((classes, dim), dtype=np.float32)  # (C, D)
    names = [f"class {number}" for number in range(classes)]
    head = Head(
        Texts.collect({name: [(name, name)] for name in names}), texts, 100.0, baseline=texts[::-1].copy()
    )
    ClassifierFile(folder / "texts.safetensors").write(head, MADE_WITH)
    with SetWriter(folder / f"set-{rows}", MADE_WITH | {"fingerprint": "f"}, of_blocks=True) as writer:
        for start in range(0, rows, PART):
            own = random.integers(classes, size=min(PART, rows - start))
            vectors = texts[own] + 3 * random.standard_normal((len(own), dim), dtype=np.float32)
            images = zip(range(start, rows), own.tolist(), vectors, strict=False)
            writer.add_block(
                f"{start}", [Embedded(f"{names[of]}/{number}.jpg", vector) for number, of, vector in images]
            )


def evaluate(folder: Path, arguments: list[str]) -> None:
    """Run an evaluation in this process, and print what it took as JSON."""
    from fieldmarks.cli import main

    began = time.process_time()
    try:
        main.main(["evaluate", "--classifier", str(folder / "texts.safetensors"), *arguments])
    except SystemExit as leaving:
        if leaving.code:
            raise
    figures = {
        "cpu": time.process_time() - began,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        evaluate(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--arms", default="photo,descriptors")
    given = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in (given.rows // 10, given.rows):
            write(Path(folder), rows, given.dim, given.classes)
            options = ["--image-embeddings", f"{folder}/set-{rows}", "--arms", given.arms]
            options += ["--predictions", f"{folder}/{rows}.parquet", "--json", f"{folder}/{rows}.json"]
            command = [sys.executable, __file__, "--child", folder, *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            took = json.loads(done.stdout.splitlines()[-1])
            sizes = [Path(f"{folder}/{rows}.{kind}").stat().st_size / 2**20 for kind in ("json", "parquet")]
            peaks.append(took["peak"])
            print(
                f"{rows:,} rows of {given.dim} numbers × {given.classes:,} classes, {given.arms}:"
                f" {took['cpu']:.0f} s CPU, {took['peak']:.0f} MiB peak; {sizes[0]:.1f} MiB of JSON and"
                f" {sizes[1]:.1f} MiB of Parquet",
                flush=True,
            )
    each = (peaks[1] - peaks[0]) * 2**20 / (given.rows - given.rows // 10)
    print(f"each row adds {each:.0f} bytes")


if __name__ == "__main__":
    main()
