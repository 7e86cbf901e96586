"""A saved classifier comes back the same, and a stranger's file is refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification import Classifier
from fieldmarks.classification.classifier_file import load_head, save_head
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Pooling
from fieldmarks.classification.texts import Texts
from fieldmarks.errors import ModelError

Classes = dict[str, list[str]]


def _head(aggregate: Aggregation = "mean-embedding", *, baseline: bool = True) -> Head:
    generator = np.random.default_rng(3)
    texts = Texts.collect(
        {"tree frog": [("fur", "fur"), ("eyes", "big eyes")], "ow\u202el": [("beak", "beak")]}
    )
    names = generator.standard_normal((2, 4), np.float32) if baseline else None
    rows = generator.standard_normal((3, 4), np.float32)
    about = {"model": "some/clip", "preset": "article"}
    return Head(texts, rows, 27.123456789, Pooling.named(aggregate), names, about)


@pytest.mark.parametrize("aggregate", words(Aggregation))
@pytest.mark.parametrize("baseline", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, aggregate: Aggregation, baseline: bool) -> None:
    head = _head(aggregate, baseline=baseline)
    save_head(head, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors")
    assert (again.texts, again.logit_scale) == (head.texts, head.logit_scale)
    assert again.pooling.name == head.pooling.name == aggregate
    assert again.about == head.about
    images = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    assert np.array_equal(again.logits(images), head.logits(images))
    assert again.baseline_scores(images) == head.baseline_scores(images)
    assert [one.name for one in tmp_path.iterdir()] == ["head.safetensors"]


def test_the_class_matrix_in_the_file_is_all_that_scoring_needs(tmp_path: Path) -> None:
    head = _head()
    save_head(head, tmp_path / "head.safetensors")
    matrix = load_file(tmp_path / "head.safetensors")["class_matrix"]
    images = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    unit = images / np.linalg.norm(images, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        head.logit_scale * unit @ matrix.T, head.logits(images), rtol=1.3e-6, atol=1e-5
    )


@pytest.mark.slow
def test_a_classifier_scores_from_its_file(
    tiny_clip: Path, classes: Classes, pictures: list[Path], tmp_path: Path
) -> None:
    classifier = Classifier.from_descriptors(classes, clip=tiny_clip, baseline=True)
    classifier.save(tmp_path / "frogs.safetensors")
    again = Classifier.load(tmp_path / "frogs.safetensors")
    expected = [one.to_dict() for one in classifier.predict(pictures)]
    assert [one.to_dict() for one in again.predict(pictures)] == expected
    assert again.explain(pictures[0]) == classifier.explain(pictures[0])
    assert again.embedder.encoder.name == str(tiny_clip)


def test_a_classifier_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(_head(), path)
    save_head(_head("max-similarity"), path)
    assert load_head(path).pooling.name == "max-similarity"
    path.write_text("my diary")
    with pytest.raises(ModelError, match="already exists and is not a fieldmarks classifier; choose"):
        save_head(_head(), path)
    assert path.read_text() == "my diary"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        save_head(_head(), tmp_path / "none" / "head.safetensors")


def _resaved(
    path: Path, tensors: dict[str, np.ndarray[Any, Any] | None], metadata: dict[str, str | None]
) -> None:
    from safetensors import safe_open

    save_head(_head(), path)
    with safe_open(path, "np") as file:
        old = dict(file.metadata())
    kept = {key: value for key, value in (load_file(path) | tensors).items() if value is not None}
    told = {key: value for key, value in (old | metadata).items() if value is not None}
    save_file(kept, path, told)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({}, {"format": "pt"}, "its metadata does not say 'fieldmarks-classifier'"),
        ({}, {"format": None}, "its metadata does not say 'fieldmarks-classifier'"),
        ({}, {"version": "2"}, "version 2 is not 1: use a newer fieldmarks"),
        ({}, {"version": None}, "'version' is missing"),
        ({}, {"classes": '["a"]'}, "the texts do not belong to the 1 classes"),
        ({}, {"classes": '["a", "a"]'}, "classes, descriptors and texts do not fit together"),
        ({}, {"classes": '{"a": 1}'}, "classes is not a list of texts"),
        ({}, {"texts": "[" * 100_000}, ""),
        ({}, {"texts": "[1, 2, 3]"}, "texts is not a list of texts"),
        ({}, {"aggregate": "sum"}, "aggregate 'sum' with logit_scale"),
        ({}, {"logit_scale": "nan"}, "aggregate 'mean-embedding' with logit_scale nan"),
        ({}, {"logit_scale": "much"}, "could not convert string to float: 'much'"),
        ({"texts": None}, {}, "'texts' is missing"),
        ({"owner": None}, {}, "'owner' is missing"),
        ({"owner": np.array([0, 0, 7])}, {}, "the texts do not belong to the 2 classes"),
        ({"owner": np.array([[0, 0, 1]])}, {}, "classes, descriptors and texts do not fit together"),
        ({"owner": np.array([0.0, 0.0, 1.0])}, {}, "owner holds F64; expected one of I8, "),
        ({"texts": np.full((3, 4), np.inf)}, {}, "a number in it is not finite"),
        ({"texts": np.full((3, 4), 1e300)}, {}, "a number in it is not finite"),
        ({"texts": np.full((3, 4), 3e38)}, {}, "the class matrix is not that of its texts"),
        ({"texts": np.ones(3)}, {}, "embeddings (3,) do not fit 3 texts"),
        ({"texts": np.ones((2, 4))}, {}, "classes, descriptors and texts do not fit together"),
        ({"baseline": np.ones((3, 4))}, {}, "baseline embeddings (3, 4) do not fit 2 classes"),
        ({"class_matrix": np.ones((2, 4))}, {}, "the class matrix is not that of its texts"),
        ({"class_matrix": np.ones((2, 5))}, {}, ""),
        ({"class_matrix": None}, {}, "the class matrix is not that of its texts"),
    ],
)
def test_a_strangers_file_is_refused(
    tmp_path: Path,
    tensors: dict[str, np.ndarray[Any, Any] | None],
    metadata: dict[str, str | None],
    message: str,
) -> None:
    path = tmp_path / "head.safetensors"
    _resaved(path, tensors, metadata)
    with pytest.raises(ModelError) as caught:
        load_head(path)
    assert str(caught.value).startswith(f"{path} is not a classifier file: {message}")
    assert "\n" not in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelError, match="is not a classifier file: "):
            load_head(path)


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError):
        load_head(path)


def test_cut_at_every_hundredth_byte(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_head(_head(), path)
    whole = path.read_bytes()
    assert (
        json.dumps(["tree frog", "ow\u202el"])
        in json.loads(whole[8 : whole.index(b"}}") + 2])["__metadata__"]["classes"]
    )
    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError):
            load_head(path)
