"""The comparisons, each from what is measured on to rows."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks import startup
from tests.benchmarks.peers.material import TEMPLATE
from tests.benchmarks.peers.rows import Row, changed, cosine_error, exponent, ratio
from tests.benchmarks.peers.work import Result, alternate, run, watched

# How many pictures the pipeline gets at each number of labels, and what is to be reached there.
LABELS: Final = {"10": (12, 10), "100": (4, 50), "1000": (1, 500)}
PAPER_CLASSES: Final = 20  # whose texts the paper's loop encodes, some ten a second
SIZES: Final = {"classes": [1000, 4000, 16_000], "descriptors a class": [2, 6, 18]}
DEFAULT: Final = {"dtype": "auto", "engine": "auto"}
GFLOP: Final = 8.82  # of one picture through ViT-B/32: 50 tokens, 12 layers of width 768, and the patches
LOADING: Final = 15.0  # seconds of files to embeddings, on either side
MEMORY: Final = {"images": 100_000, "classes": 21_000}


@dataclass(frozen=True, slots=True)
class Material:
    """What is measured on, a folder for what is made on the way, and how often."""

    clip: str
    pictures: list[str]
    classes: dict[str, list[str]]
    folder: Path
    runs: int

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each class, in the paper's wording."""
        return [[f"{name}, which has {text}" for text in own] for name, own in self.classes.items()]


def pipeline(material: Material) -> list[Row]:
    """Files to labels by transformers' pipeline, and by ours with its defaults."""
    job = {
        "clip": material.clip,
        "pictures": material.pictures[:100],
        "labels": [f"{name} {number}" for number, name in zip(range(1000), cycle(material.classes))],
        "template": TEMPLATE,
        "counts": {count: pictures for count, (pictures, _) in LABELS.items()},
    }
    sides = {"ours": ("ours.labels", job | DEFAULT), "transformers' pipeline": ("theirs.pipeline", job)}
    ours, theirs = alternate(sides, material.runs).values()
    return [
        ratio(
            f"transformers' pipeline, {count} labels",
            [result["a picture"][count] for result in ours],
            [result["a picture"][count] for result in theirs],
            "images/s",
            goal=goal,
            beside={
                "answers changed": changed(ours[0]["answers"][count], theirs[0]["answers"][count]),
                "texts encoded once in": f"{median(result['texts'][count] for result in ours):.2f} s",
                "peak memory": _memory(ours, theirs),
            },
        )
        for count, (_, goal) in LABELS.items()
    ]


def engines(material: Material) -> list[Row]:
    """The article's loop and the paper's texts against each of our engines, and the share of the peak."""
    texts = material.texts
    job = {
        "clip": material.clip,
        "pictures": material.pictures,
        "classes": list(material.classes.values())[:10],
        "texts": [text for own in texts for text in own],
    }
    variants = {
        f"{dtype}, {engine}": ("ours.embed", job | {"dtype": dtype, "engine": engine})
        for dtype in ("float32", "auto")
        for engine in ("torch", *(["openvino"] if find_spec("openvino") else []))
    }
    paper = {"clip": material.clip, "classes": texts[:PAPER_CLASSES]}
    found = alternate(
        {
            "article": ("theirs.article", job),
            "paper": ("theirs.paper_texts", paper),
            "peak": ("machine.peak", {"dtypes": ["float32", "bfloat16"]}),
            **variants,
        },
        material.runs,
    )
    article, paper_texts, peaks = (found.pop(name) for name in ("article", "paper", "peak"))
    rows = [_article(name, ours, article) for name, ours in found.items()]
    texts_each = (len(job["texts"]), sum(map(len, paper["classes"])))
    rows += [_paper(name, ours, paper_texts, texts_each) for name, ours in found.items()]
    for name, ours in found.items():
        rows += _shares(name, ours, peaks, len(material.pictures))
    return rows


def loader(material: Material) -> list[Row]:
    """Files to embeddings by a DataLoader with a worker a core, and by ours with the defaults."""
    job = {"clip": material.clip, "paths": material.pictures, "seconds": LOADING, "batch": 32}
    sides = {"ours": ("gpu.ours_files", job), "DataLoader": ("theirs.loader", job)}
    ours, theirs = alternate(sides, material.runs).values()
    taken = [[1 / result["rate"] for result in side] for side in (ours, theirs)]
    beside = {"peak memory": _memory(ours, theirs)}
    return [ratio("DataLoader, a worker a core", taken[0], taken[1], "images/s", beside=beside)]


def _article(name: str, ours: list[Result], theirs: list[Result]) -> Row:
    return ratio(
        f"article's loop; {name}",
        [result["seconds"] / len(result["answers"]) for result in ours],
        [result["seconds"] / len(result["answers"]) for result in theirs],
        "images/s",
        goal={"auto, torch": 3.0, "auto, openvino": 4.0}.get(name, 2.2),
        beside={
            "cosine error": f"{cosine_error(ours[0]['embeddings'], theirs[0]['embeddings']):.0e}",
            "answers changed": changed(ours[0]["answers"], theirs[0]["answers"]),
            "peak memory": _memory(ours, theirs),
            "ready after": f"{ours[0]['ready']:.1f} s, then {median(own['ready'] for own in ours):.1f} s",
        },
    )


def _paper(name: str, ours: list[Result], theirs: list[Result], texts: tuple[int, int]) -> Row:
    return ratio(
        f"paper's texts; {name}",
        [result["texts"] / texts[0] for result in ours],
        [result["seconds"] / texts[1] for result in theirs],
        "texts/s",
        goal=20 if name.startswith("auto") else 12,
        beside={"cosine error": f"{cosine_error(ours[0]['text embeddings'], theirs[0]['embeddings']):.0e}"},
    )


def _shares(name: str, ours: list[Result], peaks: list[Result], pictures: int) -> list[Row]:
    dtype = "bfloat16" if name.startswith("auto") else "float32"
    peak = max(peaks, key=lambda result: result[dtype])
    limit = peak[dtype] / GFLOP  # pictures a second if there were nothing but products
    tower, files = (80.0, 70.0) if name == "auto, openvino" else (None, None)
    beside = {"peak": f"{peak[dtype]:.0f} GFLOP/s by {peak[dtype + ' by']}"}
    tower_rate = median(1 / result["tower"] for result in ours)
    file_rate = median(pictures / result["seconds"] for result in ours)
    return [
        Row(f"image tower of peak; {name}", 100 * tower_rate / limit, tower, "%", beside=beside),
        Row(f"files to embeddings; {name}", 100 * file_rate / limit, files, "%"),
    ]


def scores(material: Material) -> list[Row]:
    """The paper's scoring loop, 1,000 pictures, 1,000 classes, 6 descriptors each."""
    vectors = str(material.folder / "vectors.npz")
    run("material.vectors", {"path": vectors, "images": 1000, "classes": 1000, "descriptors": 6})
    job = {"vectors": vectors}
    sides = {"ours": ("ours.scores", job), "paper's loop": ("theirs.paper_scores", job)}
    ours, theirs = alternate(sides, material.runs).values()
    told = {"answers changed": changed(ours[0]["answers"], theirs[0]["answers"])}
    for key, also in (("results", "probabilities and results"), ("anew", "these and a new head")):
        told[f"with {also}"] = f"{median(result[key] for result in ours) * 1000:.1f} ms"
    taken = [[result["seconds"] / 1000 for result in side] for side in (ours, theirs)]
    return [ratio("paper's scoring loop", taken[0], taken[1], "images/s", goal=12, beside=told)]


def photos(material: Material) -> list[Row]:
    """Files of 12 megapixels to pixels, against transformers' processor."""
    found = run("ours.large_photos", {"pictures": material.pictures[:6], "runs": material.runs})
    rows = []
    for kind in ("smooth", "grainy"):
        ours, theirs = zip(*found[kind]["clock"], strict=True)
        alone = median(theirs_alone / ours_alone for ours_alone, theirs_alone in found[kind]["processor"])
        told = {"in processor time": f"{alone:.1f}x"}
        rows.append(ratio(f"12 megapixels, {kind}", ours, theirs, "photos/s", goal=12, beside=told))
    return rows


def start(material: Material) -> list[Row]:
    """`fieldmarks --help` against a bare click program."""
    pairs = startup.pairs()
    ratios = [ours / bare for ours, bare in pairs]
    sides = (median(ours for ours, _ in pairs), median(bare for _, bare in pairs))
    return [Row("--help, in bare click programs", median(ratios), 3, at_most=True, sides=sides, per="s")]


def memory(material: Material) -> list[Row]:
    """The command on kept embeddings and many classes, with the five best of each."""
    folder = material.folder / "kept"
    folder.mkdir()
    run("material.kept", MEMORY | {"folder": str(folder)})
    command = ["-m", "fieldmarks", "classify", "--image-embeddings", str(folder), "--format", "jsonl"]
    command += ["--classifier", str(folder / "head.safetensors"), "--top", "5"]
    with (folder / "out.jsonl").open("wb+") as out:
        began = time.perf_counter()
        peak, status = watched([sys.executable, *command], stdout=out)
        taken = time.perf_counter() - began
        out.seek(0)
        lines = sum(1 for _ in out)
    if status or lines != MEMORY["images"]:
        raise SystemExit(f"classify wrote {lines} lines and ended with status {status}")
    beside = {"the whole command": f"{taken:.1f} s"}
    return [Row("100,000 kept x 21,000 classes, top 5", peak / 1024, 1.5, " GB", True, beside=beside)]


def growth(material: Material) -> list[Row]:
    """How time grows with the number of pictures, texts, classes and descriptors: 1 is in step."""
    texts = [text for own in material.texts for text in own]
    given = {"pictures": material.pictures, "texts": texts}
    sizes = {kind: [len(whole) // 4, len(whole) // 2, len(whole)] for kind, whole in given.items()} | SIZES
    job = {"clip": material.clip, "sizes": sizes, "runs": material.runs} | given | DEFAULT
    return [
        Row(
            f"growth with {kind}",
            exponent(times),
            1.1,
            "",
            True,
            beside={
                "ms each": ", ".join(
                    f"{size}: {1000 * taken / int(size):.3g}" for size, taken in times.items()
                )
            },
        )
        for kind, times in run("ours.growth", job)["times"].items()
    ]


COMPARISONS: Final[Mapping[str, Callable[[Material], list[Row]]]] = {
    "pipeline": pipeline,
    "engines": engines,
    "loader": loader,
    "scores": scores,
    "photos": photos,
    "start": start,
    "memory": memory,
    "growth": growth,
}


def _memory(ours: list[Result], theirs: list[Result]) -> str:
    peaks = (max(result["peak_mb"] for result in side) for side in (ours, theirs))
    return " : ".join(f"{peak:.0f}" for peak in peaks) + " MB"
