"""What an evaluation takes: all default arms on kept embeddings, and how it grows.

    python tests/benchmarks/evaluation.py [CLIP]

Vectors are synthetic, 512 numbers each, with 6 descriptors a class. Each row is a process of its own: arms
photo, descriptors, waffle and swapped (5 seeds each) with all their figures; then the same with `--ablate`.
With CLIP, a model's folder, the last rows run the command itself on embeddings of that model's length, once
with no text read before and once again. Peak memory is that of the process.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import normalize
from fieldmarks.classification.texts import Texts
from fieldmarks.evaluation import ablation
from fieldmarks.evaluation.arms import Arm, EvaluationConfig, Trial, arms_of_head
from fieldmarks.evaluation.metrics import figures
from fieldmarks.evaluation.predictions import predict, scorer_of
from fieldmarks.evaluation.results import ArmResult
from fieldmarks.evaluation.summary import sentences

DIM, DESCRIPTORS, SEEDS = 512, 6, 5
GROWTH = [(1000, 12_500), (1000, 25_000), (1000, 50_000), (250, 50_000), (500, 50_000), (2000, 50_000)]


def world(classes: int, pictures: int) -> tuple[np.ndarray, np.ndarray, Head]:
    """Return unit vectors of pictures, their classes, and a classifier of the classes."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((classes, DIM), np.float32)
    labels = chance.integers(0, classes, pictures).astype(np.int32)
    images = normalize(centres[labels] + 6 * chance.standard_normal((pictures, DIM), np.float32))
    known = Texts.collect(
        {
            f"class {c}": [(f"mark {c} {k}", f"mark {c} {k}") for k in range(DESCRIPTORS)]
            for c in range(classes)
        }
    )
    rows = np.repeat(centres, DESCRIPTORS, axis=0)
    rows += 2 * chance.standard_normal(rows.shape, np.float32)
    names = centres + 2 * chance.standard_normal(centres.shape, np.float32)
    return images, labels, Head(known, rows, 100.0, baseline=names)


def default_arms(head: Head) -> list[Arm]:
    """Return the default arms; random words have random vectors in the place of a model's."""
    arms, _ = arms_of_head(head, EvaluationConfig(seeds=SEEDS))
    chance = np.random.default_rng(1)
    trials = tuple(
        Trial(
            head.texts, seed, head.embeddings + 3 * chance.standard_normal(head.embeddings.shape, np.float32)
        )
        for seed in range(SEEDS)
    )
    return [*arms, Arm("waffle", "control", "random", head.pooling.name, trials)]


def arithmetic(classes: int, pictures: int, *, ablate: bool) -> None:
    """Run the arms, and print seconds and peak memory."""
    images, labels, head = world(classes, pictures)
    arms = default_arms(head)
    started = time.perf_counter()
    results: list[ArmResult] = []
    for arm in arms:  # the baseline comes first
        runs = tuple(
            predict(images, labels, scorer_of(trial.texts, trial.rows, arm.aggregate), trial.seed)
            for trial in arm.trials
            if trial.rows is not None
        )
        results.append(figures(arm, runs, labels, classes, results[0] if results else None))
    sentences(results)
    seconds = time.perf_counter() - started
    if ablate and head.baseline is not None:
        started = time.perf_counter()
        ablation.effects(
            images,
            labels,
            head.texts,
            head.embeddings,
            head.baseline,
            head.pooling.name,
            100.0,
        )
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    what = "ablation alone" if ablate else "default arms"
    print(
        f"{classes:6} classes {pictures:7} pictures  {what:14} {seconds:6.1f} s  peak {peak:.2f} GB",
        flush=True,
    )


def command(clip: str, classes: int, pictures: int) -> None:
    """Run the command twice on a store and kept embeddings, and print seconds and peak memory."""
    dim = json.loads((Path(clip) / "config.json").read_text())["projection_dim"]
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = [f"class {c}" for c in range(classes)]
        lines = [
            {"class": name, "descriptors": [f"mark {name} {k}" for k in range(DESCRIPTORS)]} for name in names
        ]
        (folder / "store.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        labels = [names[c] for c in chance.integers(0, classes, pictures)]
        vectors = chance.standard_normal((pictures, dim), np.float32)
        images = [f"{n}.jpg" for n in range(pictures)]
        np.savez(folder / "kept.npz", embeddings=vectors, images=images, labels=labels)
        inputs = ["--store", str(folder / "store.jsonl"), "--image-embeddings", str(folder / "kept.npz")]
        words = ["fieldmarks", "evaluate", *inputs, "--clip", clip, "--json", str(folder / "out.json")]
        for time_of in ("texts not read yet", "texts kept"):
            started = time.perf_counter()
            environment = os.environ | {"FIELDMARKS_CACHE": str(folder)}
            subprocess.run(words, env=environment, check=True, capture_output=True)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
            seconds = time.perf_counter() - started
            print(
                f"{classes:6} classes {pictures:7} pictures  command, {time_of:18} {seconds:6.1f} s"
                f"  peak {peak:.2f} GB"
            )


def main(clip: str | None) -> None:
    """Print all rows."""
    for classes, pictures in GROWTH:
        _alone(f"arithmetic({classes}, {pictures}, ablate=False)")
    _alone("arithmetic(1000, 50000, ablate=True)")
    if clip:
        _alone(f"command({clip!r}, 1000, 50000)")


def _alone(call: str) -> None:
    script = f"import runpy; runpy.run_path({__file__!r})[{call.split('(')[0]!r}]({call.split('(', 1)[1]}"
    subprocess.run([sys.executable, "-c", script], check=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
