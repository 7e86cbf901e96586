"""The comparison that lets an engine in or keeps it out."""

import numpy as np
import pytest

from fieldmarks.classification.engines.openvino import cosine_error

ROWS = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


def test_length_does_not_count() -> None:
    assert cosine_error(ROWS, 3 * ROWS) == pytest.approx(0, abs=1e-9)


def test_the_worst_row_counts() -> None:
    turned = ROWS.copy()
    turned[2] = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    straight = ROWS.copy()
    straight[2] = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    assert cosine_error(straight, turned) == pytest.approx(1 - 2**-0.5)
    assert cosine_error(ROWS, -ROWS) == pytest.approx(2)


@pytest.mark.parametrize(
    "other", [np.full_like(ROWS, np.nan), np.full_like(ROWS, np.inf), 0 * ROWS, ROWS[:3]]
)
def test_no_numbers_no_length_and_other_shapes_never_agree(other: np.ndarray) -> None:
    assert cosine_error(ROWS, other) == float("inf")
