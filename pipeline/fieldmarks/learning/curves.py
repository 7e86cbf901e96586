"""Learning curves: accuracy by the number of labelled images that were learned from, beside its controls.

For each draw the images of each class are put in a random order: the first are the shots, and fewer shots are
the first of more, while those beyond the most shots are what every figure of the draw is measured on. So no
image that was learned from enters a figure, and all figures of a draw are of the same images.

Learning curves as an object (`fieldmarks evaluate --shots … --json FILE`, `LearningCurves.save`):

    {"v": 1, "kind": "learning curves", "settings": {…}, "classes": [name…], "shots": [k…],
     "tested": images that each figure is measured on,
     "curves": [{"name", "role", "about", "accuracy": [[share of each number of shots…] of each draw…],
                 "mean": [share…], "margin": [half the width of the 95% interval…]}…],
     "notices": […], "failures": [{"image", "error"}…]}

A curve's role is "baseline" for zero-shot, "learned" for descriptors, "control" for texts that are none, and
"reference" for what images give without descriptors ("ceiling" in earlier files, which it need not be).
Intervals are Student's, of the mean over draws: they say
how much it matters which images were drawn, not what images of another data set would give.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args

import numpy as np

from fieldmarks import __version__
from fieldmarks.choices import Decode, Device, DType, Engine, Preset, checks_keywords
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Clip
from fieldmarks.classification.head import Head
from fieldmarks.classification.results import Failure, Progress
from fieldmarks.classification.scoring import Array, Indices
from fieldmarks.classification.sources import quiet_pillow
from fieldmarks.data.dataset import listed
from fieldmarks.errors import EvaluationError, StoreError, UsageError
from fieldmarks.evaluation.arms import DEFAULT_SEEDS, EvaluationConfig
from fieldmarks.evaluation.evaluate import dataset_spec
from fieldmarks.evaluation.predictions import Images, chunks
from fieldmarks.evaluation.results import MAX_BYTES
from fieldmarks.evaluation.summary import points, signed
from fieldmarks.learning.image_means import answers, blend_of
from fieldmarks.learning.learn import (
    check_source,
    equal_weights,
    fitted,
    open_classifier,
    read_images,
    uncalibrated,
)
from fieldmarks.learning.model import Floats
from fieldmarks.learning.shots import check_labels, fresh, orders, taken
from fieldmarks.learning.strength import Steps
from fieldmarks.paths import has_ends, obstacle, read_bytes, unwritable
from fieldmarks.store import Store, durable
from fieldmarks.text import counted

logger = logging.getLogger(__name__)

CONFIDENCE: Final = 0.95
FEW_DRAWS: Final = 5  # with fewer, Student's quantile is over 3
_PART: Final = 4096  # images that are scored at once
_BEGINNING: Final = b'{"v":1,"kind":"learning curves",'
_ENDING: Final = b"}\n"

Role = Literal["baseline", "learned", "control", "reference"]
ABOUT: Final[Mapping[str, tuple[Role, str]]] = {
    "zero-shot": ("baseline", "equal weights of the descriptors, as mean-similarity"),
    "learned": ("learned", "a weight for each of a class's own descriptors"),
    "shared": ("learned", "weights on the descriptors of all classes"),
    "names": ("control", "weights on the prompt of the class's name alone"),
    "random words": ("control", "weights on as many random texts as there are descriptors"),
    "random, shared": ("control", "weights on the random texts of all classes"),
    "image means": ("reference", "image means with text; not explained by descriptors"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A way of learning, with its accuracy (draws, shots) on images that were not learned from."""

    name: str
    role: Role
    about: str
    accuracy: Floats

    @property
    def mean(self) -> Floats:
        """The mean accuracy over draws, (shots,)."""
        mean: Floats = self.accuracy.mean(axis=0)
        return mean

    @property
    def margin(self) -> Floats:
        """Half the width of the mean's interval over draws, (shots,)."""
        return margin_of(self.accuracy)

    @property
    def low(self) -> Floats:
        """Lower ends of the intervals, (shots,); no share is below 0."""
        return np.maximum(self.mean - self.margin, 0.0)

    @property
    def high(self) -> Floats:
        """Upper ends of the intervals, (shots,); no share is above 1."""
        return np.minimum(self.mean + self.margin, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "name": self.name,
            "role": self.role,
            "about": self.about,
            "accuracy": self.accuracy.tolist(),
            "mean": self.mean.tolist(),
            "margin": self.margin.tolist(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Curve":
        """Return the curve of a plain object. Raises KeyError, TypeError, ValueError."""
        name = str(plain["name"])
        role: Role = "reference" if plain["role"] == "ceiling" else plain["role"]
        accuracy = np.array(plain["accuracy"], np.float64)
        if role not in get_args(Role) or accuracy.ndim != 2 or not ((accuracy >= 0) & (accuracy <= 1)).all():
            raise ValueError(f"the curve {name!r:.80} has an unknown role, or no shares")
        return cls(name, role, str(plain["about"]), accuracy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearningCurves:
    """Accuracies by the number of shots, as means over draws with intervals; see the module.

    curves = fm.learning_curves("photos", "frogs.jsonl", shots=[1, 4, 16])
    print({curve.name: curve.mean[-1] for curve in curves.curves})
    curves.save("curves.json")
    """

    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    shots: tuple[int, ...]
    tested: int  # images that each figure is measured on
    curves: tuple[Curve, ...]
    notices: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def draws(self) -> int:
        """How often images were drawn."""
        return len(self.curves[0].accuracy)

    def __repr__(self) -> str:
        names = ", ".join(curve.name for curve in self.curves)
        return f"<LearningCurves of {names} at {', '.join(map(str, self.shots))} shots, {self.draws} draws>"

    def lead(self, name: str, other: str) -> tuple[Floats, Floats] | None:
        """Return by how much a curve leads another, and half the width of the interval, (shots,) each.

        Draws are paired. None where one of the two is not there.
        """
        of = {curve.name: curve.accuracy for curve in self.curves}
        if name not in of or other not in of:
            return None
        lead = of[name] - of[other]
        return lead.mean(axis=0), margin_of(lead)

    @property
    def summary(self) -> tuple[str, ...]:
        """What the curves say at the most shots, in sentences that claim no more than the intervals allow."""
        shots = counted(self.shots[-1], "labelled image")
        of_all = "Weights on the descriptors of all classes"
        pairs = {
            ("learned", "zero-shot"): (
                f"With {shots} of each class, weights on its own descriptors",
                "zero-shot",
            ),
            ("shared", "zero-shot"): (of_all, "zero-shot"),
            ("learned", "random words"): (
                "Weights on a class's own descriptors",
                "weights on as many random texts",
            ),
            ("shared", "random, shared"): (of_all, "weights on the random texts of all classes"),
        }
        lines = [
            f"{words} {_led(*found, other)}."
            for pair, (words, other) in pairs.items()
            if (found := self.lead(*pair)) is not None
        ]
        if self.draws < FEW_DRAWS:
            lines.append(f"{self.draws} draws are few, and their intervals wide: more --draws narrow them.")
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object, as the module shows it."""
        return {
            "v": 1,
            "kind": "learning curves",
            "settings": dict(self.settings),
            "classes": list(self.classes),
            "shots": list(self.shots),
            "tested": self.tested,
            "curves": [curve.to_dict() for curve in self.curves],
            "notices": list(self.notices),
            "failures": [{"image": failure.image, "error": failure.error} for failure in self.failures],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "LearningCurves":
        """Return the learning curves of a plain object. Raises EvaluationError."""
        try:
            if (plain["v"], plain["kind"]) != (1, "learning curves"):
                raise ValueError(f"version {plain['v']!r:.20} of {plain['kind']!r:.40}")
            curves = tuple(map(Curve.from_dict, plain["curves"]))
            shots = tuple(map(int, plain["shots"]))
            shapes = {curve.accuracy.shape for curve in curves}
            if len(shapes) != 1 or min(shapes)[1:] != (len(shots),) or min(shapes)[0] < 2:
                raise ValueError("expected curves of two draws or more, with a share for each of the shots")
            return cls(
                settings=dict(plain["settings"]),
                classes=tuple(map(str, plain["classes"])),
                shots=shots,
                tested=int(plain["tested"]),
                curves=curves,
                notices=tuple(map(str, plain["notices"])),
                failures=tuple(Failure(str(row["image"]), str(row["error"])) for row in plain["failures"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise EvaluationError(f"these are not learning curves, or are damaged: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "LearningCurves":
        """Read learning curves that `save` or `fieldmarks evaluate --shots` wrote. Raises EvaluationError."""
        try:
            plain = json.loads(read_bytes(Path(path), MAX_BYTES, EvaluationError))
            if not isinstance(plain, dict):
                raise EvaluationError("expected one JSON object")
            return cls.from_dict(plain)
        except (ValueError, RecursionError, EvaluationError) as error:
            raise EvaluationError(f"{path}: {error}") from error

    def encoded(self) -> bytes:
        """Return the learning curves as one line of JSON."""
        import orjson

        return orjson.dumps(self.to_dict()) + b"\n"

    def save(self, path: str | Path) -> None:
        """Write them as JSON, in the place of earlier ones but of no other file. Raises EvaluationError."""
        check_file(Path(path))
        try:
            durable.replace(Path(path).resolve(), [self.encoded()])
        except StoreError as error:
            raise EvaluationError(str(error)) from error


def margin_of(figures: Floats) -> Floats:
    """Return half the width of Student's interval of the mean over draws: (draws, shots) -> (shots,)."""
    from scipy.stats import t  # type: ignore[import-untyped]

    draws = len(figures)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, draws - 1))
    margin: Floats = quantile * figures.std(axis=0, ddof=1) / np.sqrt(draws)
    return margin


def _led(lead: Floats, margin: Floats, other: str) -> str:
    """Return a lead at the most shots in words."""
    value, half = float(lead[-1]), float(margin[-1])
    ends = f"95% CI {signed(max(value - half, -1))} to {signed(min(value + half, 1))}"
    if value - half <= 0 <= value + half:
        return f"are not significantly different from {other} ({signed(value)} points, {ends})"
    return f"{'gain' if value > 0 else 'lose'} {points(abs(value))} points over {other} ({ends})"


def check_file(path: Path) -> None:
    """Raise EvaluationError where `LearningCurves.save` would refuse."""
    if reason := obstacle(path, "learning curves of fieldmarks", _is_curves) or unwritable(path):
        raise EvaluationError(f"{path} {reason}")


def _is_curves(file: BinaryIO) -> bool:
    return has_ends(file, _BEGINNING, _ENDING)


@checks_keywords
def learning_curves(
    dataset: str | Path | None = None,
    store: Store | str | Path | None = None,
    *,
    classifier: str | Path | None = None,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    draws: int = 10,
    clip: Clip | None = None,
    preset: Preset = "article",
    text: str | None = None,
    with_name: bool = False,
    concept: str | None = None,
    embeddings: str | Path | None = None,
    split: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    streaming: bool = False,
    aliases: str | Path | None = None,
    allow_missing: bool = False,
    device: Device = "auto",
    dtype: DType = "auto",
    engine: Engine = "auto",
    decode: Decode = "auto",
    batch: int | None = None,
    cache: bool = True,
    command: Sequence[str] | None = None,
    progress: Callable[[Progress | Steps], None] | None = None,
) -> LearningCurves:
    """Measure what learning from a few labelled images of each class would gain, beside controls.

        curves = fm.learning_curves("photos", "frogs.jsonl", shots=[1, 4, 16])
        print({curve.name: curve.mean[-1] for curve in curves.curves})

    - `dataset`, or `embeddings` with labels, and how they are read: as for `evaluate`. Every class needs one
      distinct image more than the most `shots`; the others are what accuracy is measured on.
    - `draws`: how often the shots are drawn anew, at least 2.
    - `preset`, `text`, `with_name`, `concept` word the descriptors as in `Classifier`.
    - A saved classifier's texts are learned from anew; it has no random words, and names only if it was saved
      with a baseline. Images that it was made from are left out.
    - `progress` is called after each image, then before the first draw and after each.

    Raises UsageError for an option that is wrong or has no effect, EvaluationError for classes with too few
    images; also as `learn`.
    """
    check_source(store, classifier, (preset != "article", text, with_name, concept), "a learning curve")
    numbers = tuple(sorted(set(shots)))
    if not numbers or numbers[0] < 1:
        raise UsageError("shots: expected one or several numbers of images, from 1 on")
    if draws < 2:
        raise UsageError(f"draws: expected at least 2, as intervals are over draws, found {draws}")
    config = EvaluationConfig(
        arms=("photo", "descriptors", "random-words"),
        presets=(preset,),
        seeds=min(draws, DEFAULT_SEEDS),
        concept=concept,
        text=text,
        with_name=with_name,
    )
    spec = dataset_spec(
        dataset,
        embeddings=embeddings,
        split=split,
        image_column=image_column,
        label_column=label_column,
        limit=limit,
        streaming=streaming,
        aliases=aliases,
        allow_missing=allow_missing,
    )
    model: dict[str, Any] = {
        "clip": clip, "device": device, "dtype": dtype, "engine": engine, "decode": decode, "batch": batch,
        "cache": cache,
    }  # fmt: skip
    with quiet_pillow():
        texts = {"preset": preset, "text": text, "with_name": with_name, "concept": concept}
        opened, candidate = open_classifier(store, classifier, model, texts, spec.embeddings)
        head = equal_weights(uncalibrated(opened.head))
        arms, left_out = candidate.arms(config)
        images = read_images(spec, opened, candidate, progress)
        rows = fresh(opened.head, images)
        drawn = list(divided(images, rows, opened.classes, numbers[-1], draws))
        controls = {
            arm.name: [Head(trial.texts, candidate.rows(trial), head.scale) for trial in arm.trials]
            for arm in arms
            if arm.name in ("photo", "random-words")
        }
    notices = [f"{notice}: that curve is left out" for notice in left_out]
    for notice in notices:
        logger.warning(notice)
    found: dict[str, list[list[float]]] = {}
    began = time.monotonic()
    if progress is not None:
        progress(Steps(0, draws, 0.0))
    for number, (order, rest) in enumerate(drawn):
        for name, accuracies in measured(head, controls, images, order, rest, numbers, number):
            found.setdefault(name, []).append(accuracies)
        if progress is not None:
            progress(Steps(number + 1, draws, time.monotonic() - began))
    return LearningCurves(
        settings={
            "fieldmarks": __version__,
            "command": None if command is None else list(command),
            **candidate.metadata,
            "data": str(spec.spec or spec.embeddings),
            "model": _model(opened),
            "wanted": {"draws": draws, **texts},
        },
        classes=tuple(opened.classes),
        shots=numbers,
        tested=len(drawn[0][1]),
        curves=tuple(Curve(name, *ABOUT[name], np.array(rows)) for name, rows in found.items()),
        notices=tuple(notices),
        failures=images.failures,
    )


def _model(classifier: Classifier) -> str | None:
    return classifier.head.metadata.get("model") or classifier.embedder.encoder.model


def divided(
    images: Images, rows: Indices, classes: Sequence[str], most: int, draws: int
) -> Iterator[tuple[list[Indices], Indices]]:
    """Yield for each draw the first `most` images of each class in random order, and all images beyond.

    `rows` are the images to use. Raises EvaluationError where a class has too few, at the first draw.
    """
    if len(classes) < 2:
        raise EvaluationError(f"there is one class, {listed(classes)}: learning needs at least two")
    check_labels(images, classes)
    own = [rows[images.labels[rows] == at] for at in range(len(classes))]
    if few := [name for name, part in zip(classes, own, strict=True) if len(part) <= most]:
        least = min(map(len, own))
        raise EvaluationError(
            f"{counted(len(few), 'class')} with fewer than {most + 1} distinct images: {listed(few)}: {most}"
            " to learn from and at least one to measure on are needed; "
            + (f"at most --shots {least - 1} is possible" if least > 1 else "add images, or remove the class")
        )
    for draw in range(draws):
        drawn = orders(own, draw)
        yield [order[:most] for order in drawn], np.sort(np.concatenate([order[most:] for order in drawn]))


def measured(
    head: Head,
    controls: Mapping[str, Sequence[Head]],
    images: Images,
    order: Sequence[Indices],
    rest: Indices,
    numbers: Sequence[int],
    draw: int,
) -> Iterator[tuple[str, list[float]]]:
    """Yield each curve's name and its accuracy at each number of shots, on the images `rest`.

    `order` are the images of each class to learn from, `controls` the texts of names and of random words.
    """
    labels = images.labels.astype(np.int64)
    shots = [taken(images, [part[:count] for part in order]) for count in numbers]
    vectors, true = images.vectors[rest], labels[rest]

    def accuracy(best: Callable[[Array], Indices]) -> float:
        parts = (best(vectors[part]) == true[part] for part in chunks(len(true), _PART))
        return float(np.concatenate(list(parts)).mean())

    def learned(of: Head, *, shared: bool = False) -> list[float]:
        heads = [fitted(of, few, seed=draw, shared=shared)[0] for few in shots]
        return [accuracy(_best_of(fit)) for fit in heads]

    yield "zero-shot", [accuracy(_best_of(head))] * len(numbers)
    yield "learned", learned(head)
    yield "shared", learned(head, shared=True)
    if names := controls.get("photo"):
        yield "names", learned(names[0])
    if random := controls.get("random-words"):
        yield "random words", learned(random[draw % len(random)])
        yield "random, shared", learned(random[draw % len(random)], shared=True)
    yield "image means", [accuracy(partial(answers, head, few, blend_of(head, few, draw))) for few in shots]


def _best_of(head: Head) -> Callable[[Array], Indices]:
    return lambda vectors: head.logits(vectors).argmax(axis=1)
