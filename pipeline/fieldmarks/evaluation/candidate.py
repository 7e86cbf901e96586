"""Arms of a saved classifier, from the embeddings that lie in it: no model is needed.

Other texts than its own cannot be embedded, so that only `photo` (its baseline), `descriptors` and `swapped`
are to be had.

What is evaluated: a store's classes with a model that reads their texts, or a saved classifier.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fieldmarks.classification.classifier_file import load_head
from fieldmarks.classification.embedder import Embedder, EncoderOptions
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.texts import NAME_TEMPLATE, name_texts
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation import arms
from fieldmarks.evaluation.arms import OF_ONE_TEXT, Arm, Draw, Wanted, derangement
from fieldmarks.store import Store


def of_head(head: Head, wanted: Wanted) -> tuple[list[Arm], list[str]]:
    """Return the arms that a saved classifier can answer, and why the others are left out."""
    there = {
        "photo": _photo(head),
        "descriptors": Arm(
            "descriptors", _told(head), head.pooling.name, (Draw(head.texts, None, head.embeddings),)
        ),
        "swapped": _swapped(head, wanted.seeds),
    }
    arms = [arm for name, arm in there.items() if name in wanted.arms and arm]
    why = {
        "photo": "it was saved without a baseline",
        "swapped": "its texts cannot change classes, as they hold class names or are of one class",
    }
    notices = [
        f"the arm {name} is left out of a saved classifier:"
        f" {why.get(name, 'it needs texts that are not in it')}"
        for name in wanted.arms
        if not there.get(name)
    ]
    return arms, notices


def described(head: Head) -> dict[str, list[str]]:
    """Return the descriptors of each class, without the prompts of its name."""
    prompts = dict(zip(head.classes, name_texts(head.classes).texts, strict=True))
    found: dict[str, list[str]] = {name: [] for name in head.classes}
    for row, descriptor in enumerate(head.texts.descriptors):
        name = head.classes[head.texts.owner[row]]
        found[name] += [] if descriptor in (name, prompts[name]) else [descriptor]
    return found


def _photo(head: Head) -> Arm | None:
    if head.baseline is None:
        return None
    return Arm("photo", NAME_TEMPLATE, OF_ONE_TEXT, (Draw(name_texts(head.classes), None, head.baseline),))


def _told(head: Head) -> str:
    return f"as saved, preset {head.metadata['preset']}" if "preset" in head.metadata else "as saved"


def _swapped(head: Head, seeds: int) -> Arm | None:
    """Return the arm whose classes have each other's descriptors; None where names would move with them."""
    have = [name for name, listed in described(head).items() if listed]
    if len(have) < 2 or head.texts.texts != head.texts.descriptors:
        return None
    return Arm(
        "swapped", f"{_told(head)}, of another class", head.pooling.name, tuple(_draws(head, have, seeds))
    )


def _draws(head: Head, have: list[str], seeds: int) -> Iterator[Draw]:
    """Yield the classifier's texts, each under the class that got its list; prompts of a name stay."""
    own = described(head)
    place = {name: number for number, name in enumerate(head.classes)}
    for seed in range(seeds):
        order = derangement(len(have), seed)
        receiver = {have[other]: place[name] for name, other in zip(have, order, strict=True)}
        owner = np.array(
            [
                receiver[name] if head.texts.descriptors[row] in own[name] else place[name]
                for row, name in enumerate(head.classes[one] for one in head.texts.owner)
            ]
        )
        rows = np.argsort(owner, kind="stable")  # class after class
        moved = replace(
            head.texts,
            owner=tuple(owner[rows].tolist()),
            descriptors=tuple(head.texts.descriptors[row] for row in rows),
            texts=tuple(head.texts.texts[row] for row in rows),
        )
        yield Draw(moved, seed, head.embeddings[rows])


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
            return of_head(self.head, wanted)
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


def of_file(path: Path, model: EncoderOptions) -> Subject:
    """Return a saved classifier; a model embeds pictures alone. Raises ModelError."""
    head = load_head(path)
    if head.is_learned:
        raise EvaluationError(f"{path} has learned weights or a bias, which evaluate cannot apply yet")
    embedder = model.embedder(head.metadata.get("model", ""))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"classifier": str(path), "classifier_sha256": digest, "made_of": dict(head.metadata)}
    return Subject(described(head), (), about, embedder, head)
