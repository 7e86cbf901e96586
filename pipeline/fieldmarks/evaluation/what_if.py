"""What a change to a class's descriptors would do: which pictures flip, the accuracy before and after."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fieldmarks.classification.texts import descriptor_texts
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.arms import Way
from fieldmarks.evaluation.candidate import Subject
from fieldmarks.evaluation.predictions import Pictures, answer, scorer_of
from fieldmarks.evaluation.results import Run
from fieldmarks.records import Entry
from fieldmarks.store import edits


@dataclass(frozen=True, slots=True)
class Flip:
    """A picture that is answered otherwise after the change."""

    image: str
    label: str
    before: str
    after: str

    @property
    def kind(self) -> str:
        """Whether it is right now ("gained"), was right ("lost"), or is wrong either way ("other")."""
        if self.after == self.label:
            return "gained"
        return "lost" if self.before == self.label else "other"

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "image": self.image,
            "label": self.label,
            "before": self.before,
            "after": self.after,
            "kind": self.kind,
        }


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A change of a class's descriptors with what it does; accuracies are shares of `pictures`."""

    name: str
    descriptors: tuple[str, ...]
    pictures: int
    before: float
    after: float
    flips: tuple[Flip, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "class": self.name,
            "descriptors": list(self.descriptors),
            "pictures": self.pictures,
            "accuracy_before": self.before,
            "accuracy_after": self.after,
            "flips": [one.to_dict() for one in self.flips],
        }


def changed(subject: Subject, name: str, add: Sequence[str], drop: Sequence[str]) -> Subject:
    """Return the subject with descriptors of a class added, and dropped by text or by number, from 1.

    Raises EvaluationError if nothing changes, StoreError for a class or descriptor that is not there.
    """
    if name in subject.empty:
        raise EvaluationError(f"{name!r} has no descriptors to compare with: add some to the store first")
    edits.find(list(subject.classes), name, subject.about["store"])
    stamp = edits.Stamp()
    entry = Entry(name, tuple(subject.classes[name]))
    after = edits.dropped(entry, drop, stamp) if drop else entry
    after = (edits.added(after, add, stamp) if add else None) or after
    if after.descriptors == entry.descriptors:
        raise EvaluationError(f"{name!r} has these descriptors already: nothing would change")
    return replace(subject, classes={**subject.classes, name: after.descriptors})


def what_if(subject: Subject, after: Subject, name: str, pictures: Pictures, way: Way) -> WhatIf:
    """Return what it does on pictures that a class has other descriptors, which are read in one way."""
    before, now = (_answered(one, pictures, way) for one in (subject, after))
    classes = tuple(subject.classes)
    flips = tuple(
        Flip(
            pictures.images[at],
            classes[pictures.labels[at]],
            classes[before.predicted[at]],
            classes[now.predicted[at]],
        )
        for at in np.flatnonzero(before.predicted != now.predicted).tolist()
    )
    shares = [float((run.rank == 0).mean()) for run in (before, now)]
    return WhatIf(name, tuple(after.classes[name]), len(pictures.images), shares[0], shares[1], flips)


def _answered(subject: Subject, pictures: Pictures, way: Way) -> Run:
    texts = descriptor_texts(subject.classes, way.template)
    scorer = scorer_of(texts, subject.embedder.texts(texts.texts), way.aggregate)
    return answer(pictures.vectors, pictures.labels, scorer)
