"""Random problems of classification: pictures with classes, and texts of classes with their embeddings."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kit import write_store

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array, normalize
from fieldmarks.classification.texts import Texts
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import WORDINGS, Creature, all_species, difference, random_creature
from fieldmarks.evaluation.arms import Arm, Trial
from fieldmarks.evaluation.metrics import figures
from fieldmarks.evaluation.predictions import ranks
from fieldmarks.evaluation.results import ArmResult, Indices, Predictions, role_of

CLASSES = 7  # of some_arm


@dataclass(frozen=True)
class Problem:
    """Pictures (N, D) of unit length with classes (N,), texts with embeddings (M, D), name prompts (C, D)."""

    images: Array
    labels: NDArray[np.int32]
    texts: Texts
    rows: Array
    names: Array


def problem(counts: list[int], pictures: int, seed: int, dim: int = 6) -> Problem:
    """Return a problem with so many texts of each class; pictures lie near their class, not too near."""
    chance = np.random.default_rng(seed)
    texts = Texts.collect(
        {f"class {c}": [(f"mark {c}.{n}", f"mark {c}.{n}") for n in range(k)] for c, k in enumerate(counts)}
    )
    centres = chance.standard_normal((len(counts), dim))
    labels = chance.integers(0, len(counts), pictures).astype(np.int32)
    rows = centres[list(texts.owner)] + 0.8 * chance.standard_normal((len(texts.texts), dim))
    images = centres[labels] + chance.standard_normal((pictures, dim))
    names = centres + chance.standard_normal(centres.shape)
    return Problem(
        normalize(images.astype(np.float32)),
        labels,
        texts,
        rows.astype(np.float32),
        names.astype(np.float32),
    )


problems = st.builds(
    problem,
    st.lists(st.integers(1, 4), min_size=2, max_size=6),
    st.integers(1, 12),
    st.integers(0, 2**31),
)


def some_species(count: int) -> dict[str, Creature]:
    """Return the first species of the demo and, beyond those, random ones at least two traits apart."""
    species = dict(list(all_species().items())[:count])
    chance = random.Random("more species")
    while len(species) < count:
        creature = random_creature(chance)
        if all(difference(creature, other) > 1 for other in species.values()):
            species[f"species {len(species)}"] = creature
    return species


def _phrases(name: str, creature: Creature) -> list[str]:
    """Return a phrase for each trait, always the same for a name."""
    chance = random.Random(f"phrases of {name}")
    return [chance.choice(WORDINGS[attribute][value]) for attribute, value in creature.traits()]


def draw_species(folder: Path, count: int, pictures: int) -> Path:
    """Draw so many pictures of each of some species, a folder each, and return the store of their traits."""
    species = some_species(count)
    for name, creature in species.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(pictures):
            image = draw(creature, random.Random(f"evaluation {name} {number}"))
            image.save(folder / "pictures" / name / f"{number}.png")
    phrases = {name: _phrases(name, creature) for name, creature in species.items()}
    return write_store(folder / "species.jsonl", phrases)


def save(posed: Problem, folder: Path, *, baseline: bool = True) -> tuple[Path, Path]:
    """Write a problem as a saved classifier and as labelled embeddings, and return both paths."""
    head = Head(posed.texts, posed.rows, 20.0, baseline=posed.names if baseline else None)
    ClassifierFile(folder / "head.safetensors").write(head)
    labels = [posed.texts.classes[label] for label in posed.labels]
    images = [f"{number}.jpg" for number in range(len(labels))]
    np.savez(folder / "kept.npz", embeddings=posed.images, images=images, labels=labels)
    return folder / "head.safetensors", folder / "kept.npz"


def arm_of(name: str, baselines: tuple[str, ...] = ("photo",)) -> Arm:
    """Return an arm of this name without texts."""
    return Arm(name, role_of(name, baselines), "", "mean-embedding", (Trial(Texts((), (), (), ())),))


def _runs(labels: Indices, seeds: list[int], lead: float = 1.0) -> tuple[Predictions, ...]:
    """Return predictions from random scores, in which the true class leads a little."""
    runs = []
    for seed in seeds:
        scores = np.random.default_rng(seed).standard_normal((len(labels), CLASSES)).astype(np.float32)
        scores[np.arange(len(labels)), labels] += lead
        runs.append(Predictions(scores.argmax(axis=1).astype(np.int32), ranks(scores, labels), seed))
    return tuple(runs)


def some_arm(seeds: list[int], images: int = 60) -> tuple[ArmResult, Indices]:
    """Return an arm of random predictions with its figures beside a baseline, and the images' classes."""
    labels = np.random.default_rng(99).integers(0, CLASSES - 1, images).astype(np.int32)
    baseline = figures(arm_of("photo"), _runs(labels, [50], 0.5), labels, CLASSES)
    return figures(arm_of("arm"), _runs(labels, seeds), labels, CLASSES, baseline), labels
