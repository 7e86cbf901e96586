"""Compute every figure of an evaluation again from its JSON alone, by other code than the product's.

    python tests/evaluation/recompute.py EVALUATION.json

Ends of intervals that come from resampling agree to RESAMPLED, a picture or a twentieth of the interval,
all else to rounding.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]
from sklearn.metrics import accuracy_score, recall_score  # type: ignore[import-untyped]

RESAMPLED = 0.012
EXACT = 1e-9
ROUNDED = 1e-5  # logits on single pictures have six digits
DRAWN = 8000
Z = 1.959963984540054
Plain = dict[str, Any]


def faults(plain: Plain) -> list[str]:
    """Return every figure that is not what the pictures' answers give."""
    return [
        f"{arm['name']} {where}: {told!r} is told, {found!r} is found"
        for arm in plain["arms"]
        for where, told, found, within in _figures(arm, plain)
        if (told is None) != (found is None)
        or (told is not None and found is not None and abs(told - found) > within)
    ] + [
        f"effect of {effect['descriptor']!r}, {where}: {told!r} is told, {found!r} is found"
        for effect in plain["effects"]
        for where, told, found, within in _effect(effect, plain)
        if abs(told - found) > within
    ]


def _figures(arm: Plain, plain: Plain) -> Iterator[tuple[str, float | None, float | None, float]]:
    """Yield (figure, value told, value found, tolerance) of an arm."""
    labels, classes, once = plain["labels"], len(plain["classes"]), _once(plain)
    runs = [run["predicted"] for run in arm["runs"]]
    for run in arm["runs"]:
        firsts = sum(
            (rank == 0) != (a == b) for rank, a, b in zip(run["rank"], run["predicted"], labels, strict=True)
        )
        yield "ranks that do not fit", 0, firsts, 0
    yield "top1", arm["top1"]["value"], np.mean([accuracy_score(labels, run) for run in runs]), EXACT
    there = sorted(set(labels))
    balanced = [recall_score(labels, run, labels=there, average="macro") for run in runs]
    yield "mean_per_class", arm["mean_per_class"]["value"], np.mean(balanced), EXACT
    for name, below in (("top1", 1), ("top5", 5)):
        if arm[name]:
            hits = [[rank < below for rank in run["rank"]] for run in arm["runs"]]
            yield name, arm[name]["value"], float(np.mean(hits)), EXACT
            hits = [[run[at] for at in once] for run in hits]
            yield from _ends(name, arm[name], _wilson(hits, [0] * len(once), len(once)))
    hits = [[run[at] == labels[at] for at in once] for run in runs]
    pictures = [sum(labels[at] == label for at in once) for label in there]
    even = len(pictures) ** 2 / sum(1 / count for count in pictures)
    ends = _wilson(hits, [labels[at] for at in once], even)
    yield from _ends("mean_per_class", arm["mean_per_class"], ends)
    recall = [_recall(runs, labels, label) for label in range(classes)]
    for label in range(classes):
        yield f"recall {label}", arm["recall"][label], recall[label], EXACT
    if arm["difference"]:
        yield from _against(arm, plain, recall)
    pairs = Counter(pair for run in runs for pair in zip(labels, run, strict=True) if pair[0] != pair[1])
    told = {(pair["label"], pair["predicted"]): pair["count"] for pair in arm["confused"]}
    most = sorted(pairs.values(), reverse=True)[: len(told)]
    yield "pairs confused", len(told), min(50, len(pairs)), 0
    yield "most confused", sum(told.values()), sum(most) / len(runs), EXACT
    for pair, count in told.items():
        yield f"confused {pair}", count, pairs[pair] / len(runs), EXACT


def _against(arm: Plain, plain: Plain, recall: list[float | None]) -> Iterator[Any]:
    labels, told = plain["labels"], arm["difference"]
    other = next(candidate for candidate in plain["arms"] if candidate["name"] == told["to"])
    sides = [
        np.array(
            [[a == b for a, b in zip(run["predicted"], labels, strict=True)] for run in side["runs"]], float
        )
        for side in (arm, other)
    ]
    yield "difference", told["value"], sides[0].mean() - sides[1].mean(), EXACT
    once = _once(plain)
    low, high = _resampled(*(side[:, once] for side in sides))
    low, high = min(low, told["value"]), max(high, told["value"])
    # Means of few pictures come in steps, and few draws that differ much have ends far out.
    within = max(RESAMPLED, 1.01 / len(once), 0.05 * (high - low))
    yield "difference low", told["low"], low, within
    yield "difference high", told["high"], high, within
    p = None
    if len(sides[0]) == len(sides[1]) == 1:
        mine, others = (side[:, once] for side in sides)
        won, lost = int((mine > others).sum()), int((mine < others).sum())
        p = min(1.0, 2 * stats.binom.cdf(min(won, lost), won + lost, 0.5)) if won + lost else 1.0
    yield "p", told["p"], p, EXACT
    for label, (gain, now, before) in enumerate(zip(arm["gain"], recall, other["recall"], strict=True)):
        yield f"gain {label}", gain, None if now is None else now - before, EXACT


def _effect(effect: Plain, plain: Plain) -> Iterator[tuple[str, float, float, float]]:
    """Yield an effect's figures, which are means over pictures of what the descriptor changes on each."""
    labels, on = plain["labels"], effect["on"]
    number = plain["classes"].index(effect["class"])
    lead = [0.0] * len(labels)
    for picture, margin in zip(on["picture"], on["margin"], strict=True):
        lead[picture] += margin
    own = [value for value, label in zip(lead, labels, strict=True) if label == number]
    others = [value for value, label in zip(lead, labels, strict=True) if label != number]
    yield "pictures", effect["pictures"], len(own), 0
    yield "pictures twice", len(on["picture"]), len(set(on["picture"])), 0
    yield "effect", effect["effect"], sum(on["right"]) / len(labels), EXACT
    yield "margin", effect["margin"], sum(own) / max(len(own), 1), ROUNDED
    yield "others_margin", effect["others_margin"], sum(others) / max(len(others), 1), ROUNDED
    base = next((arm for arm in plain["arms"] if arm["name"].split(" ")[0] == "descriptors"), None)
    if base:
        right = [rank == 0 for rank in base["runs"][0]["rank"]]
        impossible = [(right[at], by) for at, by in zip(on["picture"], on["right"], strict=True)]
        yield "right answers that it cannot give", 0, impossible.count((False, 1)), 0
        yield "right answers that it cannot cost", 0, impossible.count((True, -1)), 0


def _recall(runs: list[list[int]], labels: list[int], wanted: int) -> float | None:
    at = [place for place, label in enumerate(labels) if label == wanted]
    return float(np.mean([[run[place] == wanted for place in at] for run in runs])) if at else None


def _once(plain: Plain) -> list[int]:
    """Return the pictures without those that repeat another of their class."""
    spare = {picture for group in plain["repeats"] for picture in group[1:]}
    return [picture for picture in range(len(plain["images"])) if picture not in spare]


def _ends(name: str, told: Plain, found: tuple[float, float]) -> Iterator[Any]:
    yield f"{name} low", told["low"], min(found[0], told["value"]), EXACT
    yield f"{name} high", told["high"], max(found[1], told["value"]), EXACT


def _parts(hits: Any, labels: list[int]) -> tuple[float, float]:
    """Return the parts of pictures and of seeds in the variance of the mean of the classes' shares."""
    groups = [
        np.array(hits, float)[:, np.array(labels) == label] for label in sorted(set(labels))
    ]  # (R, n) each
    runs = len(hits)
    free = sum(group.shape[1] - 1 for group in groups) or 1
    apart = [float(((group.mean(0) - group.mean()) ** 2).sum()) for group in groups]
    pictures = _mean_of(apart, groups, sum(apart) / free + float(np.var([group.mean() for group in groups])))
    if runs == 1:
        return pictures, 0.0
    left = [group - group.mean(0) - group.mean(1, keepdims=True) + group.mean() for group in groups]
    rest = [float((residual**2).sum()) / (runs - 1) for residual in left]
    of_runs = float(np.var([np.mean([group[run].mean() for group in groups]) for run in range(runs)], ddof=1))
    return pictures, max(0.0, of_runs / runs - _mean_of(rest, groups, sum(rest) / free) / runs)


def _mean_of(squares: list[float], groups: list[Any], typical: float) -> float:
    each = [(square + typical) / group.shape[1] ** 2 for square, group in zip(squares, groups, strict=True)]
    return float(sum(each)) / len(groups) ** 2


def _wilson(hits: Any, labels: list[int], otherwise: float) -> tuple[float, float]:
    value = float(np.mean([np.mean(np.array(hits)[:, np.array(labels) == label]) for label in set(labels)]))
    pictures, seeds = _parts(hits, labels)
    size, z = otherwise, Z
    if pictures + seeds:
        size = value * (1 - value) / (pictures + seeds) + 1
        student = stats.t.ppf(0.975, len(hits) - 1) if len(hits) > 1 else Z
        z = ((pictures * Z**2 + seeds * student**2) / (pictures + seeds)) ** 0.5
    # The ends solve |value - p| = z sqrt(p (1 - p) / size).
    a, b, c = 1 + z * z / size, -(2 * value + z * z / size), value * value
    root = max(0.0, b * b - 4 * a * c) ** 0.5
    low, high = (-b - root) / (2 * a), (-b + root) / (2 * a)
    return max(0.0, min(low, value)), min(1.0, max(high, value))


def _resampled(hits: Any, others: Any) -> tuple[float, float]:
    """Resample pictures one by one, a pair of half pictures that differ among them, and add other seeds."""
    chance = np.random.default_rng(0)
    lead = hits.mean(0) - others.mean(0)
    halves = chance.choice([-1.0, 1.0], (DRAWN, len(lead) + 1))
    drawn = np.array([chance.integers(0, len(lead) + 1, len(lead) + 1) for _ in range(DRAWN)])
    padded = np.append(lead, 0.0)
    means = np.where(drawn == len(lead), halves, padded[drawn]).mean(1)
    for side in (hits, others):
        seeds = _parts(side, [0] * len(lead))[1]
        if seeds:
            means += seeds**0.5 * chance.standard_t(len(side) - 1, DRAWN)
    value = hits.mean() - others.mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return max(-1.0, min(low, value)), min(1.0, max(high, value))


if __name__ == "__main__":
    print("\n".join(faults(json.loads(Path(sys.argv[1]).read_text("utf-8")))) or "every figure is as told")
