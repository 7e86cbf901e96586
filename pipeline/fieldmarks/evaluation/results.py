"""The results of an evaluation, converted to plain data and back.

An evaluation as an object (`fieldmarks evaluate --json FILE`, `Evaluation.save`):

    {"v": 1, "settings": {…}, "summary": [sentence…], "notices": […],
     "classes": [name…], "parents": {class: broader class},
     "images": [name…], "labels": [class index…], "repeats": [[image index…]…],
     "failures": [{"image", "error"}…],
     "arms": [{"name", "role", "text", "aggregate", "texts", "runs": [{"seed", "predicted", "rank"}…],
               "top1", "top5", "mean_per_class", "difference", "recall", "gain", "confused"}…],
     "effects": [{"class", "descriptor", "effect", "margin", "others_margin", "pictures",
                  "on": {"picture": [index…], "right": [-1, 0 or 1…], "margin": [logits…]}}…],
     "examples": [{"true": class, "by": {arm: class}, …a prediction}…],
     "confidence": {"error", "bins", "aurc", "coverage", "risk", "sets", "rejections", "unknown"…},
     "back_off": {"images", "broader", "right_broader", "right_narrow", "right"}}

With `--predictions FILE.parquet` there is "predictions": the name of that file, which lies beside the JSON
and holds images, labels, `predicted` and `rank` in its place; see prediction_files.py.

Images, labels, `predicted` and `rank` run in step, so every figure can be computed again from the object:
`rank` is the number of classes that score above the true one. `repeats` are groups of images of one class
that are equal byte for byte: figures are of all images, but intervals and p count each group once. Shares are
from 0 to 1; an estimate is {"value", "low", "high"}; `effects` is there with ablation, `seed` null where
nothing is random. An effect's figures are the means of what its descriptor changes `on` single images; on
those not listed, nothing. `confidence`, of a calibrated classifier or with unknown images, is that of
`estimates.py`, else null; so is `back_off`, of classes with parents. Files of version 0.1 have neither
`role`, which follows from the arm's name, nor `true`, which follows from `labels`, nor `repeats`; their arm
waffle is the one that is now random-words.
"""

import html
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.errors import EvaluationError, StoreError
from fieldmarks.evaluation import schema
from fieldmarks.evaluation.estimates import BackOff as BackOff
from fieldmarks.evaluation.estimates import Confidence as Confidence
from fieldmarks.evaluation.estimates import Difference as Difference
from fieldmarks.evaluation.estimates import Estimate as Estimate
from fieldmarks.evaluation.prediction_files import column_of, with_predictions, write_predictions
from fieldmarks.paths import has_ends, obstacle, read_bytes, unwritable
from fieldmarks.store import durable

FORMAT_VERSION: Final = 1
NO_EVALUATION: Final = "not a saved evaluation (`fieldmarks evaluate --json`)"
MAX_BYTES: Final = 2**28  # of a file; one of 50,000 images and 1,000 classes has about 2**25
_MARGIN_DIGITS: Final = 6  # of the margin on one image, in plain data
_BEGINNING: Final = b'{"v":1,"settings":{"fieldmarks":'  # as orjson writes it
_ENDING: Final = b"}\n"

Indices = NDArray[np.int32]
Role = Literal["subject", "baseline", "control", "other"]
CONTROLS: Final = ("waffle", "random-words", "swapped")  # arms of random texts


class _Plain:
    """What is equal if its plain object is, as arrays are not compared as a whole."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, _Plain):
            return NotImplemented
        return self.to_dict() == other.to_dict()


@dataclass(frozen=True, slots=True, eq=False)
class Predictions(_Plain):
    """What one trial of an arm answered: the class index (N,) and the true class's rank (N,) from 0."""

    predicted: Indices
    rank: Indices
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {"seed": self.seed, "predicted": self.predicted.tolist(), "rank": self.rank.tolist()}


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images of one class predicted as another; `count` is the mean over an arm's trials."""

    label: int
    predicted: int
    count: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmResult(_Plain):
    """One way of classifying with its figures; random arms have several runs, whose mean the figures are.

    `role` is "subject" for the store's descriptors, "baseline" for what the others are compared with,
    "control" for random texts, else "other". `text` is the template or what stands for it, `texts` are a few
    of the texts that CLIP read. `top5` is None with five classes or fewer, `difference` and `gain` for the
    baseline.
    """

    name: str
    role: Role
    text: str
    aggregate: str
    texts: tuple[str, ...]
    runs: tuple[Predictions, ...]
    top1: Estimate
    top5: Estimate | None
    mean_per_class: Estimate
    difference: Difference | None
    recall: tuple[float | None, ...]  # of each class; None without images
    gain: tuple[float | None, ...] | None  # of each class, over the baseline
    confused: tuple[Confusion, ...]  # most often first

    def hits(self, top: int = 1) -> NDArray[np.bool_]:
        """Return which images each run has among its `top` classes, (R, N)."""
        return np.stack([run.rank < top for run in self.runs])

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        plain = {key.name: getattr(self, key.name) for key in fields(self)}
        figures = ("top1", "top5", "mean_per_class", "difference")
        plain |= {"texts": list(self.texts), "runs": [run.to_dict() for run in self.runs]}
        plain |= {name: asdict(plain[name]) if plain[name] else None for name in figures}
        plain |= {"recall": list(self.recall), "gain": None if self.gain is None else list(self.gain)}
        return plain | {"confused": [asdict(pair) for pair in self.confused]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], role: Role | None = None) -> Self:
        """Return the arm of a plain object; `role` is that of one without."""
        runs = (
            Predictions(np.array(run["predicted"], np.int32), np.array(run["rank"], np.int32), run["seed"])
            for run in plain["runs"]
        )
        return cls(
            name=plain["name"],
            role=role or plain["role"],
            text=plain["text"],
            aggregate=plain["aggregate"],
            texts=tuple(plain["texts"]),
            runs=tuple(runs),
            top1=Estimate(**plain["top1"]),
            top5=Estimate(**plain["top5"]) if plain["top5"] else None,
            mean_per_class=Estimate(**plain["mean_per_class"]),
            difference=Difference(**plain["difference"]) if plain["difference"] else None,
            recall=tuple(plain["recall"]),
            gain=None if plain["gain"] is None else tuple(plain["gain"]),
            confused=tuple(Confusion(**pair) for pair in plain["confused"]),
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What a descriptor changes on some images: their indices (K,), right answers and margins in logits."""

    image: Indices
    right: Indices  # 1 where it is right by the descriptor alone, -1 where it would be right without it
    margin: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        margin = np.round(self.margin.astype(np.float64), _MARGIN_DIGITS).tolist()
        return {"picture": self.image.tolist(), "right": self.right.tolist(), "margin": margin}


def _nothing() -> Changes:
    return Changes(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class DescriptorEffect:
    """What leaving one descriptor out changes; positive figures mean that the descriptor helps.

    `effect` is in shares of all images classified correctly, `margin` the mean change of its class's images'
    lead over the best other class, `others_margin` the same of the other classes' images, both in logits.
    """

    name: str  # "class" in plain data
    descriptor: str
    effect: float
    margin: float
    others_margin: float
    images: int  # of its class; "pictures" in plain data
    on: Changes = field(default_factory=_nothing, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "class": self.name,
            "descriptor": self.descriptor,
            "effect": self.effect,
            "margin": self.margin,
            "others_margin": self.others_margin,
            "pictures": self.images,
            "on": self.on.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the effect of a plain object."""
        on = plain["on"]
        changes = Changes(
            np.array(on["picture"], np.int32),
            np.array(on["right"], np.int32),
            np.array(on["margin"], np.float32),
        )
        return cls(
            name=plain["class"],
            descriptor=plain["descriptor"],
            effect=plain["effect"],
            margin=plain["margin"],
            others_margin=plain["others_margin"],
            images=plain["pictures"],
            on=changes,
        )


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An image worth showing: its true class, what each arm answered, and the prediction with its marks."""

    label: str
    by: Mapping[str, str]
    prediction: Prediction

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object, without the thumbnail."""
        return {"true": self.label, "by": dict(self.by)} | self.prediction.to_dict()

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], label: str) -> Self:
        """Return the example of a plain object; `label` is the true class of one that does not name it."""
        return cls(plain.get("true", label), dict(plain["by"]), Prediction.from_dict(plain))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation(_Plain):
    """A complete evaluation: the arms' figures and everything needed to recompute them and to run it again.

    `labels` (N,) are the class indices of the N images, in step with `images`; `repeats` are groups of image
    indices that are one image, of one class. `settings` holds every option and version. Two evaluations are
    equal if their plain objects are, that is but for thumbnails.

        result = fm.evaluate(fm.Store("frogs.jsonl"), "photos")
        print(result.arm.top1.value, result.arm.difference)
        result.save("run.json")
    """

    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    images: Sequence[str]
    labels: Indices
    arms: tuple[ArmResult, ...]
    repeats: tuple[tuple[int, ...], ...] = ()
    parents: Mapping[str, str] = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    effects: tuple[DescriptorEffect, ...] = ()
    examples: Sequence[Exemplar] = field(default_factory=tuple)
    confidence: Confidence | None = None
    back_off: BackOff | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of images of each class, (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def distinct(self) -> NDArray[np.int64]:
        """The indices of the images, of a group of repeats only the first, (n,)."""
        return distinct_of(len(self.images), self.repeats)

    def broader_hits(self, arm: ArmResult) -> NDArray[np.bool_]:
        """Return which images each run of an arm gives a class of the true broader class, (R, N)."""
        groups = [self.parents.get(name, name) for name in self.classes]
        numbers = np.unique(groups, return_inverse=True)[1]
        return np.stack([numbers[run.predicted] == numbers[self.labels] for run in arm.runs])

    @property
    def baseline(self) -> ArmResult | None:
        """The arm that the others are compared with; None where nothing is compared."""
        compared = {arm.difference.to for arm in self.arms if arm.difference}
        return next((arm for arm in self.arms if arm.name in compared), None)

    @property
    def arm(self) -> ArmResult:
        """The arm in question: the first of the store's descriptors, else the last that is no control."""
        others = [arm for arm in self.arms if arm is not self.baseline] or [*self.arms]
        subjects = [arm for arm in others if arm.role == "subject"]
        certain = [arm for arm in others if arm.role != "control"]
        return next(iter(subjects or certain[::-1] or others))

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object of the module's docstring."""
        return {
            "v": FORMAT_VERSION,
            "settings": dict(self.settings),
            "summary": list(self.summary),
            "notices": list(self.notices),
            "classes": list(self.classes),
            "parents": dict(self.parents),
            "images": list(self.images),
            "labels": self.labels.tolist(),
            "repeats": [list(group) for group in self.repeats],
            "failures": [failure.to_dict() for failure in self.failures],
            "arms": [arm.to_dict() for arm in self.arms],
            "effects": [effect.to_dict() for effect in self.effects],
            "examples": [example.to_dict() for example in self.examples],
            "confidence": self.confidence.to_dict() if self.confidence else None,
            "back_off": asdict(self.back_off) if self.back_off else None,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the evaluation of a plain object, also of version 0.1. Raises EvaluationError."""
        version = plain.get("v")
        if version != FORMAT_VERSION:
            raise EvaluationError(f"expected an evaluation of version {FORMAT_VERSION}, found {version!r}")
        try:
            schema.check(plain)
            return cls._from_dict(plain)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise EvaluationError(f"this is not an evaluation, or a damaged one: {error}") from error

    @classmethod
    def _from_dict(cls, plain: Mapping[str, Any]) -> Self:
        classes, images = tuple(plain["classes"]), tuple(plain["images"])
        labels = np.array(plain["labels"], np.int32)
        true = {image: classes[label] for image, label in zip(images, plain["labels"], strict=True)}
        compared = {arm["difference"]["to"] for arm in plain["arms"] if arm["difference"]}
        return cls(
            settings=plain["settings"],
            classes=classes,
            images=images,
            labels=labels,
            repeats=tuple(map(tuple, plain.get("repeats", ()))),
            parents=dict(plain.get("parents", {})),
            arms=tuple(
                ArmResult.from_dict(arm, arm.get("role") or role_of(arm["name"], compared))
                for arm in plain["arms"]
            ),
            summary=tuple(plain["summary"]),
            notices=tuple(plain["notices"]),
            failures=tuple(Failure(**failure) for failure in plain["failures"]),
            effects=tuple(map(DescriptorEffect.from_dict, plain["effects"])),
            examples=[
                Exemplar.from_dict(example, true.get(example["image"], "")) for example in plain["examples"]
            ],
            confidence=Confidence.from_dict(plain["confidence"]) if plain.get("confidence") else None,
            back_off=BackOff.from_dict(plain["back_off"]) if plain.get("back_off") else None,
        )

    def save(self, path: str | Path, *, predictions: str | None = None) -> None:
        """Write the evaluation as JSON, in the place of an earlier one but of no other file.

        `predictions` is the name of the file beside it that `save_predictions` wrote. Raises EvaluationError.
        """
        check_file(Path(path))
        try:
            durable.replace(Path(path).resolve(), [self.encoded(predictions)])
        except StoreError as error:
            raise EvaluationError(str(error)) from error

    def save_predictions(self, path: str | Path, *, force: bool = False) -> None:
        """Write what each arm predicted for each image as Parquet. Raises EvaluationError."""
        runs = {
            column_of(arm.name, number, len(arm.runs)): (run.predicted, run.rank)
            for arm in self.arms
            for number, run in enumerate(arm.runs)
        }
        write_predictions(Path(path), self.images, self.labels, self.classes, runs, force=force)

    def encoded(self, predictions: str | None = None) -> bytes:
        """Return the evaluation as one line of JSON, without what the file `predictions` beside it holds."""
        import orjson

        if predictions is None:
            return orjson.dumps(self.to_dict()) + b"\n"
        none = np.empty(0, np.int32)
        arms = (
            replace(arm, runs=tuple(replace(run, predicted=none, rank=none) for run in arm.runs))
            for arm in self.arms
        )
        rest = replace(self, images=(), labels=none, arms=tuple(arms))
        return orjson.dumps(rest.to_dict() | {"predictions": predictions}) + b"\n"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an evaluation that `save` or `fieldmarks evaluate --json` wrote. Raises EvaluationError."""
        data = read_bytes(Path(path), MAX_BYTES, EvaluationError)
        try:
            plain = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{path}: {NO_EVALUATION}: {error}") from error
        if not isinstance(plain, dict):
            raise EvaluationError(f"{path}: {NO_EVALUATION}: expected one JSON object")
        if plain.get("kind") == "learning curves":
            raise EvaluationError(
                f"{path} holds learning curves; expected an evaluation, which `fieldmarks evaluate` writes"
                " without --shots"
            )
        if not {"v", "arms", "images"} & plain.keys():
            raise EvaluationError(f"{path}: {NO_EVALUATION}")
        try:
            whole = with_predictions(plain, Path(path).parent) if plain.get("predictions") else plain
            return cls.from_dict(whole)
        except EvaluationError as error:
            raise EvaluationError(f"{path}: {error}") from error

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row an arm. Raises ImportError where pandas is not installed."""
        pandas = import_module("pandas")
        rows = [
            {
                "arm": arm.name,
                "role": arm.role,
                **_columns("top1", arm.top1),
                **_columns("top5", arm.top5),
                **_columns("mean_per_class", arm.mean_per_class),
                **_columns("difference", arm.difference),
                "p": arm.difference.p if arm.difference else None,
            }
            for arm in self.arms
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        arms = ", ".join(f"{arm.name} {100 * arm.top1.value:.1f}%" for arm in self.arms)
        return f"<Evaluation of {len(self.images):,} images, {len(self.classes):,} classes: {arms}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(arm.name)}</td><td>{_cell(arm.top1)}</td>"
            f"<td>{_cell(arm.mean_per_class)}</td><td>{_cell(arm.difference)}</td></tr>"
            for arm in self.arms
        )
        return (
            f"<p>{len(self.images):,} images, {len(self.classes):,} classes; in %, 95% CI in brackets</p>"
            "<table><thead><tr><th>arm</th><th>top-1</th><th>mean per class</th><th>difference</th></tr>"
            "</thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def distinct_of(images: int, repeats: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the indices of so many images, of each group of repeats only the first, (n,)."""
    first = np.ones(images, bool)
    for group in repeats:
        first[list(group[1:])] = False
    return np.flatnonzero(first)


def role_of(name: str, baselines: Container[str]) -> Role:
    """Return the role of an arm by its name; `baselines` are the names of those compared with."""
    if name.split(" ")[0] == "descriptors":
        return "subject"
    if name in CONTROLS:
        return "control"
    return "baseline" if name in baselines else "other"


def check_file(path: Path) -> None:
    """Raise EvaluationError where `save` would refuse: it replaces an earlier evaluation, no other file."""
    if reason := obstacle(path, "a fieldmarks evaluation", _is_evaluation) or unwritable(path):
        raise EvaluationError(f"{path} {reason}")


def _is_evaluation(file: BinaryIO) -> bool:
    return has_ends(file, _BEGINNING, _ENDING)


def _columns(name: str, estimate: Estimate | Difference | None) -> dict[str, float | None]:
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }


def _cell(estimate: Estimate | Difference | None) -> str:
    if estimate is None:
        return ""
    value, low, high = (f"{100 * share:.1f}" for share in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"
