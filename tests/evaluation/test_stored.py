"""Images that stay in their set's files are the same as images in memory, whatever is asked of them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.results import Failure
from fieldmarks.data.precomputed import labelled
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.predictions import Images, gather
from fieldmarks.evaluation.stored import StoredNames, StoredVectors, names_at

pytest.importorskip("pyarrow")

CLASSES = ("owl", "newt", "toad")
MADE_WITH = {
    "model": "/models/clip",
    "dtype": "float32",
    "engine": "torch",
    "decode": "full",
    "fingerprint": "f",
}

# An image: the folder it is in, and which of a few embeddings it has; -1 is one that cannot be read.
IMAGE = st.tuples(st.sampled_from(["owl", "newt", "toad", "an unknown label", ""]), st.integers(-1, 3))


def _write(folder: Path, shards: Sequence[Sequence[tuple[str, int]]], half: bool) -> None:
    vectors = np.random.default_rng(0).standard_normal((4, 8), dtype=np.float32)
    with SetWriter(folder, MADE_WITH, half=half, of_blocks=True) as writer:
        for number, shard in enumerate(shards):
            rows: list[Embedded | Failure] = []
            for at, (name, which) in enumerate(shard):
                image = f"{name}/{number}-{at}.png" if name else f"{number}-{at}.png"
                rows.append(Failure(image, "broken") if which < 0 else Embedded(image, vectors[which]))
            writer.add_block(str(number), rows)


def _gathered(folder: Path, stored: bool) -> Images:
    return gather(
        labelled(folder), lambda: {name: name for name in CLASSES}, CLASSES, folder=folder if stored else None
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(IMAGE, min_size=1, max_size=6), min_size=1, max_size=4), st.booleans())
def test_stored_images_are_those_in_memory(shards: list[list[tuple[str, int]]], half: bool) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "set"
        _write(folder, shards, half)
        if not any(of in CLASSES and which >= 0 for shard in shards for of, which in shard):
            for stored in (False, True):
                with pytest.raises(EvaluationError):
                    _gathered(folder, stored)
            return
        images, stored_images = _gathered(folder, False), _gathered(folder, True)
        assert isinstance(stored_images.vectors, StoredVectors)
        assert isinstance(stored_images.names, StoredNames)
        every = np.arange(len(images.names))
        assert list(stored_images.names) == list(images.names)
        assert stored_images.names[1:] == list(images.names[1:])
        assert stored_images.names[0] == images.names[0]
        assert names_at(stored_images.names, every[::-1]) == list(images.names)[::-1]
        assert stored_images.vectors.shape == images.vectors.shape
        for places in (slice(1, 3), every[::-1], every % 2 == 0, images.distinct):
            np.testing.assert_array_equal(stored_images.vectors[places], images.vectors[places])
        np.testing.assert_array_equal(stored_images.labels, images.labels)
        assert list(stored_images.digests) == list(images.digests)
        for field in ("failures", "unlabelled", "equal", "repeats"):
            assert getattr(stored_images, field) == getattr(images, field)


def test_groups_of_equal_images_are_found_in_their_order(tmp_path: Path) -> None:
    shards = [[("owl", 0), ("newt", 1), ("owl", 0)], [("newt", 0), ("owl", 2), ("newt", 1)]]
    _write(tmp_path / "set", shards, half=False)
    images = _gathered(tmp_path / "set", True)
    assert images.repeats == ((0, 2), (1, 5))
    assert [group.images for group in images.equal] == [
        ("owl/0-0.png", "owl/0-2.png", "newt/1-0.png"),
        ("newt/0-1.png", "newt/1-2.png"),
    ]
    assert images.equal[0].classes == ("owl", "owl", "newt")
    assert images.distinct.tolist() == [0, 1, 3, 4]
    assert len(EmbeddingSet(tmp_path / "set").images) == 6
