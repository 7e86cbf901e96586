"""What is evaluated: a store's classes with a model that reads their texts, or a saved classifier.

The arms of a saved classifier come from the embeddings that lie in it: no model is needed. Other texts than
its own cannot be embedded, so that only `photo` (its baseline), `descriptors` and `swapped` are to be had.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmarks.classification.embedder import Embedder
from fieldmarks.classification.scoring import Array, Head
from fieldmarks.classification.texts import NAME_TEMPLATE, name_texts
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.arms import OF_ONE_TEXT, Arm, EvaluationConfig, Trial, arms_of, derangement
from fieldmarks.store import Store


@dataclass(frozen=True, slots=True)
class Candidate:
    """Classes with their descriptors, and what gives texts their embeddings.

    `empty` are classes without descriptors; they take no part. `metadata` says where all this comes from.
    """

    classes: Mapping[str, Sequence[str]]
    empty: tuple[str, ...]
    metadata: Mapping[str, Any]
    embedder: Embedder
    head: Head | None = None

    @classmethod
    def of_store(cls, store: Store, embedder: Embedder) -> "Candidate":
        """Return what a store holds currently. Raises EvaluationError for one without any descriptor."""
        entries = {entry.name: entry.descriptors for entry in store.entries()}
        classes = {name: descriptors for name, descriptors in entries.items() if descriptors}
        if not classes:
            raise EvaluationError(f"{store.path} has no class with descriptors: generate or add some first")
        digest = hashlib.sha256(store.path.read_bytes()).hexdigest()
        metadata = {"store": str(store.path), "store_sha256": digest}
        return cls(classes, tuple(name for name in entries if name not in classes), metadata, embedder)

    @classmethod
    def of_classifier(cls, path: Path, head: Head, embedder: Embedder) -> "Candidate":
        """Return a saved classifier, read from a file; the model embeds images alone."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = {"classifier": str(path), "classifier_sha256": digest, "made_of": dict(head.metadata)}
        return cls(descriptors_of(head), (), metadata, embedder, head)

    @property
    def notices(self) -> list[str]:
        """What the user should know of the classes: which have the same list, whatever its order."""
        others: dict[frozenset[str], list[str]] = {}
        for name, descriptors in self.classes.items():
            others.setdefault(frozenset(descriptors), []).append(name)
        twins = [name for marks, names in others.items() if marks and len(names) > 1 for name in names]
        if not twins:
            return []
        return [f"{listed(twins)} have the list of another class: their descriptors do not tell them apart"]

    def arms(self, config: EvaluationConfig) -> tuple[list[Arm], list[str]]:
        """Return the arms, and why some cannot be had. Raises EvaluationError, PromptError."""
        if self.head is not None:
            return arms_of_head(self.head, config)
        return list(arms_of(self.classes, config)), []

    def rows(self, trial: Trial) -> Array:
        """Return the embeddings (M, D) of a trial's texts."""
        return self.embedder.texts(trial.texts.texts) if trial.rows is None else trial.rows

    def names(self) -> Array:
        """Return the embeddings (C, D) of the prompts of the classes' names. Raises EvaluationError."""
        if self.head is None:
            return self.embedder.texts(name_texts(self.classes).texts)
        if self.head.baseline is None:
            raise EvaluationError("the saved classifier has no baseline: save it with --baseline to ablate")
        return self.head.baseline

    @property
    def logit_scale(self) -> float:
        """The factor of the cosines."""
        return self.embedder.logit_scale if self.head is None else self.head.logit_scale


def arms_of_head(head: Head, config: EvaluationConfig) -> tuple[list[Arm], list[str]]:
    """Return the arms that a saved classifier can answer, and why it cannot answer the others."""
    aggregate, text = head.pooling.name, "as saved"
    if "preset" in head.metadata:
        text = f"as saved, preset {head.metadata['preset']}"
    arms: dict[str, Arm] = {}
    if head.baseline is not None:
        trial = Trial(name_texts(head.classes), None, head.baseline)
        arms["photo"] = Arm("photo", config.role("photo"), NAME_TEMPLATE, OF_ONE_TEXT, (trial,))
    trial = Trial(head.texts, None, head.embeddings)
    arms["descriptors"] = Arm("descriptors", config.role("descriptors"), text, aggregate, (trial,))
    have = [name for name, descriptors in descriptors_of(head).items() if descriptors]
    if len(have) > 1 and head.texts.texts == head.texts.descriptors:  # else names would move with the texts
        trials = tuple(_swapped(head, have, config.seeds))
        arms["swapped"] = Arm("swapped", "control", f"{text}, of another class", aggregate, trials)
    why = {
        "photo": "it was saved without a baseline",
        "swapped": "its texts cannot change classes, as they hold class names or are of one class",
    }
    notices = [
        f"a saved classifier has no arm {name}: {why.get(name, 'it needs texts that are not in it')}"
        for name in config.arms
        if name not in arms
    ]
    return [arm for name, arm in arms.items() if name in config.arms], notices


def descriptors_of(head: Head) -> dict[str, list[str]]:
    """Return the descriptors of each class, without the prompts of its name."""
    prompts = dict(zip(head.classes, name_texts(head.classes).texts, strict=True))
    descriptors: dict[str, list[str]] = {name: [] for name in head.classes}
    for row, descriptor in enumerate(head.texts.descriptors):
        name = head.classes[head.texts.owner[row]]
        descriptors[name] += [] if descriptor in (name, prompts[name]) else [descriptor]
    return descriptors


def _swapped(head: Head, have: list[str], seeds: int) -> Iterator[Trial]:
    """Yield the classifier's texts, each under the class that got its list; prompts of a name stay."""
    own = descriptors_of(head)
    place = {name: number for number, name in enumerate(head.classes)}
    for seed in range(seeds):
        order = derangement(len(have), seed)
        receiver = {have[other]: place[name] for name, other in zip(have, order, strict=True)}
        owner = np.array(
            [
                receiver[name] if head.texts.descriptors[row] in own[name] else place[name]
                for row, name in enumerate(head.classes[number] for number in head.texts.owner)
            ]
        )
        rows = np.argsort(owner, kind="stable")  # class after class
        moved = replace(
            head.texts,
            owner=tuple(owner[rows].tolist()),
            descriptors=tuple(head.texts.descriptors[row] for row in rows),
            texts=tuple(head.texts.texts[row] for row in rows),
        )
        yield Trial(moved, seed, head.embeddings[rows])
