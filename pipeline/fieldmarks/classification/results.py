"""What classification returns: scores, marks, predictions and failures, and how they become plain data.

A prediction as an object (a line of `classify --format jsonl`):

    {"image", "label", "scores": [{"class", "probability", "logit"}…],
     "baseline": {"class", "probability", "logit"},                         with a baseline
     "marks": [{"class", "descriptor", "logit"}…], "decided": {"for", "against"}}   with explanation

`label` is null where the classifier abstains, and "abstained" beside it then says why: "unsure" or "none of
these", with a "reason" where a calibrated threshold says so; "labels" is the conformal set of labels, where
one is asked for; "parent" is the score of the broader class that the label names, where it names one, and
"other" that of the best class that is not its child. A mark has "z" beside "logit" where scores are relative
to the run's other images. With learned weights a mark has "weight" and "contribution", and "from" where the
descriptor is another class's; "offsets" are what the logits of the explained classes have beyond the
contributions of their marks. An image that could not be read is {"image", "error"}.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from importlib import import_module
from itertools import groupby
from typing import Any, Final, TypeVar

Row = TypeVar("Row")

HTML_CLASSES: Final = 5  # shown of a prediction
UNSURE: Final = "(unsure)"  # in the place of a label whose probability is under the least asked for
NONE_OF_THESE: Final = "(none of these)"  # the name of the catch-all class, whose win is no label


@dataclass(frozen=True, slots=True)
class Score:
    """A class with its probability among the given classes and its logit."""

    name: str
    probability: float
    logit: float

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"class": self.name, "probability": self.probability, "logit": self.logit}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Score":
        """Return the score that `to_dict` describes. Raises KeyError, TypeError, ValueError."""
        return cls(str(value["class"]), float(value["probability"]), float(value["logit"]))


@dataclass(frozen=True, slots=True)
class Mark:
    """A descriptor of a class with its score on one image.

    `logit` is the scaled cosine S(descriptor), as the article prints it; `z` relates it to the run's other
    images, in standard deviations from its mean. A learned `weight` is in units of the equal weight 1 / M_c
    of the class's descriptors, and `contribution` is the mark's part of the class's logit. `source` is the
    class whose descriptor it is, where that is another one.
    """

    name: str
    descriptor: str
    logit: float
    z: float | None = None
    weight: float | None = None
    contribution: float | None = None
    source: str | None = None

    @property
    def strength(self) -> float:
        """The sort key of marks: z if there is one, else the contribution or the logit."""
        if self.z is not None:
            return self.z if self.weight is None else self.z * self.weight
        return self.logit if self.contribution is None else self.contribution

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        line: dict[str, Any] = {"class": self.name, "descriptor": self.descriptor, "logit": self.logit}
        more = {"z": self.z, "weight": self.weight, "contribution": self.contribution, "from": self.source}
        return line | {key: value for key, value in more.items() if value is not None}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Mark":
        """Return the mark that `to_dict` describes. Raises KeyError, TypeError, ValueError."""
        z, weight, contribution = (
            None if value.get(key) is None else float(value[key]) for key in ("z", "weight", "contribution")
        )
        source = value.get("from")
        return cls(
            str(value["class"]),
            str(value["descriptor"]),
            float(value["logit"]),
            z,
            weight,
            contribution,
            None if source is None else str(source),
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """The marks of the predicted class and of those after it, strongest first, and the pair that decided.

    `further` are the marks of the third class and the next, where they are asked for. `decided` is, of the
    pairs of marks that are each other's nearest in meaning (by CLIP's texts), the one in which the predicted
    class leads most. Descriptors that both classes have, spellings aside, are in no pair. It is None where
    the class leads in none, and without a runner-up.
    With learned weights `offsets` are what the logits of the classes have beyond their marks' contributions:
    the bias, and the other classes' descriptors that are not listed.
    """

    predicted: tuple[Mark, ...]
    runner_up: tuple[Mark, ...]
    decided: tuple[Mark, Mark] | None
    further: tuple[tuple[Mark, ...], ...] = ()
    offsets: tuple[float, ...] = ()

    @property
    def by_class(self) -> tuple[tuple[Mark, ...], ...]:
        """The marks of each class, the best class first."""
        return tuple(marks for marks in (self.predicted, self.runner_up, *self.further) if marks)

    def of_top(self, count: int) -> "Explanation":
        """Return the explanation by the marks of the best `count` classes."""
        if count == 1:
            return Explanation(self.predicted, (), None, (), self.offsets[:1])
        return Explanation(
            self.predicted, self.runner_up, self.decided, self.further[: count - 2], self.offsets[:count]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        line: dict[str, Any] = {"marks": [mark.to_dict() for own in self.by_class for mark in own]}
        if self.decided:
            line["decided"] = {"for": self.decided[0].to_dict(), "against": self.decided[1].to_dict()}
        return line | ({"offsets": list(self.offsets)} if self.offsets else {})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Explanation":
        """Return the explanation that `to_dict` describes. Raises KeyError, TypeError, ValueError."""
        marks = map(Mark.from_dict, value["marks"])
        predicted, *others = (tuple(own) for _, own in groupby(marks, lambda mark: mark.name))
        decided = value.get("decided")
        pair = (Mark.from_dict(decided["for"]), Mark.from_dict(decided["against"])) if decided else None
        offsets = tuple(map(float, value.get("offsets", ())))
        return cls(predicted, others[0] if others else (), pair, tuple(others[1:]), offsets)


@dataclass(frozen=True, slots=True)
class FileVersion:
    """Identifies one version of an image file, to notice that it changed.

    `stamp` is the file's size in bytes and its times of modification and of change, in nanoseconds since
    1970. It is None where there is no file, as for an embedding, whose numbers `sha256` is of.
    """

    sha256: str
    stamp: tuple[int, int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        stamp = dict(zip(("size", "mtime_ns", "ctime_ns"), self.stamp or (), strict=False))
        return {**stamp, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, value: Any) -> "FileVersion | None":
        """Return the version that `to_dict` describes, None for anything else."""
        match value:
            case {"sha256": str(sha256), "size": int(size), "mtime_ns": int(mtime), "ctime_ns": int(ctime)}:
                return cls(sha256, (size, mtime, ctime))
            case {"sha256": str(sha256), **rest} if not rest:
                return cls(sha256)
        return None


@dataclass(frozen=True, slots=True, repr=False)
class Prediction:
    """The prediction for one image.

    `label` is the best class. It is None where the classifier abstains: the best class is the catch-all, its
    probability is under the least asked for, or its score under a calibrated threshold, which `reason`
    explains; `shown_label` says which. It is a broader class, whose score `parent` is, where a store's
    classes back off; `other` is then the best class that is not its child. `labels` is the conformal set.
    `scores` are the classes, best first; `baseline` is what the class names alone predict. Probabilities are
    a softmax over the given classes: relative scores, which only a calibrated classifier makes confidences.

        prediction = classifier.predict("a.jpg", explain=True)
        prediction.label, prediction.scores[0].probability
        prediction.explanation.predicted[0].descriptor
    """

    image: str
    label: str | None
    scores: tuple[Score, ...]
    baseline: Score | None = None
    explanation: Explanation | None = None
    thumbnail: bytes | None = None  # a small JPEG, where one was asked for
    version: FileVersion | None = None  # of the file that was read, where there is one
    reason: str | None = None
    labels: tuple[str, ...] | None = None
    parent: Score | None = None
    other: Score | None = None

    @property
    def runner_up(self) -> Score | None:
        """The score of the next class; beside a broader class, of the best one that is not its child."""
        return self.other if self.parent else self.scores[1] if len(self.scores) > 1 else None

    @property
    def best(self) -> Score:
        """The score of what is answered: of the broader class that the label names, else the best class."""
        return self.parent or self.scores[0]

    @property
    def shown_label(self) -> str:
        """The label as people read it; "(unsure)" or "(none of these)" where there is none."""
        if self.label is not None:
            return self.label
        return NONE_OF_THESE if self.reason or self.scores[0].name == NONE_OF_THESE else UNSURE

    @property
    def is_doubted(self) -> bool:
        """Whether there is no label although a class is the best: its probability or score is too low."""
        return self.label is None and self.scores[0].name != NONE_OF_THESE

    @property
    def abstained(self) -> str | None:
        """Why there is no label: "unsure" or "none of these"; None where there is one."""
        return None if self.label is not None else self.shown_label.strip("()")

    def __repr__(self) -> str:
        best = self.best
        label = f" {self.shown_label}" if self.label is None and self.shown_label != best.name else ""
        return f"<Prediction {self.image!r}: {best.name!r} {best.probability:.1%}{label}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object of the module's docstring; thumbnail and version are not part of it."""
        line: dict[str, Any] = {"image": self.image, "label": self.label}
        if self.label is None:
            line["abstained"] = self.abstained
        line["scores"] = [score.to_dict() for score in self.scores]
        line |= {"reason": self.reason} if self.reason else {}
        line |= {} if self.labels is None else {"labels": list(self.labels)}
        line |= {"parent": self.parent.to_dict()} if self.parent else {}
        line |= {"other": self.other.to_dict()} if self.other else {}
        if self.baseline:
            line["baseline"] = self.baseline.to_dict()
        return line | (self.explanation.to_dict() if self.explanation else {})

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Prediction":
        """Return the prediction that `to_dict` describes. Raises KeyError, TypeError, ValueError."""
        label, baseline = value["label"], value.get("baseline")
        return cls(
            str(value["image"]),
            None if label is None else str(label),
            tuple(Score.from_dict(score) for score in value["scores"]),
            Score.from_dict(baseline) if baseline else None,
            Explanation.from_dict(value) if value.get("marks") else None,
            reason=None if value.get("reason") is None else str(value["reason"]),
            labels=None if value.get("labels") is None else tuple(map(str, value["labels"])),
            parent=Score.from_dict(value["parent"]) if value.get("parent") else None,
            other=Score.from_dict(value["other"]) if value.get("other") else None,
        )

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each class: class, probability, logit. Raises ImportError."""
        rows = [(score.name, score.probability, score.logit) for score in self.scores]
        return import_module("pandas").DataFrame(rows, columns=["class", "probability", "logit"])

    def _repr_html_(self) -> str:
        rows = [(score.name, f"{score.probability:.1%}") for score in self.scores[:HTML_CLASSES]]
        marks = () if self.explanation is None else self.explanation.predicted
        listed = "".join(f"<li>{escape(mark.descriptor)} ({mark.strength:.1f})</li>" for mark in marks)
        return _table(("class", "probability"), rows, self.image) + (f"<ul>{listed}</ul>" if listed else "")


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read, and why."""

    image: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"image": self.image, "error": self.error}


class Predictions(list[Prediction]):
    """The predictions of some images, in their order; arrays and tables of them on demand."""

    def __init__(self, predictions: Iterable[Prediction], classes: tuple[str, ...]) -> None:
        super().__init__(predictions)
        self.classes = classes

    @property
    def class_id(self) -> Any:
        """The index of each best class in `classes`, as an integer array (N,)."""
        import numpy as np

        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[prediction.scores[0].name] for prediction in self], dtype=np.int64)

    @property
    def confidence(self) -> Any:
        """The probability of each best class, as a float array (N,)."""
        import numpy as np

        return np.array([prediction.scores[0].probability for prediction in self], dtype=np.float32)

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each image; None where there is no label, set or reason.

        Raises ImportError where pandas is not installed.
        """
        rows = [(of.image, of.label, of.best.probability, of.best.logit, of.labels, of.reason) for of in self]
        return import_module("pandas").DataFrame(rows, columns=(*_COLUMNS, "labels", "reason"))

    def _repr_html_(self) -> str:
        rows = [
            (of.image, of.shown_label, f"{of.best.probability:.1%}", f"{of.best.logit:.2f}") for of in self
        ]
        return _table(_COLUMNS, rows)


_COLUMNS: Final = ("image", "label", "probability", "logit")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]], caption: str = "") -> str:
    """Return a table in HTML; every text is escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True, slots=True)
class Progress:
    """How many images are done, of how many where that is known, and the seconds that it has taken."""

    done: int
    failed: int
    total: int | None
    seconds: float


def reporting(
    results: Iterable[Row], total: int | None, progress: Callable[[Progress], None]
) -> Iterator[Row]:
    """Yield what comes of images unchanged, and call back with the progress."""
    started: float | None = None  # the model loads before the first image comes
    failed = 0
    for number, result in enumerate(results, 1):
        started = time.monotonic() if started is None else started
        failed += isinstance(result, Failure)
        progress(Progress(number - failed, failed, total, time.monotonic() - started))
        yield result


def shortened(
    result: Prediction | Failure, *, top: int, explain_top: int = 0, baseline: bool = False
) -> Prediction | Failure:
    """Return a result with no more than `top` classes, the marks of `explain_top` classes, the baseline.

    With `explain_top` 0 there are no marks.
    """
    if isinstance(result, Failure):
        return result
    explanation = result.explanation if explain_top else None
    return replace(
        result,
        scores=result.scores[:top],
        baseline=result.baseline if baseline else None,
        explanation=explanation and explanation.of_top(explain_top),
    )
