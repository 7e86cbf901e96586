"""Fixtures of tests of learning: problems as files, so that no model is needed."""

from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.worlds import Problem, save

from fieldmarks.classification.scoring import normalize
from fieldmarks.classification.texts import Texts

DIM = 32
PER_CLASS = 30


def wrong_descriptors(right: int, wrong: int, classes: int = 4, seed: int = 0) -> Problem:
    """Return a problem in which each class has right descriptors first, then those of the next class."""
    chance = np.random.default_rng(seed)
    names = [f"class {number}" for number in range(classes)]
    texts = Texts.collect(
        {
            name: [(f"right {n} of {name}",) * 2 for n in range(right)]
            + [(f"wrong {n} of {name}",) * 2 for n in range(wrong)]
            for name in names
        }
    )
    centres = chance.standard_normal((classes, DIM))
    of_text = [
        (number + (row >= right)) % classes for number in range(classes) for row in range(right + wrong)
    ]
    rows = centres[of_text] + 0.5 * chance.standard_normal((len(of_text), DIM))
    labels = np.repeat(np.arange(classes), PER_CLASS).astype(np.int32)
    images = centres[labels] + 1.2 * chance.standard_normal((len(labels), DIM))
    return Problem(
        normalize(images.astype(np.float32)),
        labels,
        texts,
        rows.astype(np.float32),
        centres.astype(np.float32),
    )


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, Path]:
    """A classifier file of three right and five wrong descriptors a class, and labelled embeddings."""
    return save(wrong_descriptors(3, 5), tmp_path)


@pytest.fixture
def sound(tmp_path: Path) -> tuple[Path, Path]:
    """A classifier file of right descriptors only, and labelled embeddings."""
    folder = tmp_path / "sound"
    folder.mkdir()
    return save(wrong_descriptors(3, 0), folder)
