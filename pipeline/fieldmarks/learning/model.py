"""The learned model: weights on similarities, convex, anchored at the mean of a class's descriptors.

n images, M texts, C classes; s is the scale of the cosines. An image's logit of class c is

    logit_c = s · (Σ_m w_cm cos(i, e_m) + b_c)

and w, b minimise the sum of the images' log-losses plus

    strength · s² · (‖w − w⁰‖² + ‖b‖²),

where w⁰ is 1 / M_c for the texts of the class. Own weights are those of the class's own texts and are not
negative; shared weights reach the texts of all classes, with any sign, and are anchored at 0 for those of
others. The factor s² makes a strength mean the same for every encoder: it weighs changes of logits. At
infinite strength the model is the aggregation mean-similarity. Both forms are convex, so there is one
optimum, which L-BFGS-B finds.

Shared weights are fitted in the space that the texts span: with texts E = U S Vᵀ a change of the weights
outside of U's columns changes no logit, and the penalty forbids it, so C × rank numbers are fitted instead of
C × M.

Source: L-BFGS-B is Byrd, Lu, Nocedal & Zhu (1995), in scipy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.scoring import Array, Indices, indices_by_class
from fieldmarks.classification.threads import for_each

Floats = NDArray[np.float64]
Reals = NDArray[np.floating[Any]]  # float32 or float64, as the precision is


@dataclass(frozen=True, slots=True)
class Precision:
    """How near the optimum a fit comes: the optimiser ends at whichever limit it reaches first."""

    gradient: float  # the largest that may be left, by a variable of `_Rescaled`
    decrease: float  # of the objective in one step, as a share of it
    dtype: type[np.floating[Any]]  # of logits; losses and gradients are summed up in float64


EXACT: Final = Precision(1e-6, 0.0, np.float64)  # where the weights are kept
ROUGH: Final = Precision(1e-3, 1e-6, np.float32)  # where they are only compared, or a start
_BLOCK: Final = 2**17  # logits computed at once, which stay in the processor's cache
_SHARES: Final = 8  # of the images, each summed up by itself, so that results do not vary with the cores
_STEPS: Final = 2_000  # of the optimiser; some dozens are usual


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Learned weights (C, M) of texts and bias (C,) of classes, in units of a cosine."""

    texts: Array
    bias: Array


class Form(Protocol):
    """A form of the weights: how parameters (P,) become logits over some images, and gradients come back."""

    anchor: Floats  # (P,), the parameters at infinite strength; those of the bias are the last C
    class_of: Indices  # (P - C,), the class of each weight
    images: int
    classes: int

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """The range of each parameter; None where none is bounded."""

    def scores(self, parameters: Reals, rows: slice) -> Reals:
        """Return the scores Σ w cos + b of some images, (n, C), computed in the parameters' dtype."""

    def gradient(self, residuals: Reals, rows: slice) -> Floats:
        """Return the gradient (P,) of a sum of scores times residuals (n, C)."""

    def squares(self, factors: Reals, rows: slice) -> Floats:
        """Return the sums of factors (n, C) times the squares of what each parameter multiplies, (P,)."""

    def weights(self, parameters: Floats) -> Weights:
        """Return parameters as weights of all texts."""


class OwnWeights:
    """A weight of at least 0 for each text of a class, and a bias for the class.

    `cosines` (n, M) are those of the images with the texts, whose classes are `owner` (M,).

    Inside, classes stand by their number of texts, most first. So the classes that have a k-th text are the
    first ones, and each step over texts is one over a block of memory.
    """

    def __init__(self, cosines: Array, owner: Indices, classes: int) -> None:
        own = indices_by_class(owner, classes)
        self.images, self.classes = len(cosines), classes
        counts = np.bincount(owner, minlength=classes)
        self._ranking = np.argsort(-counts, kind="stable")
        self._is_ranked = bool((self._ranking == np.arange(classes)).all())
        columns = [  # the k-th text of each class that has one
            np.array([own[at][k] for at in self._ranking if counts[at] > k], np.int64)
            for k in range(counts.max())
        ]
        self._order = np.concatenate(columns)
        self._cosines = [np.ascontiguousarray(cosines[:, texts]) for texts in columns]
        self.class_of = owner[self._order]
        self.anchor = np.concatenate([1 / counts[self.class_of], np.zeros(classes)])

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """Weights are not negative."""
        return [(0.0, None)] * len(self._order) + [(None, None)] * self.classes

    def scores(self, parameters: Reals, rows: slice) -> Reals:
        """Return the scores of some images, (n, C)."""
        scores = np.zeros((rows.stop - rows.start, self.classes), parameters.dtype)
        products = np.empty_like(scores)
        start = 0
        for cosines in self._cosines:
            among = cosines.shape[1]
            np.multiply(cosines[rows], parameters[start : start + among], out=products[:, :among])
            scores[:, :among] += products[:, :among]
            start += among
        if not self._is_ranked:
            products[:, self._ranking] = scores
            scores = products
        scores += parameters[-self.classes :]
        return scores

    def gradient(self, residuals: Reals, rows: slice) -> Floats:
        """Return the gradient (P,)."""
        ranked = residuals if self._is_ranked else residuals[:, self._ranking]
        parts = [
            np.einsum("nc,nc->c", ranked[:, : cosines.shape[1]], cosines[rows]) for cosines in self._cosines
        ]
        return np.concatenate([*parts, residuals.sum(axis=0)], dtype=np.float64)

    def squares(self, factors: Reals, rows: slice) -> Floats:
        """Return the sums of factors times squared cosines, (P,)."""
        ranked = factors if self._is_ranked else factors[:, self._ranking]
        parts = [
            np.einsum("nc,nc->c", ranked[:, : cosines.shape[1]], cosines[rows] ** 2)
            for cosines in self._cosines
        ]
        return np.concatenate([*parts, factors.sum(axis=0)], dtype=np.float64)

    def weights(self, parameters: Floats) -> Weights:
        """Return the weights (C, M), 0 for texts of other classes."""
        texts = np.zeros((self.classes, len(self._order)), np.float32)
        texts[self.class_of, self._order] = parameters[: -self.classes]
        return Weights(texts, parameters[-self.classes :].astype(np.float32))


class SharedWeights:
    """A weight of either sign for each text in each class, and a bias for the class.

    `images` (n, D) and `texts` (M, D) are of unit length, and `owner` (M,) holds the texts' classes.
    """

    def __init__(self, images: Array, texts: Array, owner: Indices, classes: int) -> None:
        self.images, self.classes = len(images), classes
        counts = np.bincount(owner, minlength=classes)
        self._anchor = np.zeros((classes, len(owner)))
        self._anchor[owner, np.arange(len(owner))] = 1 / counts[owner]
        left, singular, right = np.linalg.svd(texts.astype(np.float64), full_matrices=False)
        rank = int((singular > 1e-9 * singular[0]).sum())
        rows = images.astype(np.float64) @ (right[:rank].T * singular[:rank])  # (n, r)
        _, rotation = np.linalg.eigh(np.cov(rows.T, bias=True).reshape(rank, rank))  # to independent columns
        self._basis = left[:, :rank] @ rotation  # (M, r)
        exact = rows @ rotation
        self._rows: dict[Any, Reals] = {
            np.dtype(kind): np.ascontiguousarray(exact, kind) for kind in (np.float32, np.float64)
        }
        self.class_of = np.repeat(np.arange(classes), rank)
        self.anchor = np.concatenate([(self._anchor @ self._basis).ravel(), np.zeros(classes)])

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """No weight is bounded."""
        return None

    def scores(self, parameters: Reals, rows: slice) -> Reals:
        """Return the scores of some images, (n, C)."""
        matrix = parameters[: -self.classes].reshape(self.classes, -1)  # (C, r)
        scores: Reals = self._rows[parameters.dtype][rows] @ matrix.T
        scores += parameters[-self.classes :]
        return scores

    def gradient(self, residuals: Reals, rows: slice) -> Floats:
        """Return the gradient (P,)."""
        products = residuals.T @ self._rows[residuals.dtype][rows]  # (C, r)
        return np.concatenate([products.ravel(), residuals.sum(axis=0)], dtype=np.float64)

    def squares(self, factors: Reals, rows: slice) -> Floats:
        """Return the sums of factors times squared columns, (P,)."""
        products = factors.T @ self._rows[factors.dtype][rows] ** 2  # (C, r)
        return np.concatenate([products.ravel(), factors.sum(axis=0)], dtype=np.float64)

    def weights(self, parameters: Floats) -> Weights:
        """Return the weights (C, M)."""
        moved = (parameters - self.anchor)[: -self.classes].reshape(self.classes, -1)  # (C, r)
        texts = self._anchor + moved @ self._basis.T
        return Weights(texts.astype(np.float32), parameters[-self.classes :].astype(np.float32))


def objective(
    form: Form,
    labels: Indices,
    parts: Sequence[slice],
    scale: float,
    strength: float,
    parameters: Floats,
    dtype: type[np.floating[Any]] = np.float64,
) -> tuple[float, Floats]:
    """Return the penalised loss over the images of some parts, and its gradient (P,).

    `labels` (n,) are the classes of all images. Logits are computed in `dtype`, sums over images in float64.
    """
    cast = parameters.astype(dtype)

    def of_block(rows: slice) -> tuple[float, Floats]:
        logits, total, of_label = _softmax(form, cast, scale, labels, rows)
        logits[np.arange(len(of_label)), labels[rows]] -= 1
        loss = float((np.log(total) - of_label).sum(dtype=np.float64))
        return loss, form.gradient(logits, rows)

    loss, gradient = _summed(form, parts, of_block)
    moved = parameters - form.anchor
    loss += strength * scale**2 * float(moved @ moved)
    gradient *= scale
    gradient += 2 * strength * scale**2 * moved
    return loss, gradient


def _softmax(
    form: Form, parameters: Reals, scale: float, labels: Indices, rows: slice
) -> tuple[Reals, Reals, Reals]:
    """Return probabilities (n, C), and Σ exp and the label's logit (n,) less the largest logit."""
    logits = form.scores(parameters, rows)
    logits *= scale
    logits -= logits.max(axis=1, keepdims=True)
    of_label = logits[np.arange(len(logits)), labels[rows]]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits /= total
    return logits, total[:, 0], of_label


def _summed(
    form: Form, parts: Sequence[slice], of_block: Callable[[slice], tuple[float, Floats]]
) -> tuple[float, Floats]:
    """Return the sums of a number and of parameters' numbers (P,) over the blocks, computed by all cores."""
    every = blocks(form, parts)
    count = min(len(every), _SHARES)
    ends = [len(every) * number // count for number in range(count + 1)]
    shares = [every[start:stop] for start, stop in pairwise(ends)]
    found: list[tuple[float, Floats]] = [(0.0, np.zeros(0))] * len(shares)

    def run(number: int) -> None:
        total, sums = of_block(shares[number][0])
        for rows in shares[number][1:]:
            more, part = of_block(rows)
            total += more
            sums += part
        found[number] = total, sums

    if count < _SHARES:  # threads would cost more than they save
        for number in range(count):
            run(number)
    else:
        for_each(run, range(count))
    total, sums = found[0]
    for more, part in found[1:]:
        total += more
        sums += part
    return total, sums


def blocks(form: Form, parts: Sequence[slice]) -> list[slice]:
    """Return the parts cut to so many images that their logits stay in the processor's cache."""
    step = max(1, _BLOCK // form.classes)
    return [
        slice(at, min(at + step, part.stop)) for part in parts for at in range(part.start, part.stop, step)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Rescaled:
    """Variables (P,) in which the objective is nearly as curved in all directions, so that few steps do.

    Cosines are large beside their differences, so a weight moves all logits of its class much as the bias
    does. Taking each class by itself, the curvature at the start is known, and with it the bias that answers
    a weight; the variables are the weights, and what the bias has beyond that answer, each over the root of
    its curvature. A weight changes by a positive factor only, so that its bound at 0 holds.
    """

    form: Form
    answer: Floats  # (P - C,), how the bias of its class answers a weight, downwards
    size: Floats  # (P,), a variable of 1 in units of its parameter

    @classmethod
    def of(
        cls,
        form: Form,
        labels: Indices,
        parts: Sequence[slice],
        scale: float,
        strength: float,
        start: Floats,
        dtype: type[np.floating[Any]] = np.float64,
    ) -> "_Rescaled":
        """Return the variables for the images of some parts and parameters to start from."""
        cast = start.astype(dtype)

        def of_block(rows: slice) -> tuple[float, Floats]:
            shares, _, _ = _softmax(form, cast, scale, labels, rows)
            shares *= 1 - shares
            return 0.0, np.concatenate([form.gradient(shares, rows), form.squares(shares, rows)])

        _, sums = _summed(form, parts, of_block)
        crossed, curvature = np.split(scale**2 * sums, 2)
        curvature += 2 * strength * scale**2
        bias = curvature[-form.classes :]
        crossed = crossed[: -form.classes]
        answer = crossed / bias[form.class_of]
        curvature[: -form.classes] -= answer * crossed
        return cls(form, answer, 1 / np.sqrt(curvature))

    def parameters(self, variables: Floats) -> Floats:
        """Return the parameters that some variables stand for."""
        parameters = variables * self.size
        weights, bias = parameters[: -self.form.classes], parameters[-self.form.classes :]
        bias -= np.bincount(self.form.class_of, weights * self.answer, self.form.classes)
        return parameters

    def variables(self, parameters: Floats) -> Floats:
        """Return the variables of some parameters."""
        variables = parameters.copy()
        weights, bias = variables[: -self.form.classes], variables[-self.form.classes :]
        bias += np.bincount(self.form.class_of, weights * self.answer, self.form.classes)
        variables /= self.size
        return variables

    def gradient(self, gradient: Floats) -> Floats:
        """Return a gradient by the parameters as one by the variables."""
        by_variable = gradient.copy()
        bias = gradient[-self.form.classes :]
        by_variable[: -self.form.classes] -= self.answer * bias[self.form.class_of]
        by_variable *= self.size
        return by_variable


def fit(
    form: Form,
    labels: Indices,
    parts: Sequence[slice],
    *,
    scale: float,
    strength: float,
    start: Floats | None = None,
    precision: Precision = EXACT,
) -> Floats:
    """Return the parameters that minimise the objective over the images of some parts.

    `start` are those of a nearby strength. At infinite strength the parameters are the anchor itself.
    """
    if strength == float("inf"):
        return form.anchor
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    start = form.anchor if start is None else start
    rescaled = _Rescaled.of(form, labels, parts, scale, strength, start, precision.dtype)

    def of_variables(variables: Floats) -> tuple[float, Floats]:
        parameters = rescaled.parameters(variables)
        loss, gradient = objective(form, labels, parts, scale, strength, parameters, precision.dtype)
        return loss, rescaled.gradient(gradient)

    found = minimize(
        of_variables,
        rescaled.variables(start),
        jac=True,
        method="L-BFGS-B",
        bounds=form.bounds(),
        options={
            "maxiter": _STEPS,
            "maxfun": 2 * _STEPS,
            "gtol": precision.gradient,
            "ftol": precision.decrease,
            "maxcor": 20,
        },
    )
    return rescaled.parameters(found.x)
