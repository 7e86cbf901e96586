"""A run of classification as one HTML page, with a bounded part of its pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.report import document
from fieldmarks.report.cards import Bar, card, relative

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
        return document.render("page.html.j2", ("page.css",), context)

    def check(self, path: Path) -> None:
        """Raise ReportError where `write` would refuse: an earlier report is replaced, no other file is."""
        document.check(path)

    def write(self, path: Path) -> None:
        """Write the page. Raises ReportError, and as `check`."""
        document.write(path, self.html())

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
