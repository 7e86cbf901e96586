"""Confusion matrices fit to be read: few classes in full, many in an order in which groups show as blocks.

Rows are true classes and columns predicted ones throughout; entries are pictures, their mean over an
arm's runs.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.evaluation.results import ArmResult, Indices
from fieldmarks.report.drawing import needed

MOST: Final = 2_000  # classes that are ordered; of more, those with the most mistakes

Matrix = NDArray[np.float64]
Chosen = NDArray[np.int64]


def matrix(arm: ArmResult, labels: Indices, chosen: Chosen, classes: int) -> Matrix:
    """Return the confusion (K, K) among the chosen of all classes; answers outside of them are left out."""
    place = np.full(classes, -1)
    place[chosen] = np.arange(len(chosen))
    rows, total = place[labels], np.zeros(len(chosen) ** 2)
    for run in arm.runs:
        columns = place[run.predicted]
        among = (rows >= 0) & (columns >= 0)
        total += np.bincount(rows[among] * len(chosen) + columns[among], minlength=total.size)
    return (total / len(arm.runs)).reshape(len(chosen), len(chosen))


def most_mistaken(arm: ArmResult, labels: Indices, classes: int) -> Chosen:
    """Return the classes in their order, at most MOST: those that lose or attract the most pictures."""
    mistakes = np.zeros(classes)
    for run in arm.runs:
        wrong = run.predicted != labels
        for side in (labels, run.predicted):
            mistakes += np.bincount(side[wrong], minlength=classes)
    return np.sort(np.argsort(-mistakes, kind="stable")[:MOST])


def shares(confusion: Matrix, pictures: NDArray[np.int64]) -> Matrix:
    """Return each row as shares of its class's pictures; rows without pictures are zero."""
    return confusion / np.maximum(pictures, 1)[:, None]


def cluster(share: Matrix) -> Matrix:
    """Return the tree (K - 1, 4) that joins classes that are taken for each other, as scipy writes it.

    The distance is 1 minus the mean of the two shares; average linkage. Raises ReportError without scipy.
    """
    alike = np.clip((share + share.T) / 2, 0.0, 1.0)
    rows, columns = np.triu_indices(len(alike), 1)
    tree: Matrix = needed("scipy.cluster.hierarchy").linkage(1.0 - alike[rows, columns], "average")
    return tree


def order(tree: Matrix) -> Chosen:
    """Return the classes as a tree lists its leaves, so that those confused lie beside each other."""
    leaves: Any = needed("scipy.cluster.hierarchy").leaves_list(tree)
    return np.asarray(leaves, np.int64)


def worst_block(tree: Matrix, confusion: Matrix, size: int) -> Chosen:
    """Return the branch of at most `size` classes, in the tree's order, with the most mistakes among them."""
    branches: list[list[int]] = [[number] for number in range(len(confusion))]
    best, most = branches[0], -1.0
    for left, right, _, leaves in tree.tolist():
        branch = [*branches[int(left)], *branches[int(right)]] if leaves <= size else []
        branches.append(branch)  # a branch too large is never part of a small one
        inside = confusion[np.ix_(branch, branch)]
        mistakes = float(inside.sum() - np.trace(inside))
        if mistakes > most:
            best, most = branch, mistakes
    return np.array(best, np.int64)


def edges(classes: int, bins: int) -> Chosen:
    """Return where at most `bins` runs of neighbouring classes, equally long but for one, begin."""
    return np.unique(np.linspace(0, classes, min(bins, classes) + 1).astype(np.int64))[:-1]


def pooled(confusion: Matrix, starts: Chosen) -> Matrix:
    """Return sums over runs of neighbouring rows and columns."""
    return np.add.reduceat(np.add.reduceat(confusion, starts, 0), starts, 1)


def without_diagonal(confusion: Matrix) -> Matrix:
    """Return the mistakes alone."""
    return confusion * (1 - np.eye(len(confusion)))
