"""Figures of an arm: shares with their intervals, what it gains over another, and what it confuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.evaluation import intervals
from fieldmarks.evaluation.intervals import Floats, Hits
from fieldmarks.evaluation.results import ArmResult, Confusion, Difference, Indices, Run

TOP: Final = 5
CONFUSED_SHOWN: Final = 50  # pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An arm with what it answered; the fields are those of ArmResult."""

    name: str
    text: str
    aggregate: str
    texts: tuple[str, ...]
    runs: tuple[Run, ...]

    def hits(self, top: int = 1) -> Hits:
        """Return which pictures each run has among its `top` classes, (R, N)."""
        return np.stack([run.rank < top for run in self.runs])


def figures(arm: Answered, labels: Indices, classes: int, other: Answered | None = None) -> ArmResult:
    """Return an arm with its figures; `other` is the arm that it is compared with, if any."""
    recall = recalls(arm, labels, classes)
    gain = None if other is None else recall - recalls(other, labels, classes)
    hits = arm.hits()
    return ArmResult(
        name=arm.name,
        text=arm.text,
        aggregate=arm.aggregate,
        texts=arm.texts,
        runs=arm.runs,
        top1=intervals.share(hits),
        top5=intervals.share(arm.hits(TOP)) if classes > TOP else None,
        mean_per_class=intervals.mean_per_class(hits, labels),
        difference=None if other is None else compare(arm, other),
        recall=_or_none(recall),
        gain=None if gain is None else _or_none(gain),
        confused=confusions(arm.runs, labels, classes),
    )


def compare(arm: Answered, other: Answered) -> Difference:
    """Return how much an arm's top-1 leads another's on the same pictures."""
    lead = intervals.difference(arm.hits(), other.hits())
    p = intervals.mcnemar(arm.hits(), other.hits())
    return Difference(other.name, lead.value, lead.low, lead.high, p)


def recalls(arm: Answered, labels: Indices, classes: int) -> Floats:
    """Return the share of each class's pictures answered rightly, (C,), mean over runs; NaN without any."""
    from sklearn.metrics import recall_score  # type: ignore[import-untyped]

    each = [
        recall_score(labels, run.predicted, labels=range(classes), average=None, zero_division=np.nan)
        for run in arm.runs
    ]
    mean: Floats = np.mean(each, axis=0)
    return mean


def confusions(runs: Sequence[Run], labels: Indices, classes: int) -> tuple[Confusion, ...]:
    """Return the pairs of classes most often confused, the first CONFUSED_SHOWN of them."""
    pairs = np.concatenate([(labels * np.int64(classes) + run.predicted)[run.rank > 0] for run in runs])
    pair, count = np.unique(pairs, return_counts=True)
    most = np.argsort(-count, kind="stable")[:CONFUSED_SHOWN]
    return tuple(
        Confusion(int(one) // classes, int(one) % classes, int(times) / len(runs))
        for one, times in zip(pair[most], count[most], strict=True)
    )


def _or_none(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)
