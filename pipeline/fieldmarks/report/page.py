"""A run of classification as one HTML page, and what all pages share: numbers, policy, templates, cards.

A page opens from disk, prints, reads on a phone, runs no script and makes no network request: its policy lets
through the images inside it and the one style sheet whose digest it names. Numbers have a true minus sign, no
certainty that is not there, and digits in step.
"""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fieldmarks import __version__
from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction, Score
from fieldmarks.errors import ReportError, StoreError
from fieldmarks.paths import has_ends, obstacle, unwritable
from fieldmarks.store import durable
from fieldmarks.text import printable

MINUS: Final = "\u2212"
NONE: Final = "\u2013"  # where there is no figure


def percent(share: float) -> str:
    """Return a share as a percentage, without rounding to 0% or 100%."""
    if share >= 0.9995:
        return ">99.9%"
    return "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"


def share(value: float | None) -> str:
    """Return a measured share in percent, without the sign: "63.1"."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:.1f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points: "+1.2", "−0.4", "0.0"."""
    return NONE if value is None else signed(100 * value, 1)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; what rounds to zero has none."""
    if math.isnan(value):
        return NONE
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def p_value(value: float | None) -> str:
    """Return a p to three digits, or that it is smaller."""
    if value is None or math.isnan(value):
        return NONE
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def amount(number: float) -> str:
    """Return a number of things: thousands apart, a tenth where it is a mean that is not whole."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


HERE: Final = Path(__file__).parent
POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
BEGINNING: Final = "<!doctype html><!-- a report of fieldmarks -->"
ENDING: Final = "</html>\n"


def render(template: str, css: tuple[str, ...], context: dict[str, Any]) -> str:
    """Return a page: a template of this folder with its style sheets, in order, and what it shows."""
    style = "".join((HERE / name).read_text("utf-8") for name in css)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    body = _environment().get_template(template)
    page = body.render(
        css=Markup(style), policy=f"{POLICY}; style-src 'sha256-{digest}'", version=__version__, **context
    )
    return f"{BEGINNING}\n{page}\n"


def data_uri(kind: str, content: bytes) -> str:
    """Return content as an address that needs no file; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def check(path: Path) -> None:
    """Raise ReportError where `write` would refuse: an earlier report is replaced, no other file is."""
    check_place(path, "a fieldmarks report", lambda file: has_ends(file, BEGINNING.encode(), ENDING.encode()))
    if path.name == "-":
        raise ReportError(f"{path} cannot be written: a page needs a file name: pass one that ends in .html")
    check_folder(path, path.resolve().parent)


def check_place(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> None:
    """Raise ReportError where something lies at a path that must not be replaced; see `paths.obstacle`."""
    if reason := obstacle(path, what, is_ours):
        raise ReportError(f"{path} {reason}")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ReportError, which names `path`, where no file can be made in a folder."""
    if reason := unwritable(path, folder):
        raise ReportError(f"{path} {reason}")


def write(path: Path, page: str) -> None:
    """Write a page. Raises ReportError, and as `check`."""
    check(path)
    replace(path, page.encode())


def replace(path: Path, content: bytes) -> None:
    """Put a whole file in the place of an earlier one, or leave that as it was. Raises ReportError.

    Of a symlink the file is replaced that it leads to, not the link.
    """
    try:
        durable.replace(path.resolve(), [content])
    except StoreError as error:
        raise ReportError(str(error)) from error


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shapes = (percent, points, share, signed, p_value, amount)
    environment.filters |= {shape.__name__: shape for shape in shapes} | {"shown": printable}
    return environment


CLASSES_SHOWN: Final = 5  # of each image


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar on a line of 100 units."""

    start: float
    length: float


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A mark with its number as printed and its bar."""

    descriptor: str
    number: str
    bar: Bar


def card(prediction: Prediction) -> dict[str, Any]:
    """Return what the template shows of a prediction."""
    return {
        "name": Path(prediction.image).name or prediction.image,
        "path": prediction.image,
        "thumbnail": data_uri("image/jpeg", prediction.thumbnail) if prediction.thumbnail else None,
        "label": prediction.label,
        "scores": [(score, Bar(0, 100 * score.probability)) for score in prediction.scores[:CLASSES_SHOWN]],
        "baseline": prediction.baseline,
        "agrees": prediction.baseline is not None and prediction.baseline.name == prediction.scores[0].name,
        "sides": _sides(prediction.scores, prediction.explanation) if prediction.explanation else [],
        "decided": _decided(prediction.explanation) if prediction.explanation else [],
    }


def relative(predictions: Sequence[Prediction]) -> bool:
    """Whether the marks are z-scores over the run's images."""
    explained = (entry.explanation.predicted for entry in predictions if entry.explanation)
    return any(marks and marks[0].z is not None for marks in explained)


def _sides(scores: Sequence[Score], explanation: Explanation) -> list[tuple[str, list[MarkRow]]]:
    """Return the marks of the predicted class and of the runner-up, on one scale of bars."""
    marks = (*explanation.predicted, *explanation.runner_up)
    sides = zip(scores, (explanation.predicted, explanation.runner_up), strict=False)
    return [
        (score.name, [MarkRow(mark.descriptor, number(mark), bar(mark, marks)) for mark in side])
        for score, side in sides
    ]


def _decided(explanation: Explanation) -> list[tuple[str, str]]:
    return [(mark.descriptor, number(mark)) for mark in explanation.decided or ()]


def bar(mark: Mark, marks: Sequence[Mark]) -> Bar:
    """Return a mark's bar: from zero in the middle for z, else from a little under the lowest mark."""
    if mark.z is not None:
        return signed_bar(mark.z, max(abs(other.z or 0.0) for other in marks))
    low, high = min(other.strength for other in marks), max(other.strength for other in marks)
    return Bar(0, 8 + 92 * (mark.strength - low) / (high - low) if high > low else 100)


def signed_bar(value: float, reach: float) -> Bar:
    """Return a bar from the middle of the line, whose halves are as long as `reach`."""
    length = 50 * abs(value) / (reach or 1.0)
    return Bar(50.0 if value >= 0 else 50 - length, length)


def number(mark: Mark) -> str:
    """Return a mark's number as printed: signed deviations, or the raw score.

    With a learned weight it is the mark's part of the class's logit, and the weight stands behind it.
    """
    if mark.z is not None:
        return f"{mark.z:+.2f}".replace("-", MINUS)
    value = mark.logit if mark.contribution is None else mark.contribution
    weight = "" if mark.weight is None else f" ×{mark.weight:.1f}"
    return f"{value:.1f}{weight}".replace("-", MINUS)


MAX_IMAGES: Final = 500  # about 20 KB each
MAX_FAILURES: Final = 200
LABELS_SHOWN: Final = 12  # in the summary


class Page:
    """Gathers a run's results, a bounded part of them as cards, and writes them as a page."""

    def __init__(self, classes: Sequence[str], about: Mapping[str, str]) -> None:
        self._classes = classes
        self._about = about
        self._predictions: list[Prediction] = []
        self._failures: list[Failure] = []
        self._labels: Counter[str | None] = Counter()
        self._failed = 0
        self._compared = 0
        self._agreed = 0

    def add(self, result: Prediction | Failure) -> None:
        """Take one result in."""
        if isinstance(result, Failure):
            self._failed += 1
            self._failures += [result] if len(self._failures) < MAX_FAILURES else []
            return
        self._labels[result.label] += 1
        if result.baseline:
            self._compared += 1
            self._agreed += result.baseline.name == result.scores[0].name
        if len(self._predictions) < MAX_IMAGES:
            self._predictions.append(result)

    def html(self) -> str:
        """Return the page."""
        context = {
            "about": _facts(self._about),
            "classes": len(self._classes),
            "total": self._labels.total(),
            "labels": self._label_rows(),
            "other_labels": max(0, len(self._labels) - LABELS_SHOWN),
            "compared": self._compared,
            "agreed": self._agreed,
            "cards": [card(prediction) for prediction in self._predictions],
            "failures": self._failures,
            "failed": self._failed,
            "relative": relative(self._predictions),
        }
        return render("page.html.j2", ("page.css",), context)

    def write(self, path: Path) -> None:
        """Write the page. Raises ReportError, and as `check`."""
        write(path, self.html())

    def _label_rows(self) -> list[tuple[str | None, int, Bar]]:
        most = self._labels.most_common(LABELS_SHOWN)
        highest = most[0][1] if most else 1
        return [(label, count, Bar(0, 100 * count / highest)) for label, count in most]


def _facts(about: Mapping[str, str]) -> dict[str, str]:
    """Return where a classifier comes from, as people read it."""
    terms = {"model": "Model", "preset": "Preset", "store_sha256": "Store"}
    return {
        terms[key]: value[:12] if key == "store_sha256" else value
        for key, value in about.items()
        if key in terms
    }
