"""Metrics of an arm: accuracies with bootstrap intervals, differences from the baseline, confusion.

An interval tells how far a figure would move on other images of the same kind, and with other seeds. `hits`
(R, N) says which of N images each of R runs classified correctly. Runs of one arm differ in their seed alone,
and what is estimated is the arm's figure over all seeds and all images of the source. Image and seed are
crossed, so that their shares of the variance are taken apart as in an analysis of variance:

    x[r, i] = mean + image[i] + seed[r] + rest[r, i]

The variance of the mean is var(image)/N + var(seed)/R + var(rest)/(N R). With one run there is no seed.
In simulations 95% intervals cover the truth in 92 to 97% of the draws; with very few images a class in up to
all of them. An image that a data set holds several times is no further evidence: figures are of all images,
but intervals and p are of the distinct ones, and are widened where that is needed to hold the figure.
Source: Cornfield and Tukey, Average values of mean squares in factorials (1956).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fieldmarks.evaluation.arms import Arm
from fieldmarks.evaluation.results import (
    ArmResult,
    Confusion,
    Difference,
    Estimate,
    Evaluation,
    Indices,
    Predictions,
)

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 40_000
TEXTS_SHOWN: Final = 3  # of each arm
_PART: Final = 2**18  # images at a time
_RESAMPLING_SEED: Final = 95  # the same images always give the same ends

Hits = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Variance:
    """The variance of a mean: the part of the drawn images (with the rest), and that of the drawn seeds."""

    images: float
    seeds: float
    runs: int

    def quantile(self) -> float:
        """Return how many standard errors the interval reaches, between the normal and Student's quantile.

        The squares of both are weighed by the parts of the variance (Graybill and Wang's modified large
        samples): few seeds alone would ask for Student's, one run for the normal one.
        """
        from scipy import stats  # type: ignore[import-untyped]

        upper = (1 + CONFIDENCE) / 2
        normal = stats.norm.ppf(upper)
        if not self.seeds:
            return float(normal)
        reach = self.images * normal**2 + self.seeds * stats.t.ppf(upper, self.runs - 1) ** 2
        return float(np.sqrt(reach / (self.images + self.seeds)))


def share(hits: Hits) -> Estimate:
    """Return the share of hits (R, N), with Wilson's interval.

    Images are a sample of those that the source could have given, whatever their class. For one run this
    is Wilson's interval itself; for several, Wilson's with the number of images that would give the same
    variance in one run, and Student's quantile.
    """
    variance = _variance(hits, np.zeros(hits.shape[1], np.int8), 1)
    return _wilson(float(hits.mean()), variance, hits.shape[1])


def mean_per_class(hits: Hits, labels: NDArray[np.integer]) -> Estimate:
    """Return the mean of the recalls of the classes that have images (those of `labels` (N,)).

    The classes and their numbers of images are taken as given, the images as a sample of their class.
    """
    every = np.bincount(labels)
    with_images = np.flatnonzero(every)  # (C,)
    place = np.zeros(len(every), np.int32)
    place[with_images] = np.arange(len(with_images))
    rows, counts = place[labels], every[with_images]  # (N,), (C,)
    recalls = _by_class(hits, rows, counts)  # (R, C)
    even = len(counts) ** 2 / (1 / counts).sum()  # images of one even sample that weighs the same
    return _wilson(float(recalls.mean()), _variance(hits, rows, len(counts)), even)


def difference(hits: Hits, others: Hits) -> Estimate:
    """Return the difference in the share of hits, (R, N) minus (S, N), on the same images.

    Images are resampled as pairs: as each gives one of a few values, a resample is a multinomial draw of
    their counts. One image in which one side leads and one in which the other does, half an image each,
    keep the interval open where the two hardly ever differ (as Agresti and Min add to paired shares). To the
    resampled means comes what other seeds would change, by Student's distribution.
    """
    ahead = _sums(hits) * len(others) - _sums(others) * len(hits)  # (N,), in whole numbers of R x S
    values, counts = np.unique(ahead, return_counts=True)
    support = np.concatenate([values / (len(hits) * len(others)), [1.0, -1.0]])
    weights = np.concatenate([counts, [0.5, 0.5]])
    random = np.random.default_rng(_RESAMPLING_SEED)
    total = int(weights.sum())
    means = random.multinomial(total, weights / total, RESAMPLES) @ support / total  # (RESAMPLES,)
    for side in (hits, others):
        seeds = _variance(side, np.zeros(side.shape[1], np.int8), 1).seeds
        if seeds:
            means += np.sqrt(seeds) * random.standard_t(len(side) - 1, RESAMPLES)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = float(hits.mean() - others.mean())
    return Estimate(value, max(-1.0, min(float(low), value)), min(1.0, max(float(high), value)))


def mcnemar(hits: Hits, others: Hits) -> float | None:
    """Return McNemar's exact p of two runs (1, N) on the same images; None with several runs a side.

    It is the probability of so uneven a split of the images that only one side classifies correctly, if each
    side were as likely to be the one. Several runs on one image are not independent, so that there is none.
    """
    from scipy import stats

    if len(hits) > 1 or len(others) > 1:
        return None
    won, lost = int((hits & ~others).sum()), int((others & ~hits).sum())
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _variance(hits: Hits, rows: NDArray[np.integer], classes: int) -> _Variance:
    """Return the variance of the mean over classes of their shares; `rows` (N,) are the images' classes."""
    runs = len(hits)
    counts = np.bincount(rows, minlength=classes)  # (C,)
    per_run = _by_class(hits, rows, counts)  # (R, C)
    mean = per_run.mean(axis=0)  # (C,)
    apart, whole = np.zeros((2, classes))  # (C,) squares, of the images' means and within run and class
    for at in range(0, len(rows), _PART):
        of, part = rows[at : at + _PART], hits[:, at : at + _PART]
        apart += np.bincount(of, np.square(part.mean(axis=0) - mean[of]), classes)
        if runs > 1:
            whole += np.bincount(of, np.square(part - per_run[:, of]).sum(axis=0), classes)
    images = _of_mean(apart, counts, float(mean.var()))
    if runs == 1:
        return _Variance(images, 0.0, 1)
    rest = _of_mean((whole - runs * apart) / (runs - 1), counts, 0.0) / runs
    seeds = float(per_run.mean(axis=1).var(ddof=1)) / runs
    return _Variance(images, max(0.0, seeds - rest), runs)


def _of_mean(squares: NDArray[Any], counts: NDArray[np.integer], apart: float) -> float:
    """Return the variance of the mean of class means, from each class's sum of squares and its count.

    A class of a few images, all right or all wrong, does not show how far it could move: each class's
    variance counts one image more, with the variance over all images (that within classes and `apart`,
    that between them).
    """
    free = counts - 1
    typical = squares.sum() / max(free.sum(), 1) + apart
    within = (squares + typical) / (free + 1)  # (C,)
    return float((within / counts).sum() / len(counts) ** 2)


def _sums(hits: Hits) -> NDArray[np.int32]:
    """Return the number of runs in which each image is a hit, (R, N) -> (N,)."""
    sums: NDArray[np.int32] = hits.sum(axis=0, dtype=np.int32)
    return sums


def _by_class(hits: Hits, rows: NDArray[np.integer], counts: NDArray[np.integer]) -> Floats:
    return np.stack([np.bincount(rows[run], minlength=len(counts)) / counts for run in hits])  # (R, C)


def _wilson(value: float, variance: _Variance, images: float) -> Estimate:
    """Return Wilson's interval for as many images as have this variance in one run."""
    spread = variance.images + variance.seeds
    size = value * (1 - value) / spread + 1 if spread > 0 else images
    z = variance.quantile()
    centre = (value + z * z / (2 * size)) / (1 + z * z / size)
    reach = z / (1 + z * z / size) * np.sqrt(value * (1 - value) / size + z * z / (4 * size * size))
    return Estimate(
        value, max(0.0, min(value, float(centre - reach))), min(1.0, max(value, float(centre + reach)))
    )


TOP: Final = 5
CONFUSED_SHOWN: Final = 50  # pairs


def figures(
    arm: Arm,
    runs: tuple[Predictions, ...],
    labels: Indices,
    classes: int,
    baseline: ArmResult | None = None,
    distinct: NDArray[np.int64] | None = None,
) -> ArmResult:
    """Return an arm with its figures; `baseline` is the arm that it is compared with, if any.

    `distinct` are the indices (n,) of the images that repeat no other one, by default all.
    """
    once = np.arange(len(labels)) if distinct is None else distinct
    recall = recalls(runs, labels, classes)
    hits, hits_of_five = (np.stack([run.rank < top for run in runs]) for top in (1, TOP))
    gain = None
    if baseline is not None:
        gain = _or_none(recall - recalls(baseline.runs, labels, classes))
    return ArmResult(
        name=arm.name,
        role=arm.role,
        text=arm.text,
        aggregate=arm.aggregate,
        texts=arm.trials[0].texts.texts[:TEXTS_SHOWN],
        runs=runs,
        top1=_around(hits.mean(), share(hits[:, once])),
        top5=_around(hits_of_five.mean(), share(hits_of_five[:, once])) if classes > TOP else None,
        mean_per_class=_around(np.nanmean(recall), mean_per_class(hits[:, once], labels[once])),
        difference=None if baseline is None else compare(hits, baseline, once),
        recall=_or_none(recall),
        gain=gain,
        confused=confusions(runs, labels, classes),
    )


def compare(
    hits: Hits, baseline: ArmResult, distinct: NDArray[np.int64], to: str | None = None
) -> Difference:
    """Return how much the share of hits (R, N) leads the baseline's on the same images; `to` names it."""
    others = baseline.hits()
    lead = lead_of(hits, others, distinct)
    p = mcnemar(hits[:, distinct], others[:, distinct])
    return Difference(to or baseline.name, lead.value, lead.low, lead.high, p)


def lead_of(hits: Hits, others: Hits, distinct: NDArray[np.int64]) -> Estimate:
    """Return the `difference` of all images with the interval of the `distinct` ones (n,)."""
    return _around(hits.mean() - others.mean(), difference(hits[:, distinct], others[:, distinct]))


def broader(evaluation: Evaluation, arm: ArmResult) -> Estimate:
    """Return the share of images that an arm gives a class of the true broader class."""
    hits = evaluation.broader_hits(arm)
    return _around(hits.mean(), share(hits[:, evaluation.distinct]))


def _around(value: np.floating[Any], estimate: Estimate) -> Estimate:
    """Return a figure of all images with the interval of the distinct ones."""
    figure = float(value)
    return Estimate(figure, min(estimate.low, figure), max(estimate.high, figure))


def recalls(runs: Sequence[Predictions], labels: Indices, classes: int) -> Floats:
    """Return the share of each class's images classified correctly, (C,), mean over runs; NaN without any."""
    correct = sum(np.bincount(labels[run.predicted == labels], minlength=classes) for run in runs)
    with np.errstate(invalid="ignore"):  # a class without images
        recall: Floats = correct / (len(runs) * np.bincount(labels, minlength=classes))
    return recall


def confusions(runs: Sequence[Predictions], labels: Indices, classes: int) -> tuple[Confusion, ...]:
    """Return the pairs of classes most often confused, the first CONFUSED_SHOWN of them."""
    pairs = np.concatenate([(labels * np.int64(classes) + run.predicted)[run.rank > 0] for run in runs])
    pair, count = np.unique(pairs, return_counts=True)
    most = np.argsort(-count, kind="stable")[:CONFUSED_SHOWN]
    return tuple(
        Confusion(int(place) // classes, int(place) % classes, int(times) / len(runs))
        for place, times in zip(pair[most], count[most], strict=True)
    )


def _or_none(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)
