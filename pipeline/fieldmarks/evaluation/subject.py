"""What is evaluated: a store's classes with a model that reads their texts, or a saved classifier."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmarks.classification.embeddings import Embedder
from fieldmarks.classification.head import Head
from fieldmarks.classification.head_file import load_head
from fieldmarks.classification.run import Model
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.texts import name_texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation import arms, saved
from fieldmarks.evaluation.arms import Arm, Draw, Wanted
from fieldmarks.evaluation.data.dataset import listed
from fieldmarks.store import Store


@dataclass(frozen=True, slots=True)
class Subject:
    """Classes with their descriptors, and what gives texts their embeddings.

    `empty` are classes without descriptors; they take no part. `about` says where all this comes from.
    """

    classes: Mapping[str, Sequence[str]]
    empty: tuple[str, ...]
    about: Mapping[str, Any]
    embedder: Embedder
    head: Head | None = None

    @property
    def notices(self) -> list[str]:
        """What the user should be told of the classes: which have the same list, whatever its order."""
        others: dict[frozenset[str], list[str]] = {}
        for name, descriptors in self.classes.items():
            others.setdefault(frozenset(descriptors), []).append(name)
        twins = [name for marks, names in others.items() if marks and len(names) > 1 for name in names]
        if not twins:
            return []
        return [f"{listed(twins)} have the list of another class: their descriptors do not tell them apart"]

    def arms(self, wanted: Wanted) -> tuple[list[Arm], list[str]]:
        """Return the wanted arms, and why some are left out. Raises EvaluationError, PromptError."""
        if self.head is not None:
            return saved.of_head(self.head, wanted)
        return list(arms.of_classes(self.classes, wanted)), []

    def rows(self, draw: Draw) -> Array:
        """Return the embeddings (M, D) of a draw's texts."""
        return self.embedder.texts(draw.texts.texts) if draw.rows is None else draw.rows

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


def of_store(store: Store, embedder: Embedder) -> Subject:
    """Return what a store holds in force. Raises EvaluationError for a store without any descriptor."""
    entries = {entry.name: entry.descriptors for entry in store.entries()}
    classes = {name: descriptors for name, descriptors in entries.items() if descriptors}
    if not classes:
        raise EvaluationError(f"{store.path} has no class with descriptors: generate or add some first")
    digest = hashlib.sha256(store.path.read_bytes()).hexdigest()
    about = {"store": str(store.path), "store_sha256": digest}
    return Subject(classes, tuple(name for name in entries if name not in classes), about, embedder)


def of_file(path: Path, model: Model) -> Subject:
    """Return a saved classifier; a model embeds pictures alone. Raises ModelError."""
    head = load_head(path)
    embedder = model.embedder(head.about.get("model", ""))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"classifier": str(path), "classifier_sha256": digest, "made_of": dict(head.about)}
    return Subject(saved.described(head), (), about, embedder, head)
