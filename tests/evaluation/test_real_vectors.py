"""True CLIP vectors through the command give the published accuracies, with intervals around them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.evaluation.recompute import faults

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.classification.head import Head
from fieldmarks.classification.texts import Texts
from fieldmarks.cli import main

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def texts(check_data: Path) -> dict[str, list[str]]:
    """The texts that go with them."""
    read: dict[str, list[str]] = json.loads(
        (check_data / "real-clip-embeddings/texts.json").read_text("utf-8")
    )
    return read


def _evaluated(
    runner: CliRunner, folder: Path, head: Head, images: Array, labels: list[str]
) -> tuple[dict[str, Any], str]:
    """Evaluate a saved classifier on kept embeddings, and return the figures and what was printed."""
    ClassifierFile(folder / "head.safetensors").write(head)
    names = [f"{row}.jpg" for row in range(len(labels))]
    np.savez(folder / "kept.npz", embeddings=images, images=names, labels=labels)
    inputs = [
        "--classifier",
        str(folder / "head.safetensors"),
        "--image-embeddings",
        str(folder / "kept.npz"),
    ]
    result = runner.invoke(main, ["evaluate", *inputs, "--json", str(folder / "out.json")])
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    plain: dict[str, Any] = json.loads((folder / "out.json").read_text("utf-8"))
    assert faults(plain) == []
    return plain, result.stdout


@pytest.mark.slow
def test_lvis(
    runner: CliRunner, tmp_path: Path, vectors: dict[str, Array], texts: dict[str, list[str]]
) -> None:
    classes = texts["lvis_names"]
    known = Texts.collect({name: [(f"ten descriptions, {n}",) * 2] for n, name in enumerate(classes)})
    rows, plain_names = (
        vectors[key].astype(np.float32) for key in ("lvis_gpt3_mean_emb_raw", "lvis_name_emb_raw")
    )
    head = Head(known, rows, 100.0, baseline=plain_names)
    plain, printed = _evaluated(runner, tmp_path, head, vectors["lvis_image_exemplar_avg"], classes)
    photo, described, swapped = plain["arms"]
    assert [arm["name"] for arm in plain["arms"]] == ["photo", "descriptors", "swapped"]
    assert photo["top1"]["value"] == pytest.approx(0.629, abs=0.0005)
    assert described["top1"]["value"] == pytest.approx(0.741, abs=0.0005)
    assert swapped["top1"]["high"] < 0.01
    for arm in (photo, described):
        assert 0.04 < arm["top1"]["high"] - arm["top1"]["low"] < 0.06
    assert 0.08 < described["difference"]["low"] < 0.112 < described["difference"]["high"] < 0.14
    assert described["difference"]["p"] < 1e-12
    assert "62.9 (" in printed
    assert "74.1 (" in printed
    assert plain["summary"][0].startswith("Descriptors: +11.1 points vs “a photo of a …” (95% CI +")


def test_cifar_10(
    runner: CliRunner, tmp_path: Path, vectors: dict[str, Array], texts: dict[str, list[str]]
) -> None:
    classes, lvis = texts["cifar_classes"], texts["lvis_names"]
    read_as = {"automobile": "car_(automobile)", "ship": "boat"}
    rows = vectors["lvis_name_emb_raw"][[lvis.index(read_as.get(name, name)) for name in classes]]
    head = Head(Texts.collect({name: [(name, name)] for name in classes}), rows.astype(np.float32), 100.0)
    labels = [classes[number] for number in vectors["cifar_labels"]]
    plain, printed = _evaluated(runner, tmp_path, head, vectors["cifar_emb"], labels)
    (arm,) = plain["arms"]
    assert arm["top1"]["value"] == pytest.approx(0.902, abs=0.0005)
    assert 0.87 < arm["top1"]["low"] < 0.9 < arm["top1"]["high"] < 0.93
    assert "90.2 (" in printed
    assert arm["difference"] is None
    assert len(plain["notices"]) == 3  # photo, waffle and swapped are left out
