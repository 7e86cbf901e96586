"""An evaluation as one HTML page: the verdict, figures with intervals, charts, examples, settings."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fieldmarks.evaluation.ablation import benefit
from fieldmarks.evaluation.comparison import facts_of
from fieldmarks.evaluation.estimates import BackOff, Confidence, Estimate
from fieldmarks.evaluation.metrics import broader
from fieldmarks.evaluation.results import ArmResult, DescriptorEffect, Evaluation, Exemplar
from fieldmarks.evaluation.summary import verdict
from fieldmarks.paths import last_name
from fieldmarks.report import document
from fieldmarks.report.cards import Bar, bar_from_zero, card, relative, weighted
from fieldmarks.report.chart_style import Chart, needed
from fieldmarks.report.charts import charts, ranked_gains
from fieldmarks.report.document import Imprint, data_uri, fragment
from fieldmarks.report.numbers import share
from fieldmarks.text import counted

MAX_CLASSES: Final = 1_000  # rows of the table of classes
MAX_PAIRS: Final = 15
MAX_EFFECTS: Final = 12  # of the best and of the worst
MAX_VALUE: Final = 2_000  # characters of a setting


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class: its images, recall with the baseline and with the arm, and gain; None if unknown."""

    name: str
    images: int
    before: float | None
    after: float | None
    gain: float | None


@dataclass(frozen=True, slots=True)
class Pair:
    """How many images of one class the evaluated arm, and the baseline (`before`), take for another."""

    label: str
    predicted: str
    images: int  # of the class
    count: float
    before: float | None


@dataclass(frozen=True, slots=True)
class EffectRow:
    """A descriptor with the number of images that it wins or loses, and its bar."""

    effect: DescriptorEffect
    won: float
    bar: Bar


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Return at most MAX_CLASSES classes, those that gain most first, those without a gain last."""
    arm, base = evaluation.arm, evaluation.baseline
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
    """Return the pairs of classes that the evaluated arm confuses most often."""
    arm, base = evaluation.arm, evaluation.baseline
    counts = evaluation.counts
    return [
        Pair(
            evaluation.classes[pair.label],
            evaluation.classes[pair.predicted],
            int(counts[pair.label]),
            pair.count,
            _taken(evaluation, base, pair.label, pair.predicted) if base else None,
        )
        for pair in arm.confused[:MAX_PAIRS]
    ]


def _taken(evaluation: Evaluation, arm: ArmResult, label: int, predicted: int) -> float:
    """Return how many images of a class an arm takes for another, averaged over its runs."""
    of_class = evaluation.labels == label
    return float(np.mean([np.sum(of_class & (run.predicted == predicted)) for run in arm.runs]))


def effects(evaluation: Evaluation) -> list[tuple[str, list[EffectRow]]]:
    """Return the descriptors that help most and those that hurt most, each list under its heading."""
    ranked = sorted(evaluation.effects, key=benefit, reverse=True)
    helping = [effect for effect in ranked if benefit(effect) > (0, 0)][:MAX_EFFECTS]
    hurting = [effect for effect in ranked[::-1] if benefit(effect) < (0, 0)][:MAX_EFFECTS]
    reach = max((abs(effect.effect) for effect in (*helping, *hurting)), default=0.0)
    images = len(evaluation.labels)
    return [
        (
            title,
            [EffectRow(row, row.effect * images, bar_from_zero(row.effect, -reach, reach)) for row in listed],
        )
        for title, listed in (("Help most", helping), ("Hurt most", hurting))
    ]


def confident(confidence: Confidence) -> list[tuple[str, Estimate, str]]:
    """Return the figures of a classifier's confidence, each with its name and a note."""
    best = f"best possible {share(confidence.best_aurc)}"
    rows = [
        ("Calibration error", confidence.error, f"{share(confidence.uncorrected)} with chance"),
        ("Area under risk and coverage", confidence.aurc, best),
    ]
    if sets := confidence.sets:
        size = f"{sets.size:.2f} labels in a set"
        rows.append(("Sets that hold the true label", sets.coverage, _asked("at least", sets.asked, size)))
    if rejections := confidence.rejections:
        asked = _asked("at most", rejections.asked, "")
        rows.append(("True class under its threshold", rejections.own, asked))
        rows.append(("Answered with “none of these”", rejections.all, ""))
        if rejections.answered:
            rows.append(("Accuracy of the other answers", rejections.answered, ""))
    if unknown := confidence.unknown:
        images = counted(unknown.images, "unknown image")
        rows.append(("AUROC by score", unknown.by_score, images))
        rows.append(("AUROC by probability", unknown.by_probability, images))
        if unknown.rejected:
            rows.append(("Unknown images answered with “none of these”", unknown.rejected, ""))
    return rows


def backing_off(figures: BackOff) -> list[tuple[str, Estimate]]:
    """Return the figures of answers that may be broader classes, each with its name."""
    rows = [
        ("Answered with a broader class", figures.broader),
        ("Of these, correct", figures.right_broader),
        ("Accuracy of the other answers", figures.right_narrow),
        ("Correct at either level", figures.right),
    ]
    return [(name, figure) for name, figure in rows if figure is not None]


def _asked(bound: str, asked: float | None, more: str) -> str:
    wanted = "" if asked is None else f"{bound} {100 * asked:.3g} asked"
    return "; ".join(part for part in (wanted, more) if part)


def settings(plain: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return settings in groups: plain ones first under "Run", nested ones under their key by their paths."""
    groups: dict[str, list[tuple[str, str]]] = {"Run": []}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            groups[_title(str(key))] = list(_leaves(value))
        elif key != "command":
            is_model = key == "model" and isinstance(value, str)
            groups["Run"].append((_words(str(key)), _text(last_name(value) if is_model else value)))
    return [(title, rows) for title, rows in groups.items() if rows]


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        name = f"{path}{_words(str(key))}"
        if isinstance(item, Mapping) and item:
            yield from _leaves(item, f"{name} · ")
        else:
            yield name, _text(item)


def _text(value: Any) -> str:
    """Return a setting on one line, cut off if it is too long for a table; the JSON has all of it."""
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


MAX_EXAMPLES: Final = 60
MAX_FAILURES: Final = 200
FEW: Final = 30  # images of a class, below which its own figures are mostly chance


def write_page(evaluation: Evaluation, path: Path, imprint: Imprint | None = None) -> None:
    """Write the page. Raises ReportError if matplotlib or scipy is not installed, and as `check` does."""
    check(path)
    document.write(path, html(evaluation, imprint))


def check(path: Path) -> None:
    """Raise ReportError if `write_page` would: it replaces an earlier report, but no other file."""
    needed("matplotlib")
    document.check(path)


def html(evaluation: Evaluation, imprint: Imprint | None = None) -> str:
    """Return the page. Raises ReportError if matplotlib or scipy is not installed."""
    predictions = [example.prediction for example in evaluation.examples]
    counts = evaluation.counts
    context = {
        "evaluation": evaluation,
        "verdict": verdict(evaluation.arms, evaluation.distinct),
        "top5": any(arm.top5 for arm in evaluation.arms),
        "subject": evaluation.arm,
        "baseline": evaluation.baseline,
        "charts": {chart.name: _chart(chart) for chart in charts(evaluation)},
        "arms": evaluation.arms,
        "broader": {arm.name: broader(evaluation, arm) for arm in evaluation.arms if evaluation.parents},
        "controls": any(arm.role == "control" for arm in evaluation.arms),
        "tally": tally(evaluation.arm),
        "classes": class_rows(evaluation),
        "extent": _extent(evaluation),
        "sizes": (int(counts.min()), float(np.median(counts)), int(counts.max())),
        "typical": float(np.median(counts[counts > 0])),
        "few": FEW,
        "pairs": pairs(evaluation),
        "backing_off": backing_off(evaluation.back_off) if evaluation.back_off else [],
        "confidence": evaluation.confidence,
        "confident": confident(evaluation.confidence) if evaluation.confidence else [],
        "effects": effects(evaluation) if evaluation.effects else [],
        "no_effect": not any(row.effect for row in evaluation.effects),
        "examples": [_example(example) for example in evaluation.examples[:MAX_EXAMPLES]],
        "relative": relative(predictions),
        "weighted": weighted(predictions),
        "command": command_of(evaluation.settings),
        "settings": settings(evaluation.settings),
        "failures": evaluation.failures[:MAX_FAILURES],
        "failed": len(evaluation.failures),
    }
    body = fragment("evaluation.html.j2", **context)
    styles = ("card.css", "evaluation.css")
    heading = f"Evaluation of {_extent(evaluation)}"
    return document.document(heading, body, facts_of(evaluation.settings), imprint=imprint, styles=styles)


def _extent(evaluation: Evaluation) -> str:
    distinct = f" ({len(evaluation.distinct):,} distinct)" if evaluation.repeats else ""
    images = f"{counted(len(evaluation.labels), 'image')}{distinct}"
    return f"{images} in {counted(len(evaluation.classes), 'class')}"


def _chart(chart: Chart) -> dict[str, str]:
    """Return a chart as an image rather than markup, which would need a looser policy."""
    return {
        "title": chart.title,
        "words": chart.words,
        "image": data_uri("image/svg+xml", chart.svg()),
    }


def _example(example: Exemplar) -> dict[str, Any]:
    answers = [(arm, answer, answer == example.label) for arm, answer in example.by.items()]
    return card(example.prediction) | {"true": example.label, "answers": answers}


def command_of(settings: Mapping[str, Any]) -> str | None:
    """Return the command line that reproduces the evaluation, or None if the settings lack it."""
    command = settings.get("command")
    if isinstance(command, str):
        return command
    return shlex.join(map(str, command)) if isinstance(command, Sequence) else None
