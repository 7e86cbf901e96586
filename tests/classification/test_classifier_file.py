"""A saved classifier comes back the same, and a stranger's file is refused in one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fieldmarks.choices import Aggregation, words
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.classifier_file import ClassifierFile, load_head
from fieldmarks.classification.head import Head
from fieldmarks.classification.scoring import Pooling, cosines
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
    ClassifierFile(tmp_path / "head.safetensors").write(head)
    again = load_head(tmp_path / "head.safetensors")
    assert (again.texts, again.logit_scale) == (head.texts, head.logit_scale)
    assert again.pooling.name == head.pooling.name == aggregate
    assert again.metadata == head.metadata
    images = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    assert np.array_equal(again.logits(images), head.logits(images))
    assert again.baseline_scores(images) == head.baseline_scores(images)
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]


def _save_version_1(path: Path, head: Head) -> None:
    """Write a file as version 0.1 wrote it, by hand."""
    texts = head.texts
    metadata = {
        "format": "fieldmarks-classifier",
        "version": "1",
        "logit_scale": repr(head.logit_scale),
        "aggregate": head.pooling.name,
        "classes": json.dumps(texts.classes),
        "descriptors": json.dumps(texts.descriptors),
        "texts": json.dumps(texts.texts),
        "model": "some/clip",
        "preset": "article",
    }
    tensors = {"texts": head.embeddings, "owner": np.array(texts.owner)}
    if head.baseline is not None:
        tensors["baseline"] = head.baseline
    if head.pooling.name != "max-similarity":
        rows = head.embeddings
        if head.pooling.name != "mean-embedding":
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        matrix = np.stack([rows[tensors["owner"] == number].mean(axis=0) for number in range(2)])
        if head.pooling.name != "mean-similarity":
            matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        tensors["class_matrix"] = matrix
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("aggregate", words(Aggregation))
@pytest.mark.parametrize("baseline", [True, False])
def test_version_1_is_still_read(tmp_path: Path, aggregate: Aggregation, baseline: bool) -> None:
    head, path = _head(aggregate, baseline=baseline), tmp_path / "head.safetensors"
    _save_version_1(path, head)
    again = load_head(path)
    images = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    assert np.array_equal(again.logits(images), head.logits(images))
    assert again.baseline_scores(images) == head.baseline_scores(images)
    assert (again.texts, again.pooling.name, again.metadata) == (head.texts, aggregate, head.metadata)
    ClassifierFile(path).write(again)  # and becomes version 2
    with safe_open(path, "np") as file:
        assert file.metadata()["version"] == "2"
        assert "class_matrix" not in file.keys()  # noqa: SIM118 - not a mapping
    assert np.array_equal(load_head(path).logits(images), head.logits(images))


def test_weights_bias_and_temperature_are_applied(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    weights, bias = random.standard_normal((2, 3), np.float32), random.standard_normal(2, np.float32)
    images = random.standard_normal((5, 4), np.float32)
    plain = _head("mean-similarity")
    head = replace(plain, pooling=Pooling.named("mean-similarity", weights), bias=bias, temperature=0.05)
    expected = (cosines(images, plain.embeddings) @ weights.T + bias) / 0.05
    np.testing.assert_allclose(head.logits(images), expected, rtol=0, atol=1e-4)
    ClassifierFile(tmp_path / "head.safetensors").write(head)
    again = load_head(tmp_path / "head.safetensors")
    assert np.array_equal(again.logits(images), head.logits(images))
    assert (again.temperature, again.logit_scale, again.is_learned) == (0.05, plain.logit_scale, True)
    marks = again.explain(images[0], again.scores(images[:1])[0])
    own = [mark for mark in (*marks.predicted, *marks.runner_up) if mark.source is None]
    assert sorted(mark.logit for mark in own) == pytest.approx(
        sorted(20 * cosines(images[:1], plain.embeddings)[0]), abs=1e-4
    )


@pytest.mark.slow
def test_a_classifier_scores_from_its_file(
    tiny_clip: Path, classes: Classes, pictures: list[Path], tmp_path: Path
) -> None:
    classifier = Classifier(classes, clip=tiny_clip, baseline=True)
    classifier.save(tmp_path / "frogs.safetensors")
    again = Classifier.load(tmp_path / "frogs.safetensors")
    expected = [prediction.to_dict() for prediction in classifier.predict(pictures)]
    assert [item.to_dict() for item in again.predict(pictures)] == expected
    assert again.explain(pictures[0]) == classifier.explain(pictures[0])
    assert again.embedder.encoder.name == str(tiny_clip)


def test_a_classifier_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    ClassifierFile(path).write(_head())
    ClassifierFile(path).write(_head("max-similarity"))
    assert load_head(path).pooling.name == "max-similarity"
    path.write_text("my diary")
    with pytest.raises(ModelError, match="already exists and is not a fieldmarks classifier; choose"):
        ClassifierFile(path).write(_head())
    assert path.read_text() == "my diary"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be written"):
        ClassifierFile(tmp_path / "none" / "head.safetensors").write(_head())


def _resaved(
    path: Path,
    tensors: dict[str, np.ndarray[Any, Any] | None],
    metadata: dict[str, str | None],
    save: Callable[[Path, Head], None] = lambda path, head: ClassifierFile(path).write(head),
) -> None:
    save(path, _head())
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
        ({}, {"version": "3"}, "version 3 is not 1 or 2: use a newer fieldmarks"),
        ({}, {"version": None}, "'version' is missing"),
        ({}, {"classes": '["a"]'}, "the texts do not belong to the 1 classes"),
        ({}, {"classes": '["a", "a"]'}, "classes, descriptors and texts do not match"),
        ({}, {"classes": '{"a": 1}'}, "classes is not a list of strings"),
        ({}, {"texts": "[" * 100_000}, ""),
        ({}, {"texts": "[1, 2, 3]"}, "texts is not a list of strings"),
        ({}, {"pooling": "sum"}, "pooling 'sum' is not one of mean-embedding, "),
        ({}, {"pooling": None}, "'pooling' is missing"),
        ({}, {"logit_scale": "nan"}, "logit_scale nan is not between 0 and 1,000,000"),
        ({}, {"temperature": "0"}, "temperature 0.0 is not a positive number"),
        ({}, {"temperature": "inf"}, "temperature inf is not a positive number"),
        ({}, {"conformal_quantile": "2"}, "conformal_quantile 2.0 is not between 0 and 1"),
        ({"thresholds": np.full(2, np.nan)}, {}, "a number in it is not finite"),
        ({"digests": np.ones((3, 4), np.uint8)}, {}, "digests of images (3, 4) are not (n, 16)"),
        ({"digests": np.ones((3, 16))}, {}, "digests holds F64; expected one of U8"),
        ({"thresholds": np.ones(3)}, {}, "thresholds (3,) do not fit 2 classes"),
        ({"weights": np.ones((2, 2))}, {}, "weights (2, 2) do not fit 2 classes and 3 texts"),
        ({"weights": np.ones((2, 3))}, {"pooling": "max-similarity"}, "weights need a mean; "),
        ({"weights": np.full((2, 3), np.nan)}, {}, "a number in it is not finite"),
        ({"bias": np.ones(3)}, {}, "a bias (3,) does not fit 2 classes"),
        ({"bias": np.ones(2, np.int64)}, {}, "bias holds I64; expected one of F16, "),
        ({}, {"logit_scale": "much"}, "could not convert string to float: 'much'"),
        ({"texts": None}, {}, "'texts' is missing"),
        ({"owner": None}, {}, "'owner' is missing"),
        ({"owner": np.array([0, 0, 7])}, {}, "the texts do not belong to the 2 classes"),
        ({"owner": np.array([[0, 0, 1]])}, {}, "classes, descriptors and texts do not match"),
        ({"owner": np.array([0.0, 0.0, 1.0])}, {}, "owner holds F64; expected one of I8, "),
        ({"texts": np.full((3, 4), np.inf)}, {}, "a number in it is not finite"),
        ({"texts": np.full((3, 4), 1e300)}, {}, "a number in it is not finite"),
        ({"texts": np.ones(3)}, {}, "embeddings (3,) do not fit 3 texts"),
        ({"texts": np.ones((2, 4))}, {}, "classes, descriptors and texts do not match"),
        ({"baseline": np.ones((3, 4))}, {}, "baseline embeddings (3, 4) do not fit 2 classes"),
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


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"class_matrix": np.ones((2, 4))}, {}, "the class matrix does not match its texts"),
        ({"class_matrix": np.ones((2, 5))}, {}, ""),
        ({"class_matrix": None}, {}, "the class matrix does not match its texts"),
        ({"texts": np.full((3, 4), 3e38)}, {}, "the class matrix does not match its texts"),
        ({}, {"aggregate": "sum"}, "pooling 'sum' is not one of "),
        ({}, {"aggregate": None}, "'aggregate' is missing"),
    ],
)
def test_a_strangers_file_of_version_1_is_refused(
    tmp_path: Path,
    tensors: dict[str, np.ndarray[Any, Any] | None],
    metadata: dict[str, str | None],
    message: str,
) -> None:
    path = tmp_path / "head.safetensors"
    _resaved(path, tensors, metadata, _save_version_1)
    with pytest.raises(ModelError) as caught:
        load_head(path)
    assert str(caught.value).startswith(f"{path} is not a classifier file: {message}")


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
    ClassifierFile(path).write(_head())
    whole = path.read_bytes()
    assert (
        json.dumps(["tree frog", "ow\u202el"])
        in json.loads(whole[8 : whole.index(b"}}") + 2])["__metadata__"]["classes"]
    )
    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError):
            load_head(path)
