"""An evaluation's figures as the rows of its page's tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fieldmarks.evaluation.results import ArmResult, Effect, Evaluation
from fieldmarks.report import roles
from fieldmarks.report.cards import Bar, signed_bar
from fieldmarks.report.charts import ranked_gains

MAX_CLASSES: Final = 1_000  # rows of the table of classes
MAX_PAIRS: Final = 15
MAX_EFFECTS: Final = 12  # of the best and of the worst
MAX_VALUE: Final = 2_000  # characters of a setting


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class with its pictures, the shares answered rightly, and the gain; None without pictures."""

    name: str
    pictures: int
    before: float | None
    after: float | None
    gain: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Pictures of one class taken for another by the arm in question, and by the one compared with."""

    label: str
    predicted: str
    pictures: int  # of the class
    count: float
    before: float | None


@dataclass(frozen=True, slots=True)
class EffectRow:
    """A descriptor with the pictures that it wins or loses, and a bar of it."""

    effect: Effect
    won: float
    bar: Bar


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Return the classes, those that gain most first, then those without pictures; at most MAX_CLASSES."""
    arm, base = roles.subject(evaluation), roles.reference(evaluation)
    ranked = [number for _, number in ranked_gains(evaluation, arm)]
    rest = sorted(set(range(len(evaluation.classes))) - set(ranked))
    counts = evaluation.counts
    return [
        ClassRow(
            evaluation.classes[number],
            int(counts[number]),
            base.recall[number] if base else None,
            arm.recall[number],
            arm.gain[number] if arm.gain else None,
        )
        for number in [*ranked, *rest][:MAX_CLASSES]
    ]


def tally(arm: ArmResult) -> tuple[int, int, int]:
    """Return how many classes gain, stay and lose."""
    gains = [gain for gain in arm.gain or () if gain is not None]
    won, lost = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return won, len(gains) - won - lost, lost


def pairs(evaluation: Evaluation) -> list[Pair]:
    """Return the pairs of classes that the arm in question confuses most often."""
    arm, base = roles.subject(evaluation), roles.reference(evaluation)
    counts = evaluation.counts
    return [
        Pair(
            evaluation.classes[one.label],
            evaluation.classes[one.predicted],
            int(counts[one.label]),
            one.count,
            _taken(evaluation, base, one.label, one.predicted) if base else None,
        )
        for one in arm.confused[:MAX_PAIRS]
    ]


def _taken(evaluation: Evaluation, arm: ArmResult, label: int, predicted: int) -> float:
    """Return how many pictures of a class an arm takes for another, the mean over its runs."""
    of_class = evaluation.labels == label
    return float(np.mean([np.sum(of_class & (run.predicted == predicted)) for run in arm.runs]))


def effects(evaluation: Evaluation) -> list[tuple[str, list[EffectRow]]]:
    """Return the descriptors that help most and those that hurt most, each list under its heading."""
    ranked = sorted(evaluation.effects, key=lambda one: (one.effect, one.margin), reverse=True)
    helping = [one for one in ranked if (one.effect, one.margin) > (0, 0)][:MAX_EFFECTS]
    hurting = [one for one in ranked[::-1] if (one.effect, one.margin) < (0, 0)][:MAX_EFFECTS]
    reach = max((abs(one.effect) for one in (*helping, *hurting)), default=0.0)
    pictures = len(evaluation.labels)
    return [
        (
            title,
            [EffectRow(one, one.effect * pictures, signed_bar(one.effect, reach)) for one in listed],
        )
        for title, listed in (("Help most", helping), ("Hurt most", hurting))
    ]


def settings(given: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return settings in groups: plain ones first under "Run", nested ones under their key by their paths."""
    groups: dict[str, list[tuple[str, str]]] = {"Run": []}
    for key, value in given.items():
        if isinstance(value, Mapping):
            groups[_title(str(key))] = list(_leaves(value))
        elif key != "command":
            groups["Run"].append((_words(str(key)), _text(value)))
    return [(title, rows) for title, rows in groups.items() if rows]


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, one in value.items():
        name = f"{path}{_words(str(key))}"
        if isinstance(one, Mapping) and one:
            yield from _leaves(one, f"{name} · ")
        else:
            yield name, _text(one)


def _text(value: Any) -> str:
    """Return a setting in one line; what is too long for a table ends in dots and is whole in the JSON."""
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ", ".join(map(_text, value[:MAX_VALUE]))
    text = str(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _title(key: str) -> str:
    words = _words(key)
    return words[:1].upper() + words[1:]
