"""Measures search: its time and memory on a large set, its false finds, and what descriptors find.

python -m tests.benchmarks.search speed [ROWS]     time and memory of queries, random vectors
python -m tests.benchmarks.search random [IMAGES]  how many random-word queries find anything
python -m tests.benchmarks.search demo             precision and recall of each descriptor, demo's images
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median

import numpy as np
from tests.retrieval.worlds import World, species_of

from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.embedding_writer import ROWS, SetWriter
from fieldmarks.classification.scoring import best_first, normalize
from fieldmarks.classification.texts import random_texts
from fieldmarks.classification.threads import cores, for_each
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import all_species, clip_folder, demo_species, entry, is_true_of
from fieldmarks.records import Entry
from fieldmarks.retrieval import calibration
from fieldmarks.retrieval.query import Term
from fieldmarks.retrieval.scan import Scan
from fieldmarks.retrieval.searcher import Searcher
from fieldmarks.store import Store

MADE = {"model": "none", "dtype": "float32", "engine": "torch", "decode": "full"}
DIM = 512


def speed(folder: Path, rows: int) -> None:
    """Time queries whose text is encoded already, with the reading of the first 20 names.

    Between them, the least that a query can take is timed: mapping the same files and multiplying them.
    """
    chance = np.random.default_rng(0)
    with SetWriter(folder / "set", MADE) as writer:
        for at in range(0, rows, ROWS):
            images = [(f"photos/{at + row:07}.jpg", None) for row in range(min(ROWS, rows - at))]
            vectors = normalize(chance.standard_normal((len(images), DIM), np.float32))
            writer._commit([writer._write(images, vectors)])
    scan = Scan(EmbeddingSet(folder / "set").parts())
    began = time.perf_counter()
    null = normalize(chance.standard_normal((calibration.NULL, DIM), np.float32))
    calibrated = calibration.compute(scan, null)
    print(f"calibration, once per set: {time.perf_counter() - began:.1f} s")
    searcher = Searcher.__new__(Searcher)  # without a model: what is measured begins after the text
    searcher.embeddings, searcher.scan, searcher.calibration = EmbeddingSet(folder / "set"), scan, calibrated
    times, cpu, least, peak = list[float](), list[float](), list[float](), 0
    Path("/proc/self/clear_refs").write_text("5")  # which begins the peak anew
    before = _status("VmRSS")
    for number in range(12):
        term = Term("text", str(number), normalize(chance.standard_normal((1, DIM), np.float32))[0])
        began, busy = time.perf_counter(), time.process_time()
        found = searcher._found([term])
        names = scan.names(best_first(found.scores[None], 20)[0].tolist())
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
        assert len(names) == 20
        peak = max(peak, _status("VmHWM"))
        began = time.perf_counter()
        for_each(lambda part, by=term.vector: part.vectors.mapped() @ by, scan.parts)  # type: ignore[misc]
        least.append(time.perf_counter() - began)
        Path("/proc/self/clear_refs").write_text("5")
    later, bound = times[2:], least[2:]
    print(f"{rows:,} x {DIM}: median {median(later):.3f} s, best {min(later):.3f} s of {len(later)}")
    print(f"processor time of a query: median {median(cpu[2:]):.3f} s over all {cores()} cores")
    ratio = median(query / raw for query, raw in zip(later, bound, strict=True))
    print(f"only mapping and multiplying: median {median(bound):.3f} s; a query takes {ratio:.2f} x as long")
    print(f"memory above idle: {(peak - before) / 2**20:.0f} MiB at the peak; load {os.getloadavg()[0]:.1f}")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def random_words(folder: Path, count: int) -> None:
    """Count the random-word queries that find anything."""
    embedder = Embedder(Encoder(clip_folder(), dtype="float32", engine="torch"))
    species = list(all_species().values())
    with SetWriter(folder / "set", embedder.encoder.provenance) as writer:
        images = (draw(species[n % len(species)], random.Random(f"bench {n}")) for n in range(count))
        for _ in writer.take(embedder.images(images)):
            pass
    searcher = Searcher(folder / "set", clip=embedder)
    queries = random_texts(1000, "benchmark")
    found = [len(searcher.find(query)) for query in queries]
    print(f"{count:,} images: {sum(map(bool, found))} of {len(queries):,} random-word queries find anything")


def demo(folder: Path) -> None:
    """Measure each descriptor of the demo's species, by --descriptor and as a plain text, and each class."""
    world = World(folder, clip_folder(), per_species=20)
    world.write(folder / "set")
    store, species = Store(folder / "s.jsonl", create=True), demo_species()
    for name in species:
        store.append(Entry(name, entry(name)))
    searcher = Searcher(folder / "set", clip=world.embedder)
    descriptors = sorted({text for name in species for text in entry(name)})
    wanted = {
        text: [name for name, creature in species.items() if is_true_of(text, creature)]
        for text in descriptors
    }
    kinds = {
        "descriptors": [(searcher.find(descriptor=text, store=store), wanted[text]) for text in descriptors],
        "texts": [(searcher.find(text), wanted[text]) for text in descriptors],
        "classes": [(searcher.find(class_name=name, store=store), [name]) for name in species],
    }
    for kind, results in kinds.items():
        good = [sum(species_of(hit.image) in names for hit in found) for found, names in results]
        precision = fmean(
            hits / len(found) for hits, (found, _) in zip(good, results, strict=True) if len(found)
        )
        recall = fmean(hits / (20 * len(names)) for hits, (_, names) in zip(good, results, strict=True))
        none = sum(not len(found) for found, _ in results)
        figures = f"precision {precision:.1%}, recall {recall:.1%}"
        print(f"{kind}: {len(results)} queries, {figures}, {none} find nothing")


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    with tempfile.TemporaryDirectory() as made:
        if what == "speed":
            speed(Path(made), int(numbers[0]) if numbers else 1_000_000)
        elif what == "random":
            random_words(Path(made), int(numbers[0]) if numbers else 10_000)
        else:
            demo(Path(made))
