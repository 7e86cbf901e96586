"""Calibration: what labelled images that were not learned from tell of a classifier's certainty.

n images, C classes. Scores (n, C) are those of `Head` before the scale: cosines, or their weighted sum with a
bias. Three things are fitted, each by itself:

- The temperature T for which softmax(scores / T) has the least log-loss. Errors determine it: where all
  images are classified correctly, any smaller T has a smaller loss. Where errors are few, T is therefore at
  least the one at which the mean confidence is (right + 1/2) / (n + 1), the estimate of a share under
  Jeffreys' prior, which is never 1.
- For each class the score under which an image is taken for none of the classes, so that at most a share
  of its own images is. In the mean k / (n + 1) of new images are under the k-th smallest of n own scores, so
  k is the largest with k / (n + 1) within the share. A class with few images has the threshold of all.
- The split-conformal quantile q: the set of classes with probability at least 1 - q holds the true one for at
  least a share of new images, whatever the model. It is the ⌈(n + 1) · coverage⌉-th smallest of 1 - p(true).

Sources: Guo et al., On calibration of modern neural networks (2017); Brown, Cai & DasGupta, Interval
estimation for a binomial proportion (2001), for Jeffreys' prior; Peduzzi et al., A simulation study of the
number of events per variable in logistic regression analysis (1996), for how many errors are few; Sadinle,
Lei & Wasserman, Least ambiguous set-valued classifiers (2019).
"""

from math import ceil, floor
from typing import Final

import numpy as np

from fieldmarks.classification.scoring import Array, Indices, probabilities
from fieldmarks.learning.model import Floats
from fieldmarks.learning.strength import judged

FEWEST: Final = 20  # images of a class with a threshold of its own
FEW_ERRORS: Final = 10  # fewer do not determine a temperature
NEVER: Final = float(np.finfo(np.float32).min)  # a threshold that no score is under
_COLDEST, _HOTTEST = 1e-4, 10.0


def temperature(scores: Array, labels: Indices) -> float:
    """Return the temperature with the least log-loss, within 0.0001 and 10."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    wide = scores.astype(np.float64)

    def loss(logarithm: float) -> float:  # unimodal, as the log-loss is convex in 1 / T
        return float(judged(wide / np.exp(logarithm), labels)[0].mean())

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def coldest(scores: Array, labels: Indices) -> float:
    """Return the least temperature that so many images justify: its mean confidence is Jeffreys' estimate."""
    from scipy.optimize import brentq

    wide = scores.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    right = float((scores.argmax(axis=1) == labels).sum())
    justified = (right + 0.5) / (len(labels) + 1)

    def excess(logarithm: float) -> float:  # falls, as each image's confidence does
        return float((1 / np.exp(wide / np.exp(logarithm)).sum(axis=1)).mean()) - justified

    bounds = (float(np.log(_COLDEST)), float(np.log(_HOTTEST)))
    if excess(bounds[0]) <= 0:
        return _COLDEST
    return _HOTTEST if excess(bounds[1]) >= 0 else float(np.exp(brentq(excess, *bounds)))


def thresholds(scores: Array, labels: Indices, false_rejections: float) -> tuple[Array, list[int]]:
    """Return the least score (C,) of each class's label, and the classes that have the pooled one.

    Where even one image would be too many, it is NEVER.
    """
    own = scores[np.arange(len(labels)), labels]
    least = np.full(scores.shape[1], _under(own, false_rejections), np.float32)
    pooled = []
    for label in range(scores.shape[1]):
        of_class = own[labels == label]
        if len(of_class) < FEWEST:
            pooled.append(label)
        else:
            least[label] = _under(of_class, false_rejections)
    return least, pooled


def _under(own: Array, share: float) -> float:
    """Return the score that at most a share of new images is under."""
    rank = floor(share * (len(own) + 1) + 1e-9)
    return NEVER if rank < 1 else float(np.partition(own, rank - 1)[rank - 1])


def quantile(scores: Array, labels: Indices, temperature: float, coverage: float) -> float:
    """Return the split-conformal quantile; 1, which keeps all classes, where images are too few."""
    shares = probabilities((scores / np.float32(temperature)).astype(np.float32))
    missing = 1 - shares[np.arange(len(labels)), labels].astype(np.float64)
    rank = ceil((len(missing) + 1) * coverage - 1e-9)
    return 1.0 if rank > len(missing) else float(np.partition(missing, rank - 1)[rank - 1])


def fewest_for(coverage: float) -> int:
    """Return with how many images a coverage can be had without keeping all classes."""
    return ceil(coverage / (1 - coverage) - 1e-9)


def reliability(shares: Floats, right: Floats, bins: int = 15) -> float:
    """Return the expected calibration error of probabilities (n,), in bins of equally many images."""
    order = np.argsort(shares, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [abs(shares[part].mean() - right[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(shares))
