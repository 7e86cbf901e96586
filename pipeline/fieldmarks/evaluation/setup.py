"""Labelled pictures that have met the classes of what is evaluated: no model is needed so far."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldmarks.classification import interchange
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.data import DataSet, Source, kept, labels, open_dataset, preflight
from fieldmarks.evaluation.data.class_names import name_numbers
from fieldmarks.evaluation.pictures import Labelled, Pictures, Progress, embed, gather, told
from fieldmarks.evaluation.subject import Subject
from fieldmarks.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Which labelled pictures are meant: a data set, kept embeddings, or a data set that labels these."""

    source: Source | None = None
    embeddings: Path | None = None
    aliases: Path | None = None
    allow_missing: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """Labelled pictures that have met the classes of a subject.

    `class_of` says which class each label stands for; labels without a class, and empty classes, are not in
    it. `counts` are the labels with their numbers of pictures.
    """

    data: Data
    subject: Subject
    dataset: DataSet | None
    counts: Mapping[str, int]
    matching: labels.Matching
    notices: tuple[str, ...]

    @classmethod
    def open(cls, data: Data, subject: Subject, *, strict: bool = True) -> "Setup":
        """Read the labels and match them. Raises EvaluationError, ImageError.

        What does not match is an error only if it is `strict`, and then unless `data` allows it.
        """
        dataset = None if data.source is None else open_dataset(data.source)
        counts = _counts(data.embeddings, dataset)
        aliases, named = _aliases(data, counts)
        classes = [*subject.classes, *subject.empty]
        if data.aliases is not None:
            named += labels.check_aliases(data.aliases, aliases, counts, classes)
        matching = labels.match(counts, classes, aliases)
        notices = labels.require(matching, subject.empty, data.allow_missing or not strict)
        scored = {label: name for label, name in matching.class_of.items() if name in subject.classes}
        matching = replace(matching, class_of=scored)
        told = (*(dataset.notices if dataset else ()), *named, *notices, *subject.notices)
        return cls(data, subject, dataset, counts, matching, told)

    def preflight(self) -> preflight.Preflight:
        """Return what to know of the data set; of kept embeddings alone it is the numbers of each class."""
        if self.dataset is None:
            return preflight.tally(self.counts, self.matching)
        return preflight.inspect(self.dataset, self.matching)

    @property
    def about(self) -> dict[str, Any]:
        """What is needed to read the same pictures again."""
        about = dict(self.dataset.about) if self.dataset else {}
        about |= {"embeddings": str(self.data.embeddings)} if self.data.embeddings else {}
        about |= {"aliases": str(self.data.aliases)} if self.data.aliases else {}
        return about | {"allow_missing": self.data.allow_missing}

    @property
    def model(self) -> str | None:
        """The model that embeds the pictures or embedded them, as far as it is known."""
        head = self.subject.head
        if self.data.embeddings is not None:
            made_with = None if head is None else head.about.get("model")
            return interchange.model_of(self.data.embeddings) or made_with
        return self.subject.embedder.encoder.name

    @property
    def computes(self) -> bool:
        """Whether a model has anything to do: a saved classifier scores kept embeddings without one."""
        return self.subject.head is None or self.data.embeddings is None

    def pictures(self, tell: Callable[[Progress], None]) -> Pictures:
        """Return the pictures, embedded. Raises EvaluationError, ImageError, ModelError."""
        class_of, classes = self.matching.class_of, list(self.subject.classes)
        if self.data.embeddings is not None:
            return gather(_kept(self.data.embeddings, self.dataset), class_of, classes)
        assert self.dataset is not None
        total = sum(count for label, count in self.counts.items() if label in class_of)
        found = embed(self.dataset, class_of, self.subject.embedder)
        return gather(told(found, total, tell), class_of, classes)

    def caveats(self, pictures: Pictures) -> list[str]:
        """Return what the user should be told of the pictures and of the model, once all is computed."""
        head, embedder = self.subject.head, self.subject.embedder
        notices = list(dict.fromkeys(embedder.notices)) if self.computes else []
        texts = embedder.encoder.name if head is None else head.about.get("model")
        if texts and self.model and texts != self.model:
            notices.append(f"the texts are embedded with {texts}, the pictures with {self.model}")
        if head is None and self.model is None:
            notices.append(
                f"{self.data.embeddings} does not say which model made it: figures hold if it was {texts}"
            )
        if pictures.unlabelled:
            have = "has" if pictures.unlabelled == 1 else "have"
            notices.append(f"{counted(pictures.unlabelled, 'embedding')} {have} no label: left out")
        return notices


def by_its_labels(data: Data) -> tuple[preflight.Preflight, tuple[str, ...]]:
    """Return what to know of a data set with no store at hand, and its notices.

    Its classes are its labels, or what aliases make of them. Raises EvaluationError, ImageError.
    """
    dataset = None if data.source is None else open_dataset(data.source)
    counts = _counts(data.embeddings, dataset)
    if not counts:
        raise EvaluationError("no picture has a label")
    aliases, named = _aliases(data, counts)
    matching = labels.Matching({label: aliases.get(label, label) for label in counts})
    if dataset is None:
        return preflight.tally(counts, matching), tuple(named)
    return preflight.inspect(dataset, matching), (*dataset.notices, *named)


def _aliases(data: Data, counts: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return other names of labels, from the user's file or a list beside the data, and what to tell."""
    listed, notices = ({}, []) if data.source is None else name_numbers(counts, data.source.spec)
    if data.aliases is None:
        return listed, notices
    aliases, report = labels.read_aliases(data.aliases)
    return listed | aliases, [*notices, report]


def _counts(embeddings: Path | None, dataset: DataSet | None) -> Counter[str]:
    """Return the labels with their numbers of pictures."""
    if embeddings is not None:
        return Counter(label for _, label in kept.labelled(embeddings, dataset) if label is not None)
    if dataset is None:
        raise EvaluationError("no pictures are named: a data set or kept embeddings are meant")
    return dataset.labels()


def _kept(path: Path, dataset: DataSet | None) -> Iterator[Labelled]:
    for place, (one, label) in enumerate(kept.labelled(path, dataset)):
        yield one, label, place
