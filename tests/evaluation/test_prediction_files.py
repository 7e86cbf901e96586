"""Predictions as a table beside the JSON: read together they are the whole evaluation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.evaluation.test_stored import MADE_WITH
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.head import Head
from fieldmarks.classification.texts import Texts
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.results import Evaluation

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """An evaluation in a working folder, with two draws of its random arms."""
    monkeypatch.chdir(tmp_path)
    birds = evaluation(BIRDS[:3], 60, seeds=2)
    return replace(birds, settings={"fieldmarks": "0.2.0", "data": {"spec": "photos"}})


def test_json_and_table_are_the_whole_evaluation(made: Evaluation) -> None:
    made.save_predictions("run.parquet")
    made.save("run.json", predictions="run.parquet")
    plain = json.loads(Path("run.json").read_text())
    assert (plain["predictions"], plain["images"], plain["labels"]) == ("run.parquet", [], [])
    assert plain["arms"][0]["runs"][0] == {"seed": made.arms[0].runs[0].seed, "predicted": [], "rank": []}
    assert Evaluation.load("run.json") == made
    made.save("run.json", predictions="run.parquet")  # an earlier evaluation is replaced


def test_the_table_has_a_row_for_each_image(made: Evaluation) -> None:
    made.save_predictions("run.parquet")
    table = parquet.read_table("run.parquet").to_pydict()
    assert list(table)[:2] == ["image", "label"]
    assert table["image"] == list(made.images)
    assert table["label"] == [made.classes[label] for label in made.labels]
    (run,) = made.arm.runs
    assert table["descriptors"] == [made.classes[predicted] for predicted in run.predicted]
    assert table["descriptors rank"] == run.rank.tolist()
    control = next(arm for arm in made.arms if len(arm.runs) == 2)
    assert table[f"{control.name} 1 rank"] == control.runs[1].rank.tolist()


def test_a_table_is_not_overwritten_unasked(made: Evaluation) -> None:
    Path("run.parquet").write_bytes(b"mine")
    with pytest.raises(EvaluationError, match=r"run.parquet already exists"):
        made.save_predictions("run.parquet")
    assert Path("run.parquet").read_bytes() == b"mine"
    made.save_predictions("run.parquet", force=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../run.parquet", "predictions '../run.parquet' is not the name of a file beside it"),
        ("absent.parquet", "absent.parquet: no such file; it has the predictions of this evaluation"),
        ("other.parquet", "other.parquet does not hold the predictions of this evaluation"),
        ("none.parquet", "none.parquet does not hold the predictions of this evaluation"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(made: Evaluation, name: str, message: str) -> None:
    replace(made, arms=made.arms[:1]).save_predictions("other.parquet")
    Path("none.parquet").write_bytes(b"no table")
    made.save("run.json", predictions=name)
    with pytest.raises(EvaluationError) as caught:
        Evaluation.load("run.json")
    assert message in str(caught.value)


def test_evaluate_writes_both(runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = Texts.collect({name: [(name, name)] for name in ("owl", "newt")})
    random = np.random.default_rng(0)
    ClassifierFile(Path("birds.safetensors")).write(
        Head(texts, np.eye(2, 8, dtype=np.float32), 100.0, metadata={"model": MADE_WITH["model"]})
    )
    with SetWriter(Path("set"), MADE_WITH, of_blocks=True) as writer:
        rows = [
            Embedded(f"{name}/{at}.png", random.standard_normal(8, dtype=np.float32))
            for at in range(30)
            for name in ("owl", "newt")
        ]
        writer.add_block("0", rows)
    given = ["evaluate", "--classifier", "birds.safetensors", "--image-embeddings", "set"]
    done = runner.invoke(main, [*given, "--json", "run.json", "--predictions", "run.parquet"])
    assert done.exit_code == 0, done.stderr
    assert "Wrote run.json and run.parquet" in done.stderr
    runner.invoke(main, [*given, "--json", "whole.json"])
    read, whole = Evaluation.load("run.json"), Evaluation.load("whole.json")
    assert replace(read, settings={}) == replace(whole, settings={})
    assert "already exists" in runner.invoke(main, [*given, "--predictions", "run.parquet"]).stderr
    refused = runner.invoke(main, [*given, "--json", "../a.json", "--predictions", "b.parquet"])
    assert refused.exit_code == 2
    assert "put both into one folder" in refused.stderr
