"""Numbers as the pages print them: a true minus sign, no certainty that is not there, digits in step.

Pages as files: the security policy, the templates, and writing without touching what is not ours.

A page opens from disk, prints, reads on a phone, runs no script and loads nothing: its policy lets through
the pictures inside it and the one style sheet whose digest it names.

Pictures as cards: what the template shows of a prediction, its marks with bars on one scale.

A run of classification as one HTML page, with a bounded part of its pictures.
"""

import base64
import hashlib
import math
import os
import tempfile
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
from fieldmarks.paths import obstacle
from fieldmarks.store import durable
from fieldmarks.text import printable

MINUS: Final = "\u2212"
NARROW: Final = "\u202f"  # a narrow space that does not break
NONE: Final = "\u2013"  # where there is no figure


def percent(share: float) -> str:
    """Return a share as a percentage that claims no certainty it has not."""
    if share >= 0.9995:
        return f">{NARROW}99.9{NARROW}%"
    return f"<{NARROW}0.1{NARROW}%" if share < 0.0005 else f"{100 * share:.1f}{NARROW}%"


def share(value: float | None) -> str:
    """Return a measured share in percent, without the sign: "63.1"."""
    return NONE if value is None or math.isnan(value) else f"{100 * value:.1f}".replace("-", MINUS)


def points(value: float | None) -> str:
    """Return a difference of shares in percentage points: "+1.2", "−0.4", "0.0"."""
    return NONE if value is None else signed(100 * value, 1)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; what rounds to nought has none."""
    if math.isnan(value):
        return NONE
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def p_value(value: float | None) -> str:
    """Return a p to three digits, or that it is smaller."""
    if value is None or math.isnan(value):
        return NONE
    return f"<{NARROW}0.001" if value < 0.0005 else f"{value:.3f}"


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
        raise ReportError(f"{path} cannot be written: a page needs a file, name one that ends in .html")
    check_folder(path, path.resolve().parent)


def check_place(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> None:
    """Raise ReportError where something lies at a path that must not be replaced; see `paths.obstacle`."""
    if reason := obstacle(path, what, is_ours):
        raise ReportError(f"{path} {reason}")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ReportError, which names `path`, where no file can be made in a folder."""
    if not folder.is_dir():
        raise ReportError(f"{path} cannot be written: its folder is not there")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror or error}") from error


def write(path: Path, page: str) -> None:
    """Write a page. Raises ReportError, and as `check`."""
    check(path)
    replace(path, page.encode())


def has_ends(file: BinaryIO, beginning: bytes, ending: bytes) -> bool:
    """Whether a file begins and ends so, as one that fieldmarks wrote whole does."""
    if file.read(len(beginning)) != beginning:
        return False
    file.seek(max(0, file.seek(0, os.SEEK_END) - len(ending)))
    return file.read() == ending


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


CLASSES_SHOWN: Final = 5  # of each picture


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


def card(one: Prediction) -> dict[str, Any]:
    """Return what the template shows of a prediction."""
    return {
        "name": Path(one.image).name or one.image,
        "path": one.image,
        "thumbnail": data_uri("image/jpeg", one.thumbnail) if one.thumbnail else None,
        "label": one.label,
        "scores": [(score, Bar(0, 100 * score.probability)) for score in one.scores[:CLASSES_SHOWN]],
        "baseline": one.baseline,
        "agrees": one.baseline is not None and one.baseline.name == one.scores[0].name,
        "sides": _sides(one.scores, one.explanation) if one.explanation else [],
        "decided": _decided(one.explanation) if one.explanation else [],
    }


def relative(predictions: Sequence[Prediction]) -> bool:
    """Tell whether the marks are given in deviations from the run's other pictures."""
    explained = (one.explanation.predicted for one in predictions if one.explanation)
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
        return signed_bar(mark.z, max(abs(one.z or 0.0) for one in marks))
    low, high = min(one.logit for one in marks), max(one.logit for one in marks)
    return Bar(0, 8 + 92 * (mark.logit - low) / (high - low) if high > low else 100)


def signed_bar(value: float, reach: float) -> Bar:
    """Return a bar from the middle of the line, whose halves are as long as `reach`."""
    length = 50 * abs(value) / (reach or 1.0)
    return Bar(50.0 if value >= 0 else 50 - length, length)


def number(mark: Mark) -> str:
    """Return a mark's number as printed: signed deviations, or the raw score."""
    return (f"{mark.logit:.1f}" if mark.z is None else f"{mark.z:+.2f}").replace("-", MINUS)


MAX_PICTURES: Final = 500  # about 20 KB each
MAX_FAILURES: Final = 200
LABELS_SHOWN: Final = 12  # in the summary


class Page:
    """Gathers a run's results, a bounded part of them with pictures, and writes them as a page."""

    def __init__(self, classes: Sequence[str], about: Mapping[str, str]) -> None:
        self._classes = classes
        self._about = about
        self._pictures: list[Prediction] = []
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
        if len(self._pictures) < MAX_PICTURES:
            self._pictures.append(result)

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
            "pictures": [card(one) for one in self._pictures],
            "failures": self._failures,
            "failed": self._failed,
            "relative": relative(self._pictures),
        }
        return render("page.html.j2", ("page.css",), context)

    def check(self, path: Path) -> None:
        """Raise ReportError where `write` would refuse: an earlier report is replaced, no other file is."""
        check(path)

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
