"""How far to trust a few images: the strength of the anchor, chosen by cross-validation inside them.

Strengths lie on a logarithmic grid that includes infinity: zero-shot, equal weights. Images are dealt
to folds class by class, so that each fold is a small copy of the whole; each fold's images are scored by the
weights that the others give. Of the strengths that are within one standard error of the best, by paired
differences image by image, the one nearest to infinity is taken: zero-shot, where the gain of learning is not
clear. What is compared is the error where zero-shot is right on at least three images in four, and the
log-loss, which says more, where it is not.

Source: the one-standard-error rule is Breiman, Friedman, Olshen & Stone (1984); of paired differences it has
far smaller standard errors, as most images are as hard for one strength as for the next.

With one image a class there is nothing to validate with: an image that is left out takes along all that is
known of its class. Then zero-shot is kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.scoring import Indices
from fieldmarks.learning.model import ROUGH, Floats, Form, blocks, fit

ZERO_SHOT: Final = float("inf")
STRENGTHS: Final = (ZERO_SHOT, *(10 ** (-half / 2) for half in range(11)))  # from 1 to 1e-5
FOLDS: Final = 5
WEAK: Final = 0.25  # errors of zero-shot, above which log-loss is compared

Criterion = Literal["error", "log-loss"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A strength, why it was chosen, and what cross-validation expects of it.

    `zero_shot` and `expected` are accuracies in cross-validation, None where there was none; `gain` is by how
    much the strength beats zero-shot (the best one does, where zero-shot is kept), by the criterion, with its
    standard error.
    """

    strength: float
    folds: int
    criterion: Criterion | None
    zero_shot: float | None
    expected: float | None
    gain: float | None
    error: float | None
    best: float | None  # the strength with the best figure, whether or not it was taken


@dataclass(frozen=True, slots=True)
class Steps:
    """How many long computations are done, of at most how many, and the seconds that they have taken."""

    done: int
    total: int
    seconds: float
    failed: int = 0  # none does


def deal(labels: Indices, folds: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return a fold for each image, (n,): those of a class are spread as evenly as they can be."""
    fold = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        fold[own] = (np.arange(len(own)) + random.integers(folds)) % folds
    return fold


def folds_of(labels: Indices) -> int:
    """Return into how many folds images can be dealt: at most FOLDS, and as many as a class has images.

    A class with fewer images than the median class does not lower it. 1 means that none can be left out.
    """
    counts = np.bincount(labels)
    return int(min(FOLDS, np.median(counts[counts > 0])))


def validated(
    form: Form,
    labels: Indices,
    fold: NDArray[np.int64],
    scale: float,
    progress: Callable[[Steps], None] | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return log-losses and errors (strengths, n) of images that stand fold after fold, by the others' fits.

    `fold` (n,) ascends. There are fewer strengths than in the grid where the rest would be worse. `progress`
    is called before the first fit and after each.
    """
    losses = np.empty((len(STRENGTHS), len(labels)))
    errors = np.empty(losses.shape, np.bool_)
    starts = np.searchsorted(fold, np.arange(fold.max() + 2)).tolist()
    held_out = [slice(*ends) for ends in pairwise(starts)]
    found: list[Floats | None] = [None] * len(held_out)
    began = time.monotonic()

    def report(done: int) -> None:
        if progress is not None:
            progress(Steps(done, len(STRENGTHS) * len(held_out), time.monotonic() - began))

    report(0)
    for row, strength in enumerate(STRENGTHS):
        for held, out in enumerate(held_out):
            parts = [slice(0, out.start), slice(out.stop, len(fold))]
            parameters = fit(
                form,
                labels,
                [part for part in parts if part.stop > part.start],
                scale=scale,
                strength=strength,
                start=found[held],
                precision=ROUGH,
            )
            for rows in blocks(form, [out]):
                logits = np.asarray(scale * form.scores(parameters, rows), np.float64)
                losses[row, rows], errors[row, rows] = judged(logits, labels[rows])
            found[held] = parameters
            report(row * len(held_out) + held + 1)
        if has_turned(losses[: row + 1], errors[: row + 1], starts):
            return losses[: row + 1], errors[: row + 1]
    return losses, errors


def has_turned(losses: Floats, errors: NDArray[np.bool_], starts: Sequence[int]) -> bool:
    """Whether figures (strengths, n) show that farther from zero-shot all will be worse.

    That is where each fold's log-loss rose in the last two steps, and what `decide` compares is worse than it
    was at its best by more than two standard errors. Folds begin at `starts`, which ends with n.
    """
    if len(losses) < 4:
        return False
    sums = np.add.reduceat(losses[-3:], starts[:-1], axis=1)  # (3, folds)
    if not (np.diff(sums, axis=0) > 0).all():
        return False
    _, figures = compared(losses, errors)
    worse, error = difference(figures, -1, best_of(figures))
    return worse > 2 * error


def compared(losses: Floats, errors: NDArray[np.bool_]) -> tuple[Criterion, Floats]:
    """Return which figures (strengths, n) of cross-validation are compared, and these."""
    if errors[0].mean() > WEAK:
        return "log-loss", losses
    return "error", errors.astype(np.float64)


def best_of(figures: Floats) -> int:
    """Return the row with the least mean, of equal ones the first, which is the nearest to infinity."""
    return int(figures.mean(axis=1).argmin())


def difference(figures: Floats, row: int, other: int) -> tuple[float, float]:
    """Return by how much a row's mean exceeds another's, and the standard error, paired image by image."""
    gaps = figures[row] - figures[other]
    return float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))


def is_as_good(figures: Floats, row: int, best: int) -> bool:
    """Whether a row's mean is within one standard error of the best one's; the best one's own is."""
    worse, error = difference(figures, row, best)
    return worse <= error


def judged(logits: Floats, labels: Indices) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each image's log-loss and whether its best class is wrong, from logits (n, C)."""
    most = logits.max(axis=1)
    own = logits[np.arange(len(labels)), labels]
    losses = most + np.log(np.exp(logits - most[:, None]).sum(axis=1)) - own
    return losses, logits.argmax(axis=1) != labels


def decide(
    losses: Floats, errors: NDArray[np.bool_], folds: int, grid: Sequence[float] = STRENGTHS
) -> Choice:
    """Return the strength that figures (strengths, n) of cross-validation speak for.

    The `grid` of strengths begins with zero-shot, and each is farther from it than the one before.
    """
    criterion, figures = compared(losses, errors)
    best = best_of(figures)
    taken = next(row for row in range(best + 1) if is_as_good(figures, row, best))
    gain, error = difference(figures, 0, taken or best)
    accuracy = 1 - errors.mean(axis=1)
    return Choice(
        grid[taken],
        folds,
        criterion,
        float(accuracy[0]),
        float(accuracy[taken]),
        gain,
        error,
        grid[best],
    )


def unvalidated(strength: float = ZERO_SHOT) -> Choice:
    """Return a strength that no cross-validation chose."""
    return Choice(strength, 0, None, None, None, None, None, None)


def sorted_by_fold(labels: Indices, folds: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order (n,) in which images stand fold after fold, and their folds in that order."""
    fold = deal(labels, folds, np.random.default_rng(seed))
    order = np.argsort(fold, kind="stable")
    return order, fold[order]


def choose(
    form: Form,
    labels: Indices,
    fold: NDArray[np.int64],
    scale: float,
    progress: Callable[[Steps], None] | None = None,
) -> Choice:
    """Return the strength chosen for images that stand fold after fold. See `decide`."""
    folds = int(fold.max()) + 1
    return decide(*validated(form, labels, fold, scale, progress), folds)


def along(
    form: Form, labels: Indices, strength: float, scale: float, grid: Sequence[float] = STRENGTHS
) -> Floats:
    """Return the parameters that all images give, reached along the grid, which is faster than at once."""
    parameters = None
    whole = [slice(0, len(labels))]
    for step in (*(value for value in grid if value > strength), strength):
        parameters = fit(form, labels, whole, scale=scale, strength=step, start=parameters, precision=ROUGH)
    return fit(form, labels, whole, scale=scale, strength=strength, start=parameters)
