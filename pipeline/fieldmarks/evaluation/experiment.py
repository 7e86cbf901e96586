"""A data set matched to a candidate's classes, and the one pass that embeds its images.

A candidate is what is evaluated: a store's classes with a model that reads their texts, or a saved
classifier.

A folder, a manifest or a table says its labels without an image being read, so they are matched first. A tar
or a stream says them as it is read: then images are embedded while their label may have a class, and the
labels are matched at the end of the same pass. Once a label is seen that cannot have a class, and must have
one, the rest is read for its labels alone.
"""

import hashlib
import platform
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Final

from fieldmarks import __version__
from fieldmarks.classification.embedder import Embedded, Embedder
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.head import DIGEST, Head
from fieldmarks.classification.results import Failure, Progress, reporting
from fieldmarks.classification.scoring import Array, Scorer
from fieldmarks.classification.sources import ImageInput, find
from fieldmarks.classification.texts import name_texts
from fieldmarks.data import DataSet, DatasetSpec, check, labels, precomputed
from fieldmarks.data.dataset import listed
from fieldmarks.data.opening import open_spec
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.arms import Arm, EvaluationConfig, Trial, arms_of, arms_of_head, descriptors_of
from fieldmarks.evaluation.metrics import CONFIDENCE, RESAMPLES
from fieldmarks.evaluation.predictions import Images, Row, distinct, gather, scorer_of, stacked
from fieldmarks.store import Store
from fieldmarks.text import counted


@dataclass(frozen=True, slots=True)
class Candidate:
    """Classes with their descriptors, and what gives texts their embeddings.

    Classes without descriptors take part, by the prompt of their name, as in `classify`. `ids` are other
    names of classes; those in `clashing` are of several classes, and match nothing. `measured_on` are the
    data sets on which descriptors' effects were measured, `parents` the broader classes of classes.
    `metadata` says where all this comes from.
    """

    classes: Mapping[str, Sequence[str]]
    metadata: Mapping[str, Any]
    embedder: Embedder
    head: Head | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    clashing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    measured_on: frozenset[str] = frozenset()
    parents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_store(cls, store: Store, embedder: Embedder) -> "Candidate":
        """Return a store's current classes. Raises EvaluationError for a store without descriptors."""
        classes = {entry.name: entry.descriptors for entry in store.entries()}
        if not any(classes.values()):
            raise EvaluationError(f"{store.name} has no class with descriptors: generate or add some first")
        digest = hashlib.sha256(store.path.read_bytes()).hexdigest()
        metadata = {"store": store.name, "store_sha256": digest}
        clashing = {text: names for text, names in store.owners_of_ids().items() if len(names) > 1}
        measured = frozenset(entry.measured["data"] for entry in store.entries() if entry.measured)
        return cls(
            classes,
            metadata,
            embedder,
            ids=store.ids(),
            clashing=clashing,
            measured_on=measured,
            parents=store.parents(),
        )

    @classmethod
    def of_classifier(cls, path: Path, head: Head, embedder: Embedder) -> "Candidate":
        """Return a saved classifier, read from a file; the model embeds images alone."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata = {"classifier": str(path), "classifier_sha256": digest, "made_of": dict(head.metadata)}
        return cls(descriptors_of(head), metadata, embedder, head, parents=head.parents)

    @property
    def notices(self) -> list[str]:
        """Notices about the classes: which have no list, or one that another class has."""
        empty = [name for name, descriptors in self.classes.items() if not descriptors]
        notices = []
        if empty and self.head is None:
            notices.append(
                f"classes without descriptors: {listed(empty)}; they are read by the prompt of their name, as"
                " `fieldmarks classify` does"
            )
        others: dict[frozenset[str], list[str]] = {}
        for name, descriptors in self.classes.items():
            others.setdefault(frozenset(descriptors), []).append(name)
        twins = [name for marks, names in others.items() if marks and len(names) > 1 for name in names]
        if twins:
            have = f"{listed(twins)} have the list of another class"
            notices.append(f"{have}: their descriptors do not tell them apart")
        return notices

    def arms(self, config: EvaluationConfig) -> tuple[list[Arm], list[str]]:
        """Return the arms, and why others are not available. Raises EvaluationError, PromptError."""
        if self.head is not None:
            return arms_of_head(self.head, config)
        return list(arms_of(self.classes, config)), []

    def rows(self, trial: Trial) -> Array:
        """Return the embeddings (M, D) of a trial's texts."""
        return self.embedder.texts(trial.texts.texts) if trial.rows is None else trial.rows

    def scorer(self, arm: Arm, trial: Trial) -> Scorer:
        """Return what scores images by a trial's texts; those of a saved classifier as it has learned."""
        head = self.head
        if head is None or not head.is_learned or arm.role != "subject":
            return scorer_of(trial.texts, self.rows(trial), arm.aggregate)
        return head.scorer if head.bias is None else _with_bias(head.scorer, head.bias)

    def names(self) -> Array:
        """Return the embeddings (C, D) of the prompts of the classes' names. Raises EvaluationError."""
        if self.head is None:
            return self.embedder.texts(name_texts(self.classes).texts)
        if self.head.baseline is None:
            raise EvaluationError("the saved classifier has no baseline: save it with --baseline to ablate")
        return self.head.baseline

    def undescribed(self, config: EvaluationConfig) -> Array:
        """Return the embeddings (C, D) of the classes without descriptors. Raises EvaluationError."""
        if self.head is not None:
            return self.names()
        reading = next(iter(config.readings().values()))
        plain = replace(config, with_name=False)
        return self.embedder.texts(plain.texts(dict.fromkeys(self.classes, ()), reading.template).texts)

    @property
    def logit_scale(self) -> float:
        """The factor of the cosines."""
        return self.embedder.logit_scale if self.head is None else self.head.scale


def _with_bias(scorer: Scorer, bias: Array) -> Scorer:
    """Return a scorer whose scores (N, C) have a bias (C,) added."""

    def reduce(products: Array) -> Array:
        scores: Array = (products if scorer.reduce is None else scorer.reduce(products)) + bias
        return scores

    return replace(scorer, reduce=reduce)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A data set, or image embeddings in files, and the candidate that is measured on it.

    `matching` says which class each label stands for, without labels that have none; it is None while the
    labels are not known. `counts` are the labels with their numbers of images. With `strict`, what does not
    match is an error unless the data set's spec allows it.
    """

    spec: DatasetSpec
    candidate: Candidate
    dataset: DataSet | None
    strict: bool
    notices: tuple[str, ...]
    counts: Mapping[str, int] | None = None
    matching: labels.Matching | None = None

    @classmethod
    def open(cls, spec: DatasetSpec, candidate: Candidate, *, strict: bool = True) -> "Experiment":
        """Open the data set, and match its labels if they are known. Raises EvaluationError."""
        dataset = None if spec.spec is None else open_spec(spec)
        if dataset is None and spec.embeddings is None:
            raise EvaluationError("no images given: expected a data set, or image embeddings in files")
        notices = (*(dataset.notices if dataset else ()), *candidate.notices)
        opened = cls(spec, candidate, dataset, strict and not spec.allow_missing, notices)
        if dataset is None or spec.embeddings is not None or not dataset.is_indexed:
            return opened
        return opened.matched(dataset.labels())

    def matched(self, counts: Mapping[str, int]) -> "Experiment":
        """Return the experiment with the labels, given with their numbers of images, matched.

        Raises EvaluationError.
        """
        candidate = self.candidate
        aliases, named = _aliases(self.spec, counts)
        classes = list(candidate.classes)
        if self.spec.aliases is not None:
            named += labels.check_aliases(self.spec.aliases, aliases, counts, classes)
        matching = labels.match(counts, classes, aliases, candidate.ids, candidate.clashing)
        notices = labels.require(matching, not self.strict)
        of_dataset = self.dataset.notices if self.dataset else ()
        return replace(
            self,
            notices=(*of_dataset, *named, *notices, *candidate.notices),
            counts=dict(counts),
            matching=matching,
        )

    def preflight(self) -> tuple["Experiment", check.Preflight]:
        """Check the data set in one pass; return the result, and the experiment with labels matched.

        Of embeddings alone it is the numbers of each class. Raises EvaluationError, ImageError.
        """
        if self.dataset is None:
            done = self.matched(Counter(label for _, label in self._precomputed() if label is not None))
            assert done.matching is not None
            assert done.counts is not None
            return done, check.tally(done.counts, done.matching)
        done = self

        def match(counts: Mapping[str, int]) -> labels.Matching:
            nonlocal done
            done = self if self.matching else self.matched(counts)
            assert done.matching is not None
            return done.matching

        preflight = check.inspect(self.dataset, match)
        return done, preflight

    def read(
        self, progress: Callable[[Progress], None] | None = None, copies: IO[bytes] | None = None
    ) -> tuple["Experiment", Images]:
        """Return the images, embedded in one pass, and the experiment with labels matched.

        Small copies of the images go to the file `copies`, if there is one. Raises EvaluationError,
        ImageError, ModelError.
        """
        counts: Counter[str] = Counter()
        done = self

        def class_of() -> Mapping[str, str]:
            nonlocal done
            done = self if self.matching else self.matched(counts)
            assert done.matching is not None
            return done.matching.class_of

        if self.spec.embeddings is not None:
            rows = self._counted(self._precomputed(), counts)
        else:
            rows = self._embedded(counts, copies is not None, progress)
        folder = self.spec.embeddings if self.spec.embeddings and self.spec.embeddings.is_dir() else None
        images = gather(rows, class_of, list(self.candidate.classes), copies, folder)
        return done, images

    def read_unknown(
        self, path: str, known: Images, progress: Callable[[Progress], None] | None = None
    ) -> tuple[Array, tuple[Failure, ...], tuple[str, ...]]:
        """Return the embeddings (n, D) of images of none of the classes, failures, and notices.

        `path` is a file, a folder or a glob of images; where the known images are embeddings in files, it is
        one more of these. Raises EvaluationError where nothing is left, ImageError, ModelError.
        """
        rows: Iterable[Embedded | Failure]
        if self.spec.embeddings is not None:
            rows, total = EmbeddingSet(path), None
        else:
            paths = list(find([path]))
            rows, total = self.candidate.embedder.images(paths), len(paths)
        if progress is not None:
            rows = reporting(rows, total, progress)
        images, failures = distinct((row, None) for row in rows)
        labelled = set(known.digests)
        found = {digest: vector for digest, vector in images.items() if digest not in labelled}
        notices = []
        if left := len(images) - len(found):
            notices.append(f"{path}: {counted(left, 'image')} left out: equal to images with a label")
        if not found:
            reason = f": {failures[0].image}: {failures[0].error}" if failures else ""
            raise EvaluationError(f"{path}: no images of none of the classes{reason}")
        return stacked(list(found.values())), tuple(failures), tuple(notices)

    @property
    def total(self) -> int | None:
        """The number of images whose label has a class, where it is known before they are read."""
        if self.matching is None or self.counts is None:
            return None
        return sum(count for label, count in self.counts.items() if label in self.matching.class_of)

    def _embedded(
        self, counts: Counter[str], copies: bool, progress: Callable[[Progress], None] | None
    ) -> Iterator[Row]:
        """Yield the embeddings of the images whose label has or may have a class, and count all labels."""
        assert self.dataset is not None
        may_match = self._may_match()
        waiting: deque[str | None] = deque()

        def wanted(dataset: DataSet) -> Iterator[ImageInput | Failure]:
            hopeless = False
            for example in dataset:
                if isinstance(example, Failure):
                    waiting.append(None)
                    yield example
                    continue
                counts[example.label] += 1
                fits = may_match(example.label)
                hopeless |= self.strict and not fits
                if fits and not hopeless:
                    waiting.append(example.label)
                    yield example.image

        thumbnails = sys.maxsize if copies else 0
        results = self.candidate.embedder.images(wanted(self.dataset), thumbnails=thumbnails)
        for result in results if progress is None else reporting(results, self.total, progress):
            yield result, waiting.popleft()

    def _may_match(self) -> Callable[[str], bool]:
        """Return whether a label has a class; where not all labels are known yet, whether it may have one."""
        if self.matching is not None:
            return self.matching.class_of.__contains__
        aliases, _ = _aliases(self.spec, ())
        classes = (*self.candidate.classes, *self.candidate.ids)
        folds, letters = set(map(labels.fold, classes)), set(map(labels.letters, classes))
        known: dict[str, bool] = {}

        def may_match(label: str) -> bool:
            if label not in known:
                known[label] = (
                    label in aliases
                    or labels.fold(label) in folds
                    or labels.letters(label) in letters
                    or bool(labels.name_numbers([label], self.spec.name)[0])
                )
            return known[label]

        return may_match

    def _precomputed(self) -> Iterator[Row]:
        assert self.spec.embeddings is not None
        return precomputed.labelled(self.spec.embeddings, self.dataset)

    @staticmethod
    def _counted(rows: Iterator[Row], counts: Counter[str]) -> Iterator[Row]:
        for image, label in rows:
            if label is not None:
                counts[label] += 1
            yield image, label

    @property
    def metadata(self) -> dict[str, Any]:
        """What is needed to read the same images again."""
        metadata = dict(self.dataset.metadata) if self.dataset else {}
        metadata |= {"embeddings": str(self.spec.embeddings)} if self.spec.embeddings else {}
        metadata |= {"aliases": str(self.spec.aliases)} if self.spec.aliases else {}
        return metadata | {"allow_missing": self.spec.allow_missing}

    @property
    def model(self) -> str | None:
        """The model that embeds the images or embedded them, as far as it is known."""
        head = self.candidate.head
        if self.spec.embeddings is not None:
            made_with = None if head is None else head.metadata.get("model")
            return EmbeddingSet(self.spec.embeddings).model or made_with
        return self.candidate.embedder.encoder.model

    @property
    def computes(self) -> bool:
        """Whether a model is needed: a saved classifier scores precomputed embeddings without one."""
        return self.candidate.head is None or self.spec.embeddings is None

    def caveats(self, images: Images) -> list[str]:
        """Return notices about the images and the model, once all is computed."""
        head, embedder = self.candidate.head, self.candidate.embedder
        notices = check.repeated(images.equal)
        if images.repeats:
            notices.append(
                f"{len(images.distinct):,} of {counted(len(images.names), 'image')} are distinct: intervals"
                " and p count an image of one class once"
            )
        notices += self._used_before(images)
        notices += list(dict.fromkeys(embedder.notices)) if self.computes else []
        texts = embedder.encoder.model if head is None else head.metadata.get("model")
        if texts and self.model and texts != self.model:
            notices.append(f"the texts are embedded with {texts}, the images with {self.model}")
        if head is None and self.model is None:
            notices.append(
                f"{self.spec.embeddings} does not say which model made it: figures hold if it was {texts}"
            )
        if images.unlabelled:
            have = "has" if images.unlabelled == 1 else "have"
            notices.append(f"{counted(images.unlabelled, 'embedding')} {have} no label: left out")
        return notices

    def _used_before(self, images: Images) -> list[str]:
        """Return notices of images that what is evaluated was learned from or measured on."""
        head = self.candidate.head
        notices = []
        if head is not None and head.digests is not None:
            learned = set(head.digests.view(f"V{DIGEST}").ravel().tolist())
            seen = sum(bytes.fromhex(digest)[:DIGEST] in learned for digest in images.digests)
            if seen:
                notices.append(
                    f"this classifier was learned or calibrated on {seen:,} of"
                    f" {counted(len(images.names), 'image')}: figures are better than on new images; leave"
                    " those out"
                )
        if self.candidate.measured_on & {str(self.spec.spec), str(self.spec.embeddings)}:
            notices.append(
                "the effects in the store were measured on these images: if descriptors were changed by them,"
                " figures are better than on new images"
            )
        return notices


def survey(spec: DatasetSpec) -> tuple[check.Preflight, tuple[str, ...]]:
    """Check a data set without classes to match; return the result and the notices.

    Its classes are its labels, or what aliases make of them. Raises EvaluationError, ImageError.
    """
    dataset = None if spec.spec is None else open_spec(spec)
    notices: list[str] = list(dataset.notices) if dataset else []

    def match(counts: Mapping[str, int]) -> labels.Matching:
        if not counts:
            raise EvaluationError("no image has a label")
        aliases, named = _aliases(spec, counts)
        notices.extend(named)
        return labels.Matching({label: aliases.get(label, label) for label in counts})

    if dataset is not None and spec.embeddings is None:
        return check.inspect(dataset, match), tuple(notices)
    if spec.embeddings is None:
        raise EvaluationError("no images given: expected a data set, or image embeddings in files")
    rows = precomputed.labelled(spec.embeddings, dataset)
    counts = Counter(label for _, label in rows if label is not None)
    return check.tally(counts, match(counts)), tuple(notices)


def _aliases(spec: DatasetSpec, counts: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return other names of labels, from the user's file or a list beside the data, and what to tell."""
    numbers, notices = ({}, []) if spec.spec is None else labels.name_numbers(counts, spec.spec)
    if spec.aliases is None:
        return numbers, notices
    aliases, report = labels.read_aliases(spec.aliases)
    return numbers | aliases, [*notices, report]


PACKAGES: Final = ("datasets", "numpy", "openvino", "pillow", "scipy", "torch", "torchvision", "transformers")


def provenance(experiment: Experiment, config: EvaluationConfig, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that is needed to run an evaluation again, as plain data; `more` is the caller's."""
    encoder = experiment.candidate.embedder.encoder
    computed = {**encoder.metadata, "fingerprint": encoder.fingerprint} if experiment.computes else {}
    chosen = {key.name: getattr(config, key.name) for key in fields(config) if key.name != "sentences"}
    chosen = {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}
    return {
        "fieldmarks": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: number for name in PACKAGES if (number := _version(name))},
        **experiment.candidate.metadata,
        **more,
        "data": experiment.metadata,
        "model": experiment.model,
        "computed": computed,
        "wanted": chosen | {"seeds": list(range(config.seeds))},
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
