"""True CLIP vectors through the public commands give the published accuracies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.classification.head import Head
from fieldmarks.classification.texts import Texts
from fieldmarks.cli import main

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def lvis(check_data: Path) -> list[str]:
    """The names of the LVIS classes."""
    texts = json.loads((check_data / "real-clip-embeddings" / "texts.json").read_text("utf-8"))
    return list(texts["lvis_names"])


def _accuracy(
    runner: CliRunner, folder: Path, classes: list[str], texts: Array, images: Array, labels: list[str]
) -> float:
    """Classify images by one text a class, both as embeddings in files, and return the top-1 share."""
    known = Texts.collect({name: [(name, name)] for name in classes})
    ClassifierFile(folder / "head.safetensors").write(Head(known, texts.astype(np.float32), 100.0))
    names = [f"{row}:{label}" for row, label in enumerate(labels)]
    np.savez(folder / "images.npz", embeddings=images, images=np.array(names))
    inputs = [
        "--image-embeddings",
        str(folder / "images.npz"),
        "--classifier",
        str(folder / "head.safetensors"),
    ]
    result = runner.invoke(main, ["classify", *inputs, "--format", "jsonl"])
    assert (result.exit_code, result.stderr) == (0, f"Classified {len(labels):,} images.\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["image"] for line in lines] == names
    right = [bool(line["label"] == label) for line, label in zip(lines, labels, strict=True)]
    return sum(right) / len(labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "published"), [("lvis_name_emb_raw", 0.629), ("lvis_gpt3_mean_emb_raw", 0.741)]
)
def test_lvis_exemplars(
    runner: CliRunner,
    tmp_path: Path,
    vectors: dict[str, Array],
    lvis: list[str],
    texts: str,
    published: float,
) -> None:
    images = vectors["lvis_image_exemplar_avg"]
    accuracy = _accuracy(runner, tmp_path, lvis, vectors[texts], images, lvis)
    assert accuracy == pytest.approx(published, abs=0.0005)


def test_cifar_10(
    runner: CliRunner, tmp_path: Path, vectors: dict[str, Array], lvis: list[str], check_data: Path
) -> None:
    texts = json.loads((check_data / "real-clip-embeddings" / "texts.json").read_text("utf-8"))
    classes = list(texts["cifar_classes"])
    read_as = {"automobile": "car_(automobile)", "ship": "boat"}
    rows = vectors["lvis_name_emb_raw"][[lvis.index(read_as.get(name, name)) for name in classes]]
    labels = [classes[number] for number in vectors["cifar_labels"]]
    accuracy = _accuracy(runner, tmp_path, classes, rows, vectors["cifar_emb"], labels)
    assert accuracy == pytest.approx(0.902, abs=0.0005)
