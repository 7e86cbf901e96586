"""What learning gains, what it costs where there is nothing to gain, and how long it takes.

python -m tests.benchmarks.learning cifar DATA   on true CLIP vectors of 500 CIFAR-10 images
python -m tests.benchmarks.learning demo         in the demo's world, with wrong descriptors and without
python -m tests.benchmarks.learning time [CLASSES…]   10 to 1,000 classes, of random vectors
"""

import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.embedder import open_embedder
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, cosines, normalize
from fieldmarks.classification.texts import Texts
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import WORDINGS, demo_species
from fieldmarks.evaluation.certainty import auroc
from fieldmarks.learning.learn import equal_weights, fitted
from fieldmarks.learning.shots import Shots

READ_AS = {"automobile": "car_(automobile)", "ship": "boat"}  # LVIS's names of CIFAR-10's classes
DEMO_CLIP = Path(__file__).parents[2] / "pipeline/fieldmarks/demo/models/clip"
Indices = NDArray[np.int64]


def shots_of(vectors: Array, labels: Indices, rows: Indices) -> Shots:
    """Return some images as shots."""
    return Shots(vectors[rows], labels[rows], np.zeros((len(rows), 16), np.uint8), 0, 0)


def drawn(labels: Indices, shots: int, seed: int) -> tuple[Indices, Indices]:
    """Return the images to learn from, so many of each class, and the others."""
    chance = np.random.default_rng(seed)
    rows = [chance.permutation(np.flatnonzero(labels == label))[:shots] for label in np.unique(labels)]
    chosen = np.concatenate(rows)
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def accuracy(head: Head, vectors: Array, labels: Indices) -> float:
    """Return the share of images that a head classifies correctly."""
    return float((head.logits(vectors).argmax(axis=1) == labels).mean())


def cifar(data: Path) -> tuple[Array, Indices, Array, list[str]]:
    """Return images (500, 512), their classes, one text's embedding for each class (10, 512), and names."""
    folder = data / "real-clip-embeddings"
    texts = json.loads((folder / "texts.json").read_text("utf-8"))
    names, lvis = texts["cifar_classes"], texts["lvis_names"]
    with np.load(folder / "real_clip_vitb32_embeddings.npz") as archive:
        rows = archive["lvis_name_emb_raw"][[lvis.index(READ_AS.get(name, name)) for name in names]]
        images, labels = archive["cifar_emb"].astype(np.float32), archive["cifar_labels"].astype(np.int64)
    return normalize(images), labels, normalize(rows.astype(np.float32)), names


def weakened(images: Array, labels: Indices, texts: Array, seed: int, target: float = 0.31) -> Array:
    """Return texts with as much noise as brings zero-shot down to a share of correct answers."""
    noise = np.random.default_rng(seed).standard_normal(texts.shape) / np.sqrt(texts.shape[1])
    low, high, noisy = 0.0, 20.0, texts
    for _ in range(40):
        middle = (low + high) / 2
        noisy = normalize((texts + middle * noise).astype(np.float32))
        right = float(((images @ noisy.T).argmax(axis=1) == labels).mean())
        low, high = (middle, high) if right > target else (low, middle)
    return noisy


def head_of(texts: Array, names: list[str], per_class: int = 1, scale: float = 100.0) -> Head:
    """Return a head of so many texts a class."""
    marks = {name: [(f"{name} {number}",) * 2 for number in range(per_class)] for name in names}
    return Head(
        Texts.collect({name: [(a, b) for a, b in pairs] for name, pairs in marks.items()}), texts, scale
    )


def on_cifar(
    data: Path, draws: int, several: tuple[int, ...]
) -> Iterator[tuple[str, bool, int, float, float]]:
    """Yield text, form, shots, and the means over draws of zero-shot's accuracy and of the gain."""
    images, labels, texts, names = cifar(data)
    for text in ("as it is", "weakened"):
        heads = [
            head_of(texts if text == "as it is" else weakened(images, labels, texts, seed), names)
            for seed in range(draws)
        ]
        for shared in (False, True):
            for shots in several:
                figures = []
                for seed, head in enumerate(heads):
                    rows, rest = drawn(labels, shots, seed)
                    learned, _ = fitted(head, shots_of(images, labels, rows), seed=seed, shared=shared)
                    before = accuracy(equal_weights(head), images[rest], labels[rest])
                    figures.append((before, accuracy(learned, images[rest], labels[rest]) - before))
                before, gain = np.mean(figures, axis=0).tolist()
                yield text, shared, shots, before, gain


class World:
    """Pictures of the demo's species, which its CLIP was not trained on, and the texts of all traits."""

    def __init__(self, pictures: int = 40) -> None:
        self.species = demo_species()
        self.embedder = open_embedder(DEMO_CLIP, engine="torch", dtype="float32", cache=False)
        drawings = [
            draw(creature, random.Random(f"learning {name} {number}"))
            for name, creature in self.species.items()
            for number in range(pictures)
        ]
        vectors = [result.vector for result in self.embedder.images(drawings)]  # type: ignore[union-attr]
        self.vectors = normalize(np.stack(vectors))
        self.labels = np.repeat(np.arange(len(self.species)), pictures)
        phrases = [
            phrase for values in WORDINGS.values() for several in values.values() for phrase in several
        ]
        self.rows = dict(zip(phrases, self.embedder.texts(phrases), strict=True))

    def head(self, right: int, wrong: int, seed: int) -> tuple[Head, NDArray[np.bool_]]:
        """Return a head of right and wrong descriptors of each species, and which of its texts are right."""
        chance = random.Random(f"descriptors {seed}")
        classes: dict[str, list[tuple[str, str]]] = {}
        are_right: list[bool] = []
        for name, creature in self.species.items():
            own = dict(creature.traits())
            good = [chance.choice(WORDINGS[attribute][value]) for attribute, value in own.items()]
            bad = [
                chance.choice(phrases)
                for attribute, values in WORDINGS.items()
                for value, phrases in values.items()
                if own.get(attribute) != value
            ]
            texts = [*chance.sample(good, right), *chance.sample(bad, wrong)]
            classes[name] = [(text, text) for text in texts]
            are_right += [True] * right + [False] * wrong
        laid = Texts.collect(classes)
        rows = np.stack([self.rows[text] for text in laid.texts])
        return Head(laid, rows, self.embedder.logit_scale), np.array(are_right)


def tells(head: Head, vectors: Array, labels: Indices) -> NDArray[np.bool_]:
    """Return which texts tell their class: those more similar to its held-out images than to others."""
    similar = cosines(vectors, head.embeddings).astype(np.float64)
    return np.array(
        [
            auroc(similar[labels == owner, row], similar[labels != owner, row]).value > 0.5
            for row, owner in enumerate(head.owner.tolist())
        ]
    )


def on_demo(seeds: int, several: tuple[int, ...]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the number of shots, and accuracies and the weight of wrong texts as means over seeds."""
    world = World()
    for shots in several:
        figures = []
        for seed in range(seeds):
            head, are_right = world.head(3, 5, seed)
            sound, _ = world.head(3, 0, seed)
            rows, rest = drawn(world.labels, shots, seed)
            vectors, labels = world.vectors[rest], world.labels[rest]
            drawn_shots = shots_of(world.vectors, world.labels, rows)
            learned, _ = fitted(head, drawn_shots, seed=seed)
            undamaged, _ = fitted(sound, drawn_shots, seed=seed)
            weights = learned.pooling.weights
            own = equal_weights(head)._weights if weights is None else weights
            telling = tells(head, vectors, labels)
            of_texts = own.sum(axis=0) / own.sum()
            figures.append(
                {
                    "damaged": accuracy(equal_weights(head), vectors, labels),
                    "learned": accuracy(learned, vectors, labels),
                    "right alone": accuracy(equal_weights(sound), vectors, labels),
                    "right alone, learned": accuracy(undamaged, vectors, labels),
                    "weight of wrong": float(of_texts[~are_right].sum()),
                    "of wrong that mislead": float(of_texts[~are_right & ~telling].sum()),
                }
            )
        means = {key: float(np.mean([figure[key] for figure in figures])) for key in figures[0]}
        gap = means["right alone"] - means["damaged"]
        yield shots, means | {"share of the gap": (means["learned"] - means["damaged"]) / gap}


def timed(
    classes: int, per_class: int, shots: int, dim: int, shared: bool = False
) -> tuple[float, float, float]:
    """Return the seconds, CPU seconds and peak memory so far (GB) of choosing a strength and fitting."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((classes, dim)).astype(np.float32)
    texts = np.repeat(centres, per_class, axis=0)
    texts += 3 * chance.standard_normal(texts.shape).astype(np.float32)
    labels = np.repeat(np.arange(classes), shots)
    images = centres[labels] + 3 * chance.standard_normal((len(labels), dim)).astype(np.float32)
    head = head_of(normalize(texts), [f"class {number}" for number in range(classes)], per_class)
    given = shots_of(normalize(images), labels, np.arange(len(labels)))
    started, worked = time.perf_counter(), time.process_time()
    fitted(head, given, shared=shared)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return time.perf_counter() - started, time.process_time() - worked, memory


def main() -> None:
    """Print the figures of one part."""
    part, *more = sys.argv[1:]
    if part == "cifar":
        for text, shared, shots, before, gain in on_cifar(Path(more[0]), 20, (2, 4, 8, 16)):
            form = "shared" if shared else "own"
            print(
                f"{text:9} {form:6} {shots:2} shots: zero-shot {before:.1%}, gain {100 * gain:+.1f}",
                flush=True,
            )
    elif part == "demo":
        for shots, means in on_demo(10, (2, 4, 8, 16)):
            print(
                f"{shots:2} shots:",
                ", ".join(f"{key} {value:.3f}" for key, value in means.items()),
                flush=True,
            )
    elif part == "time":
        for classes in map(int, more or ("10", "200", "500", "1000")):
            for shared in (False, True):
                seconds, worked, memory = timed(classes, 6, 16, 512, shared)
                form = "shared" if shared else "own"
                print(
                    f"{classes:5} classes x 6 x 16, {form}: {seconds:.1f} s, of CPU {worked:.1f} s,"
                    f" peak memory {memory:.2f} GB",
                    flush=True,
                )
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
