"""A run as one HTML page: no script, nothing from outside, every stranger's text escaped.

The page opens from disk, prints, reads on a phone, and its security policy lets nothing load but the
thumbnails inside it.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from fieldmarks import __version__
from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction, Score
from fieldmarks.errors import ReportError
from fieldmarks.wording import printable

MAX_PICTURES: Final = 500  # about 20 KB each
MAX_FAILURES: Final = 200
CLASSES_SHOWN: Final = 5  # of each picture
LABELS_SHOWN: Final = 12  # in the summary
MINUS: Final = "\u2212"
NARROW: Final = "\u202f"  # a narrow space that does not break
HERE: Final = Path(__file__).parent
POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
BEGINNING: Final = "<!doctype html><!-- a report of fieldmarks -->"


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
        css = (HERE / "page.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        body = _template().render(
            css=Markup(css),
            policy=f"{POLICY}; style-src 'sha256-{digest}'",
            version=__version__,
            about=_facts(self._about),
            classes=len(self._classes),
            total=self._labels.total(),
            labels=self._label_rows(),
            other_labels=max(0, len(self._labels) - LABELS_SHOWN),
            compared=self._compared,
            agreed=self._agreed,
            pictures=[_picture(one) for one in self._pictures],
            failures=self._failures,
            failed=self._failed,
            relative=any(
                one.explanation and one.explanation.predicted[0].z is not None for one in self._pictures
            ),
        )
        return f"{BEGINNING}\n{body}\n"

    def check(self, path: Path) -> None:
        """Raise ReportError where `write` would refuse: an earlier report is replaced, no other file is."""
        if path.exists() and not _is_report(path):
            raise ReportError(f"{path} is there and is no report: choose another name")
        if not path.absolute().parent.is_dir():
            raise ReportError(f"{path} cannot be written: its folder is not there")

    def write(self, path: Path) -> None:
        """Write the page. Raises ReportError, and as `check`."""
        self.check(path)
        try:
            beside = path.with_name(f".{path.name}.new")
            beside.write_text(self.html(), "utf-8")
            beside.replace(path)
        except OSError as error:
            raise ReportError(f"{path} cannot be written: {error.strerror or error}") from error

    def _label_rows(self) -> list[tuple[str | None, int, Bar]]:
        most = self._labels.most_common(LABELS_SHOWN)
        highest = most[0][1] if most else 1
        return [(label, count, Bar(0, 100 * count / highest)) for label, count in most]


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(BEGINNING)) == BEGINNING.encode()


def _facts(about: Mapping[str, str]) -> dict[str, str]:
    """Return where a classifier comes from, as people read it."""
    terms = {"model": "Model", "preset": "Preset", "store_sha256": "Store"}
    return {
        terms[key]: value[:12] if key == "store_sha256" else value
        for key, value in about.items()
        if key in terms
    }


def _picture(one: Prediction) -> dict[str, Any]:
    """Return what the template shows of a prediction."""
    thumbnail = base64.b64encode(one.thumbnail).decode() if one.thumbnail else None
    return {
        "name": Path(one.image).name or one.image,
        "path": one.image,
        "thumbnail": thumbnail and f"data:image/jpeg;base64,{thumbnail}",
        "label": one.label,
        "scores": [(score, Bar(0, 100 * score.probability)) for score in one.scores[:CLASSES_SHOWN]],
        "baseline": one.baseline,
        "agrees": one.baseline is not None and one.baseline.name == one.scores[0].name,
        "sides": _sides(one.scores, one.explanation) if one.explanation else [],
        "decided": one.explanation and one.explanation.decided,
    }


def _sides(scores: Sequence[Score], explanation: Explanation) -> list[tuple[str, list[MarkRow]]]:
    """Return the marks of the predicted class and of the runner-up, on one scale of bars."""
    marks = (*explanation.predicted, *explanation.runner_up)
    sides = zip(scores, (explanation.predicted, explanation.runner_up), strict=False)
    return [
        (score.name, [MarkRow(mark.descriptor, number(mark), bar(mark, marks)) for mark in side])
        for score, side in sides
    ]


def bar(mark: Mark, marks: Sequence[Mark]) -> Bar:
    """Return a mark's bar: from zero in the middle for z, else from a little under the lowest mark."""
    if mark.z is not None:
        reach = max(abs(one.z or 0.0) for one in marks) or 1.0
        length = 50 * abs(mark.z) / reach
        return Bar(50.0 if mark.z >= 0 else 50 - length, length)
    low, high = min(one.logit for one in marks), max(one.logit for one in marks)
    return Bar(0, 8 + 92 * (mark.logit - low) / (high - low) if high > low else 100)


def number(mark: Mark) -> str:
    """Return a mark's number as printed: signed deviations, or the raw score."""
    return (f"{mark.logit:.1f}" if mark.z is None else f"{mark.z:+.2f}").replace("-", MINUS)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = printable
    environment.filters["number"] = number
    environment.filters["percent"] = percent
    return environment.get_template("page.html.j2")


def percent(share: float) -> str:
    """Return a share as a percentage that claims no certainty it has not."""
    if share >= 0.9995:
        return f">{NARROW}99.9{NARROW}%"
    return f"<{NARROW}0.1{NARROW}%" if share < 0.0005 else f"{100 * share:.1f}{NARROW}%"
