"""`calibrate --unlabelled`: which words are replaced, what the threshold rejects, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.evaluation.worlds import draw_species, save
from tests.kit import write_store
from tests.learning.conftest import wrong_descriptors

import fieldmarks as fm
from fieldmarks.classification.head import Head
from fieldmarks.classification.texts import descriptor_texts
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError, UsageError
from fieldmarks.learning.unlabelled import random_wording
from fieldmarks.store import Store


@pytest.mark.parametrize(
    "template", ["{descriptor}", "{class}, {which}", "a photo of a {class}: {descriptor}"]
)
def test_random_words_stand_where_names_and_descriptors_stood(template: str) -> None:
    classes = {"tree_frog": ["round toes", "a frog's tree frog eyes"], "newt": ["a crest"], "empty": []}
    texts = descriptor_texts(classes, template, with_name=True)
    head = Head(texts, np.ones((len(texts.texts), 4), np.float32), 10.0)
    first, second = random_wording(head, 0), random_wording(head, 1)
    assert len(first) == len(texts.texts)
    assert first == random_wording(head, 0)
    assert first != second
    for text, drawn in zip(texts.texts, first, strict=True):
        assert drawn != text
        for word in ("round toes", "tree frog", "newt", "a crest", "empty"):
            assert word not in drawn
        if ", which" in text:
            assert ", which" in drawn


@pytest.mark.slow
def test_images_of_no_class_are_rejected_without_a_label(
    tmp_path: Path, demo_clip: Path, runner: CliRunner
) -> None:
    store = Store(draw_species(tmp_path, 8, 6))
    known = {entry.name: entry.descriptors for entry in list(store.entries())[:5]}
    others = [name for name in store.names() if name not in known]
    write_store(tmp_path / "known.jsonl", known)
    for name in others:
        shutil.move(tmp_path / "pictures" / name, tmp_path / "others" / name)
    out = tmp_path / "out.safetensors"
    given = ["calibrate", "--store", str(tmp_path / "known.jsonl"), "--clip", str(demo_clip), "-o", str(out)]
    result = runner.invoke(main, [*given, "--unlabelled", str(tmp_path / "pictures")])
    assert result.exit_code == 0, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Calibrated on 30 images: threshold ")
    assert "without labels this is weaker" in last
    classifier = fm.Classifier.load(out)
    assert (classifier.head.temperature, classifier.head.conformal_quantile) == (None, None)
    rejected = {
        part: np.mean([p.reason is not None for p in classifier.predict([tmp_path / part], abstain=True)])
        for part in ("pictures", "others")
    }
    assert rejected["pictures"] < 0.2
    assert rejected["others"] > 0.6
    broken = tmp_path / "pictures" / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    result = runner.invoke(main, [*given, "--unlabelled", str(tmp_path / "pictures"), "--force"])
    assert result.exit_code == 3
    assert str(broken) in result.stderr
    single = next((tmp_path / "others").rglob("*.png"))
    with pytest.raises(EvaluationError, match="too few for a threshold"):
        fm.calibrate(store=tmp_path / "known.jsonl", clip=demo_clip, unlabelled=single)
    with pytest.raises(EvaluationError, match="no images to calibrate on"):
        fm.calibrate(store=tmp_path / "known.jsonl", clip=demo_clip, unlabelled=tmp_path / "none")


def test_what_needs_labels_is_refused(tmp_path: Path, runner: CliRunner) -> None:
    head, kept = save(wrong_descriptors(1, 0), tmp_path)
    for idle in ({"embeddings": kept}, {"split": "test"}, {"limit": 5}, {"coverage": 0.9}):
        (name,) = idle
        with pytest.raises(UsageError, match=f"^{name} has no effect on images without labels"):
            fm.calibrate(classifier=head, unlabelled=tmp_path, **idle)
    given = ["calibrate", "--classifier", str(head), "-o", str(tmp_path / "out.safetensors")]
    result = runner.invoke(main, [*given, "--unlabelled", str(tmp_path), "--coverage", "0.9"])
    assert result.exit_code == 2
    assert "--coverage has no effect with --unlabelled" in result.stderr
