"""What classification hands out: scores, marks, predictions and failures, and how they become plain data.

A prediction as an object (a line of `classify --format jsonl`):

    {"image", "label", "scores": [{"class", "probability", "logit"}…],
     "baseline": {"class", "probability", "logit"},                         with a baseline
     "marks": [{"class", "descriptor", "logit"}…], "decided": {"for", "against"}}   with explanation

`label` is null where the classifier abstains. A mark has "z" beside "logit" where scores are relative to
the run's other pictures. A picture that could not be read is {"image", "error"}.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Score:
    """A class with its probability among the given classes and its logit."""

    name: str
    probability: float
    logit: float

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"class": self.name, "probability": self.probability, "logit": self.logit}


@dataclass(frozen=True, slots=True)
class Mark:
    """A descriptor of a class with its score on one picture; `z` relates it to other pictures."""

    name: str
    descriptor: str
    logit: float
    z: float | None = None

    @property
    def strength(self) -> float:
        """What marks are ordered by: z where there is one, else the logit."""
        return self.logit if self.z is None else self.z

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        line: dict[str, Any] = {"class": self.name, "descriptor": self.descriptor, "logit": self.logit}
        return line if self.z is None else line | {"z": self.z}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The marks of the predicted class and of the runner-up, strongest first, and the pair that decided.

    `decided` is, of the pairs of marks that are each other's nearest in meaning (by CLIP's texts), the one in
    which the predicted class leads most; it is None where it leads in none, and with a single class.
    """

    predicted: tuple[Mark, ...]
    runner_up: tuple[Mark, ...]
    decided: tuple[Mark, Mark] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        line: dict[str, Any] = {"marks": [mark.to_dict() for mark in (*self.predicted, *self.runner_up)]}
        if self.decided:
            line["decided"] = {"for": self.decided[0].to_dict(), "against": self.decided[1].to_dict()}
        return line


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What tells the content of an image's file from an earlier or a later one.

    `stamp` is the file's size in bytes and its times of modification and of change, in nanoseconds since
    1970. It is None where there is no file: for an address, and for an embedding, whose numbers `sha256` is
    of.
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


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the classifier says of one picture; `scores` are best first."""

    image: str
    label: str | None
    scores: tuple[Score, ...]
    baseline: Score | None = None
    explanation: Explanation | None = None
    thumbnail: bytes | None = None  # a small JPEG, where one was asked for
    version: FileVersion | None = None  # of the file that was read, where there is one

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object of the module's docstring; thumbnail and version are not part of it."""
        line: dict[str, Any] = {"image": self.image, "label": self.label}
        line["scores"] = [score.to_dict() for score in self.scores]
        if self.baseline:
            line["baseline"] = self.baseline.to_dict()
        return line | (self.explanation.to_dict() if self.explanation else {})


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be read, and why."""

    image: str
    error: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"image": self.image, "error": self.error}


class Predictions(list[Prediction]):
    """The predictions of some pictures, in their order; arrays and tables of them on demand."""

    def __init__(self, predictions: Iterable[Prediction], classes: tuple[str, ...]) -> None:
        super().__init__(predictions)
        self.classes = classes

    @property
    def class_id(self) -> Any:
        """The index of each best class in `classes`, as an integer array (N,)."""
        import numpy as np

        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[one.scores[0].name] for one in self], dtype=np.int64)

    @property
    def confidence(self) -> Any:
        """The probability of each best class, as a float array (N,)."""
        import numpy as np

        return np.array([one.scores[0].probability for one in self], dtype=np.float32)

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row a picture. Raises ImportError where pandas is not installed."""
        pandas = import_module("pandas")

        columns = ["image", "label", "probability", "logit"]
        rows = [(one.image, one.label, one.scores[0].probability, one.scores[0].logit) for one in self]
        return pandas.DataFrame(rows, columns=columns)
