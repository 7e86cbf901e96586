"""`fieldmarks evaluate --shots` as a user runs it: on true CLIP vectors, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.benchmarks.learning import cifar, head_of, weakened
from tests.evaluation.worlds import save
from tests.learning.conftest import wrong_descriptors

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.cli import main


@pytest.mark.slow
def test_true_vectors_with_weak_texts_gain_from_few_images(
    runner: CliRunner, tmp_path: Path, check_data: Path
) -> None:
    images, labels, texts, names = cifar(check_data)
    ClassifierFile(tmp_path / "weak.safetensors").write(
        head_of(weakened(images, labels, texts, seed=0), names)
    )
    known = [names[label] for label in labels.tolist()]
    np.savez(tmp_path / "kept.npz", embeddings=images, images=list(map(str, range(500))), labels=known)
    inputs = [
        *("--classifier", str(tmp_path / "weak.safetensors")),
        *("--image-embeddings", str(tmp_path / "kept.npz"), "--json", str(tmp_path / "curves.json")),
        *("--save-plots", str(tmp_path / "charts"), "--report", str(tmp_path / "page.html")),
    ]
    result = runner.invoke(main, ["evaluate", *inputs, "--shots", "1,8", "--draws", "3"])
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "on 420 images" in " ".join(result.stdout.split())
    assert "image means with text; not explained by descriptors" in result.stdout
    assert "Measured 4 learning curves over 3 draws. Wrote " in result.stderr
    assert {path.suffix for path in (tmp_path / "charts").iterdir()} == {".svg", ".png", ".pdf"}
    page = (tmp_path / "page.html").read_text("utf-8")
    for words in (
        "Accuracy by labelled images",
        "own descriptors gain ",
        "Reproduce this run",
        "--shots 1,8",
    ):
        assert words in page
    assert "own descriptors gain " in " ".join(result.stdout.split())
    plain = json.loads((tmp_path / "curves.json").read_text("utf-8"))
    curves = {curve["name"]: curve for curve in plain["curves"]}
    one, eight = zip(*(curves[name]["mean"] for name in curves), strict=True)
    assert max(one) - min(one) < 1e-9  # nothing can be validated at one shot
    zero, learned, shared, means = eight
    assert list(curves) == ["zero-shot", "learned", "shared", "image means"]
    assert learned > zero + 0.15
    assert shared > zero + 0.3
    assert means > shared
    assert plain["settings"]["wanted"]["draws"] == 3
    assert all(len(rows) == 2 for curve in curves.values() for rows in curve["accuracy"])


def test_options_without_effect_are_refused(runner: CliRunner, tmp_path: Path) -> None:
    head, kept = save(wrong_descriptors(2, 0), tmp_path)
    given = ["evaluate", "--classifier", str(head), "--image-embeddings", str(kept)]
    for options, message in {
        ("--draws", "3"): "--draws goes with --shots",
        ("--shots", "2", "--ablate"): "leave out --ablate",
        ("--shots", "2", "--arms", "photo"): "leave out --arms",
        ("--shots", "2", "--predictions", "p.parquet"): "leave out --predictions",
        ("--shots", "2,x"): "'x' is not a number of images",
        ("--shots", "0"): "'0' is not a number of images",
    }.items():
        result = runner.invoke(main, [*given, *options])
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.stderr.split())
    (tmp_path / "mine.json").write_text("{}")
    result = runner.invoke(main, [*given, "--shots", "2", "--json", str(tmp_path / "mine.json")])
    assert result.exit_code == 1
    assert (tmp_path / "mine.json").read_text() == "{}"
    result = runner.invoke(main, [*given, "--shots", "30"])
    assert "at most --shots 29 is possible" in result.stderr
