"""Broader classes: the parents that a store gives classes, which answer where their children cannot be told.

A parent's logit is the log-sum-exp of its children's, so its probability is the sum of theirs. A class
without a parent stands for itself, and one that is the parent of others is also one of its own children.
"""

import json
from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Final

import numpy as np

from fieldmarks.classification.results import Score
from fieldmarks.classification.scoring import Array, Indices
from fieldmarks.errors import ModelError

KEY: Final = "parents"  # of a classifier's metadata: {class: parent} as JSON
TOLD: Final = 0.75  # the share of its parent's probability from which a child is answered


def parents_in(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the parent of each class that has one. Raises ModelError for what is no such object."""
    try:
        parents = json.loads(metadata.get(KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its {KEY} are not JSON: {error}") from error
    if not isinstance(parents, dict) or not all(isinstance(value, str) for value in parents.values()):
        raise ModelError(f"its {KEY} are not an object of class names")
    return parents


def groups_of(classes: Sequence[str], parents: Mapping[str, str]) -> list[str]:
    """Return what each class is a child of: its parent, or itself.

    Raises ModelError where a parent has a parent: there is one level.
    """
    heads = {parents[name] for name in classes if name in parents}
    for name in heads & parents.keys():
        raise ModelError(
            f"the class {name!r} is a parent and has the parent {parents[name]!r}: there is one level of"
            " broader classes; leave one of the two out"
        )
    return [parents.get(name, name) for name in classes]


def parent_of(scores: Sequence[Score], parents: Mapping[str, str]) -> Score | None:
    """Return the broader class to answer with, or None where the best class can be told.

    `scores` are those of all classes, best first. The best class is answered if its parent is the best one
    and owes it at least TOLD of its probability; else the best parent is. One that has a single child among
    the classes is as narrow as it.
    """
    sums: dict[str, list[Score]] = {}
    groups = groups_of([score.name for score in scores], parents)
    for group, score in zip(groups, scores, strict=True):
        sums.setdefault(group, []).append(score)
    best = max(sums, key=lambda group: sum(score.probability for score in sums[group]))
    children = sums[best]
    probability = sum(score.probability for score in children)
    if len(children) == 1 or (
        children[0].name == scores[0].name and scores[0].probability >= TOLD * probability
    ):
        return None
    highest = children[0].logit
    logit = highest + log(sum(exp(score.logit - highest) for score in children))
    return Score(best, min(1.0, probability), logit)


def backed_off(shares: Array, groups: Indices) -> Indices:
    """Return the broader class (n,) that `parent_of` answers images with, -1 where it answers the best class.

    `shares` (n, C) are probabilities, `groups` (C,) the number of each class's broader class, from 0 on.
    """
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(shares[:, order], starts, axis=1)  # (n, G)
    rows, child, best = np.arange(len(shares)), shares.argmax(axis=1), sums.argmax(axis=1)
    is_told = (groups[child] == best) & (shares[rows, child] >= TOLD * sums[rows, best])
    return np.where(is_told | (sizes[best] == 1), -1, best)


def other_than(parent: Score, scores: Sequence[Score], parents: Mapping[str, str]) -> Score | None:
    """Return the best class that is not a child of a parent, where there is one; `scores` are best first."""
    return next((score for score in scores if parents.get(score.name, score.name) != parent.name), None)
