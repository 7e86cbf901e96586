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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldmarks.classification.scoring import Array, Indices, indices_by_class

Floats = NDArray[np.float64]

EXACT: Final = 1e-6  # the gradient that may be left where the weights are kept
ROUGH: Final = 1e-3  # and where they are only compared, in cross-validation
_BLOCK: Final = 2**18  # logits computed at once, which stay in the processor's cache
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
    mean: Floats  # (P - C,), of what each weight multiplies, over all images
    variance: Floats  # (P - C,)
    images: int
    classes: int

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """The range of each parameter; None where none is bounded."""

    def scores(self, parameters: Floats, rows: slice) -> Floats:
        """Return the scores Σ w cos + b of some images, (n, C)."""

    def gradient(self, residuals: Floats, rows: slice) -> Floats:
        """Return the gradient (P,) of a sum of scores times residuals (n, C)."""

    def weights(self, parameters: Floats) -> Weights:
        """Return parameters as weights of all texts."""


class OwnWeights:
    """A weight of at least 0 for each text of a class, and a bias for the class.

    `cosines` (n, M) are those of the images with the texts, whose classes are `owner` (M,).
    """

    def __init__(self, cosines: Array, owner: Indices, classes: int) -> None:
        own = indices_by_class(owner, classes)
        self.images, self.classes = len(cosines), classes
        self._most = max(map(len, own))
        self._columns = [  # of the k-th text of each class that has one: the classes, and the texts
            (
                np.array([at for at, rows in enumerate(own) if len(rows) > k], np.int64),
                np.array([rows[k] for rows in own if len(rows) > k], np.int64),
            )
            for k in range(self._most)
        ]
        self._order = np.concatenate([texts for _, texts in self._columns])
        self._cosines = [np.ascontiguousarray(cosines[:, texts]) for _, texts in self._columns]
        self.class_of = owner[self._order]
        self.mean = np.concatenate([part.mean(axis=0, dtype=np.float64) for part in self._cosines])
        self.variance = np.concatenate([part.var(axis=0, dtype=np.float64) for part in self._cosines])
        counts = np.bincount(owner, minlength=classes)
        self.anchor = np.concatenate([1 / counts[self.class_of], np.zeros(classes)])

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """Weights are not negative."""
        return [(0.0, None)] * len(self._order) + [(None, None)] * self.classes

    def scores(self, parameters: Floats, rows: slice) -> Floats:
        """Return the scores of some images, (n, C)."""
        scores = np.tile(parameters[-self.classes :], (rows.stop - rows.start, 1))
        start = 0
        for (classes, _), cosines in zip(self._columns, self._cosines, strict=True):
            products = cosines[rows] * parameters[start : start + len(classes)]
            start += len(classes)
            if len(classes) == self.classes:
                scores += products
            else:
                scores[:, classes] += products
        return scores

    def gradient(self, residuals: Floats, rows: slice) -> Floats:
        """Return the gradient (P,)."""
        parts = [
            np.einsum("nc,nc->c", residuals if len(classes) == self.classes else residuals[:, classes], part)
            for (classes, _), part in zip(
                self._columns, (cosines[rows] for cosines in self._cosines), strict=True
            )
        ]
        return np.concatenate([*parts, residuals.sum(axis=0)])

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
        self._rows = rows @ rotation
        self.class_of = np.repeat(np.arange(classes), rank)
        self.mean = np.tile(self._rows.mean(axis=0), classes)
        self.variance = np.tile(self._rows.var(axis=0), classes)
        self.anchor = np.concatenate([(self._anchor @ self._basis).ravel(), np.zeros(classes)])

    def bounds(self) -> list[tuple[float | None, float | None]] | None:
        """No weight is bounded."""
        return None

    def scores(self, parameters: Floats, rows: slice) -> Floats:
        """Return the scores of some images, (n, C)."""
        matrix = parameters[: -self.classes].reshape(self.classes, -1)  # (C, r)
        scores: Floats = self._rows[rows] @ matrix.T + parameters[-self.classes :]
        return scores

    def gradient(self, residuals: Floats, rows: slice) -> Floats:
        """Return the gradient (P,)."""
        return np.concatenate([(residuals.T @ self._rows[rows]).ravel(), residuals.sum(axis=0)])

    def weights(self, parameters: Floats) -> Weights:
        """Return the weights (C, M)."""
        moved = (parameters - self.anchor)[: -self.classes].reshape(self.classes, -1)  # (C, r)
        texts = self._anchor + moved @ self._basis.T
        return Weights(texts.astype(np.float32), parameters[-self.classes :].astype(np.float32))


def objective(
    form: Form, labels: Indices, parts: Sequence[slice], scale: float, strength: float, parameters: Floats
) -> tuple[float, Floats]:
    """Return the penalised loss over the images of some parts, and its gradient (P,).

    `labels` (n,) are the classes of all images.
    """
    moved = parameters - form.anchor
    loss = strength * scale**2 * float(moved @ moved)
    gradient = 2 * strength * scale**2 * moved
    for rows in blocks(form, parts):
        logits = scale * form.scores(parameters, rows)
        own = labels[rows]
        at = np.arange(len(own))
        logits -= logits.max(axis=1, keepdims=True)
        of_label = logits[at, own]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        loss += float((np.log(total[:, 0]) - of_label).sum())
        logits /= total  # now the probabilities
        logits[at, own] -= 1
        gradient += scale * form.gradient(logits, rows)
    return loss, gradient


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
    does. In the quadratic model of even probabilities the bias that answers a weight is known; the variables
    are the weights, and what the bias has beyond that answer, each over the root of its curvature. A weight
    changes by a positive factor only, so that its bound at 0 holds.
    """

    form: Form
    answer: Floats  # (P - C,), how the bias of its class answers a weight, downwards
    size: Floats  # (P,), a variable of 1 in units of its parameter

    @classmethod
    def of(cls, form: Form, images: int, scale: float, strength: float) -> "_Rescaled":
        """Return the variables for so many images."""
        data = scale**2 * images * (form.classes - 1) / form.classes**2
        penalty = 2 * strength * scale**2
        part = data / (data + penalty)
        weights = data * (form.variance + (1 - part) * form.mean**2) + penalty
        bias = np.full(form.classes, data + penalty)
        return cls(form, part * form.mean, 1 / np.sqrt(np.concatenate([weights, bias])))

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
    tolerance: float = EXACT,
) -> Floats:
    """Return the parameters that minimise the objective over the images of some parts.

    `start` are those of a nearby strength; `tolerance` is about the largest error of a parameter in units of
    what the images can tell of it. At infinite strength the parameters are the anchor itself.
    """
    if strength == float("inf"):
        return form.anchor
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    images = sum(part.stop - part.start for part in parts)
    rescaled = _Rescaled.of(form, images, scale, strength)

    def of_variables(variables: Floats) -> tuple[float, Floats]:
        loss, gradient = objective(form, labels, parts, scale, strength, rescaled.parameters(variables))
        return loss, rescaled.gradient(gradient)

    found = minimize(
        of_variables,
        rescaled.variables(form.anchor if start is None else start),
        jac=True,
        method="L-BFGS-B",
        bounds=form.bounds(),
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "gtol": tolerance, "ftol": 0.0, "maxcor": 20},
    )
    return rescaled.parameters(found.x)
