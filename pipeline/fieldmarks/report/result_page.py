"""Classification results as one HTML page: an overview of the images by label, then each with its marks.

The most doubtful images come first. A page of MAX_IMAGES stays below 15 MB: all of them are in the overview
as small squares, the MAX_CARDS most doubtful have a card with marks, and any further images are only counted.
The labels' figures cover all images.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.results import NONE_OF_THESE, UNSURE, Failure, Prediction
from fieldmarks.paths import last_name
from fieldmarks.report import document
from fieldmarks.report.cards import Bar, agrees, card, relative, small_copy, weighted
from fieldmarks.report.document import Imprint, fragment
from fieldmarks.text import counted

Watch = Callable[[Sequence[Prediction]], Iterable[Prediction]]

MAX_IMAGES: Final = 3_000  # about 2.5 KB each
MAX_CARDS: Final = 500  # about 12 KB each
MAX_FAILURES: Final = 200
LABELS_SHOWN: Final = 12  # in the summary; the others can be expanded
THUMBS_SHOWN: Final = 40  # per label; the others can be expanded
THUMB: Final = 96  # pixels of a square in the overview
CARD: Final = 320  # pixels of the longer side on a card
MANY: Final = 200  # images; with more, those on cards are smaller
SMALL_CARD: Final = 240


@dataclass(frozen=True, slots=True)
class Thumb:
    """An image in the overview, and the number of its card if it has one."""

    name: str
    image: str | None  # its data URI
    probability: float | None  # of its label, if it has one
    number: int | None
    agrees: bool | None  # with what the class names alone predict; None without a baseline


@dataclass(frozen=True, slots=True)
class Group:
    """The images of a label, the most doubtful first; `images` also counts those that are not shown."""

    number: int
    label: str
    abstained: bool  # whether the label is not a class, but says why there is none
    images: int
    bar: Bar
    thumbs: Sequence[Thumb]


class ResultPage:
    """Collects a run's results, keeping a bounded number to show, and writes them as a page."""

    def __init__(
        self,
        classes: Sequence[str],
        facts: Mapping[str, str],
        imprint: Imprint | None = None,
        *,
        is_calibrated: bool = False,
    ) -> None:
        self._classes = classes
        self._is_calibrated = is_calibrated
        self._facts = facts
        self._imprint = imprint
        self._predictions: list[Prediction] = []
        self._failures: list[Failure] = []
        self._labels: Counter[tuple[str, bool]] = Counter()  # with whether it stands for no label
        self._failed = 0
        self._compared = 0
        self._agreed = 0

    def add(self, result: Prediction | Failure) -> None:
        """Add one result."""
        if isinstance(result, Failure):
            self._failed += 1
            self._failures += [result] if len(self._failures) < MAX_FAILURES else []
            return
        self._labels[_label(result)] += 1
        if result.baseline:
            self._compared += 1
            self._agreed += agrees(result)
        if len(self._predictions) < MAX_IMAGES:
            self._predictions.append(result)

    @property
    def shown(self) -> int:
        """The number of images on the page."""
        return len(self._predictions)

    def html(self, watch: Watch = iter) -> str:
        """Return the page; `watch` wraps the iteration over its images, like a progress bar."""
        ranked = sorted(self._predictions, key=certainty)
        total = self._labels.total()
        groups, cards = self._images(ranked, watch)
        body = fragment(
            "results.html.j2",
            total=total,
            is_calibrated=self._is_calibrated,
            groups=groups,
            labels={(group.label, group.abstained): group.number for group in groups},
            labels_shown=LABELS_SHOWN,
            thumbs_shown=THUMBS_SHOWN,
            shown=len(ranked),
            compared=self._compared,
            agreed=self._agreed,
            cards=cards,
            failures=self._failures,
            failed=self._failed,
            unsure=(UNSURE, True) in self._labels,
            catch_all=(NONE_OF_THESE, True) in self._labels,
            relative=relative(ranked),
            weighted=weighted(ranked),
        )
        extent = f"{counted(total, 'image')}, {counted(len(self._classes), 'class')}"
        return document.document(
            f"{extent}, and the marks that decided",
            body,
            self._facts,
            imprint=self._imprint,
            styles=("card.css", "results.css"),
            script="results.js",
        )

    def write(self, path: Path, watch: Watch = iter) -> None:
        """Write the page; `watch` is as for `html`. Raises ReportError, and as `document.check` does."""
        document.write(path, self.html(watch))

    def _images(self, ranked: Sequence[Prediction], watch: Watch) -> tuple[list[Group], list[dict[str, Any]]]:
        """Return the labels with their images, the most frequent label first, and the cards."""
        side = SMALL_CARD if len(ranked) > MANY else CARD
        thumbs: dict[tuple[str, bool], list[Thumb]] = {}
        cards = []
        for place, prediction in enumerate(watch(ranked)):
            if place < MAX_CARDS:
                cards.append(card(prediction, small_copy(prediction.thumbnail, side)))
            thumbs.setdefault(_label(prediction), []).append(
                Thumb(
                    Path(prediction.image).name or prediction.image,
                    small_copy(prediction.thumbnail, THUMB, square=True),
                    None if prediction.is_doubted else prediction.best.probability,
                    place + 1 if place < MAX_CARDS else None,
                    agrees(prediction) if prediction.baseline else None,
                )
            )
        most = max(self._labels.values(), default=1)
        groups = [
            Group(number + 1, *label, count, Bar(0, 100 * count / most), thumbs.get(label, []))
            for number, (label, count) in enumerate(self._labels.most_common())
        ]
        return groups, cards


def _label(prediction: Prediction) -> tuple[str, bool]:
    """Return the label as shown, and whether it stands for no label."""
    return prediction.shown_label, prediction.label is None


def certainty(prediction: Prediction) -> tuple[bool, float]:
    """Return a sort key that puts doubtful predictions first: those without a label, then by their lead."""
    second = prediction.runner_up
    return prediction.label is not None, prediction.best.probability - (second.probability if second else 0.0)


def provenance(metadata: Mapping[str, str], store: str | None = None) -> dict[str, str]:
    """Return a classifier's provenance as facts for a page: the store and its digest, model and wording.

    Pages are made to be shared, so they give only the name of a model's folder.
    """
    digest, store = metadata.get("store_sha256", "")[:12], metadata.get("store", store)
    facts = {"Store": f"{store} ({digest})" if store and digest else store or digest}
    terms = {"model": "Model", "preset": "Preset", "text": "Text", "concept": "Concept"}
    facts |= {term: metadata[key] for key, term in terms.items() if metadata.get(key)}
    return facts | ({"Model": last_name(facts["Model"])} if "Model" in facts else {})
