"""Broader classes: the laws of the parent's score, and what is answered, saved, evaluated and refused."""

import json
from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.evaluation.worlds import save
from tests.kit import logged
from tests.learning.conftest import wrong_descriptors

import fieldmarks as fm
from fieldmarks.classification.broader import (
    TOLD,
    backed_off,
    groups_of,
    other_than,
    parent_of,
    parents_in,
)
from fieldmarks.classification.classifier_file import ClassifierFile, load_head
from fieldmarks.classification.result_files import csv_cells
from fieldmarks.classification.results import Prediction, Score
from fieldmarks.cli import main
from fieldmarks.errors import EvaluationError, ModelError, UsageError

logits = st.lists(st.floats(-20, 20), min_size=4, max_size=4)
# Apart by 0.2 at least and by 16 at most, so that no two probabilities are equal but for rounding.
apart = st.lists(st.integers(-40, 40), min_size=4, max_size=4, unique=True).map(
    lambda row: [value / 5 for value in row]
)
PARENTS = {"beagle": "dog", "poodle": "dog", "tabby": "cat"}


def scores(values: list[float]) -> list[Score]:
    """Return the scores of four classes with these logits, best first."""
    total = log(sum(map(exp, values)))
    named = zip(("beagle", "poodle", "tabby", "owl"), values, strict=True)
    return sorted((Score(name, exp(v - total), v) for name, v in named), key=lambda score: -score.logit)


@given(logits)
def test_a_parent_answers_where_its_children_cannot_be_told(values: list[float]) -> None:
    ranked = scores(values)
    by_name = {score.name: score for score in ranked}
    parent = parent_of(ranked, PARENTS)
    dog = by_name["beagle"].probability + by_name["poodle"].probability
    others = max(by_name["tabby"].probability, by_name["owl"].probability)
    if parent is None:
        best = ranked[0].probability
        assert dog < others + 1e-9 or best >= TOLD * dog - 1e-9
    else:
        assert parent.name == "dog"  # the only one with several children
        assert parent.probability == pytest.approx(dog)
        assert parent.logit == pytest.approx(log(sum(exp(by_name[n].logit) for n in ("beagle", "poodle"))))
        assert dog >= others - 1e-9
        best = max(by_name["beagle"].probability, by_name["poodle"].probability)
        assert best < TOLD * dog + 1e-9 or ranked[0].name in ("tabby", "owl")


@given(st.lists(apart, min_size=1, max_size=5))
def test_many_images_are_answered_as_single_ones(rows: list[list[float]]) -> None:
    names = ("beagle", "poodle", "tabby", "owl")
    by_name = [{score.name: score for score in scores(values)} for values in rows]
    shares = np.array([[row[name].probability for name in names] for row in by_name])
    dogs = shares[:, :2].sum(axis=1)
    compared = np.column_stack([shares, dogs, TOLD * dogs])
    assume((np.diff(np.sort(compared, axis=1), axis=1) > 1e-9).all())  # else rounding decides
    parents = [parent_of(scores(values), PARENTS) for values in rows]
    expected = [-1 if parent is None else 1 for parent in parents]
    assert backed_off(shares, np.array([1, 1, 0, 2])).tolist() == expected


@given(logits)
def test_the_runner_up_of_a_parent_is_none_of_its_children(values: list[float]) -> None:
    ranked = scores(values)
    other = other_than(Score("dog", 0.9, 1.0), ranked, PARENTS)
    assert other == next(score for score in ranked if score.name in ("tabby", "owl"))
    answered = Prediction("a.png", "dog", tuple(ranked[:2]), parent=Score("dog", 0.9, 1.0), other=other)
    assert Prediction.from_dict(answered.to_dict()) == answered
    assert other is not None
    assert csv_cells(answered)[1:5] == ("dog", "0.9", other.name, f"{other.probability:.6g}")
    family = dict.fromkeys(("beagle", "poodle", "tabby", "owl"), "animal")
    assert other_than(Score("animal", 1.0, 2.0), ranked, family) is None


def test_a_class_may_be_a_parent_and_a_parent_may_not_have_one() -> None:
    assert groups_of(["dog", "beagle", "owl"], {"beagle": "dog"}) == ["dog", "dog", "owl"]
    with pytest.raises(ModelError, match="'dog' is a parent and has the parent 'animal'"):
        groups_of(["dog", "beagle"], {"beagle": "dog", "dog": "animal"})


@pytest.mark.parametrize("value", ["{", "[]", '{"a": 1}'])
def test_a_damaged_file_is_refused(value: str, tmp_path: Path) -> None:
    head, _ = save(wrong_descriptors(1, 0), tmp_path)
    with pytest.raises(ModelError, match="its parents are not"):
        parents_in({"parents": value})
    ClassifierFile(tmp_path / "damaged.safetensors").write(load_head(head), {"parents": value})
    with pytest.raises(ModelError, match="is not a classifier file: its parents are not"):
        load_head(tmp_path / "damaged.safetensors")


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    """A classifier whose classes 0 and 1 have nearly the same texts and one parent, and labelled images."""
    posed = wrong_descriptors(2, 0)
    both = posed.rows[0:2] + posed.rows[2:4]
    posed.rows[0:2], posed.rows[2:4] = both, both + 0.01
    head, kept = save(posed, tmp_path)
    parents = json.dumps({"class 0": "both", "class 1": "both"})
    out = tmp_path / "pairs.safetensors"
    ClassifierFile(out).write(load_head(head), {"parents": parents})
    return out, kept


def test_classify_answers_with_the_parent_in_every_form(
    pairs: tuple[Path, Path], runner: CliRunner, tmp_path: Path
) -> None:
    given = ["classify", "--classifier", str(pairs[0]), "--image-embeddings", str(pairs[1]), "--back-off"]
    table = runner.invoke(main, given)
    assert table.exit_code == 0, table.output
    first = table.stdout.splitlines()[0]
    assert first.split()[1] == "both"
    lines = runner.invoke(main, [*given, "--format", "jsonl"]).stdout.splitlines()
    predictions = [json.loads(line) for line in lines]
    for line in predictions:
        children = [
            score["probability"] for score in line["scores"] if score["class"] in ("class 0", "class 1")
        ]
        if line["label"] == "both":
            assert line["parent"]["probability"] == pytest.approx(sum(children), abs=1e-5)
        else:
            assert "parent" not in line
        prediction = Prediction.from_dict(line)
        assert prediction.to_dict() == line
        assert prediction.best.name == line["label"]
    assert {line["label"] for line in predictions} == {"both", "class 2", "class 3"}
    rows = runner.invoke(main, [*given, "--format", "csv"]).stdout.splitlines()
    label, probability = rows[1].split(",")[1:3]
    assert label == "both"
    assert float(probability) > 0.9
    plain = runner.invoke(main, ["classify", "--classifier", str(pairs[0]), *given[3:5]])
    assert "both" not in plain.stdout


def test_back_off_needs_parents(tmp_path: Path) -> None:
    head, kept = save(wrong_descriptors(1, 0), tmp_path)
    classifier = fm.Classifier.load(head)
    with pytest.raises(UsageError, match="back_off has no effect: no class has a parent"):
        classifier.score(fm.EmbeddingSet(kept), back_off=True)


def test_evaluate_counts_both_levels(pairs: tuple[Path, Path], runner: CliRunner, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    given = ["evaluate", "--classifier", str(pairs[0]), "--image-embeddings", str(pairs[1])]
    result = runner.invoke(main, [*given, "--arms", "descriptors", "--report", str(page)])
    assert result.exit_code == 0, result.output
    assert "by broader class (1)" in result.stdout
    assert "with --back-off, " in result.stdout
    assert "Broader class, %" in page.read_text("utf-8")
    assert "Answered with a broader class" in page.read_text("utf-8")
    evaluated = fm.evaluate(classifier=pairs[0], embeddings=pairs[1], arms=["descriptors"])
    assert evaluated.parents == {"class 0": "both", "class 1": "both"}
    assert fm.Evaluation.from_dict(evaluated.to_dict()) == evaluated
    broad = evaluated.broader_hits(evaluated.arm).mean()
    assert broad > 0.8
    assert broad > np.mean(evaluated.arm.hits()) + 0.02


def test_evaluate_counts_what_backing_off_answers(pairs: tuple[Path, Path]) -> None:
    figures = fm.evaluate(classifier=pairs[0], embeddings=pairs[1], arms=["descriptors"]).back_off
    assert figures is not None
    classifier = fm.Classifier.load(pairs[0])
    predictions = [
        row
        for row in classifier.score(fm.EmbeddingSet(pairs[1]), back_off=True)
        if isinstance(row, Prediction)
    ]
    with np.load(pairs[1]) as archive:
        labels = archive["labels"].tolist()
    parents = {"class 0": "both", "class 1": "both"}
    broader = np.array([row.parent is not None for row in predictions])
    right = np.array(
        [row.label in (label, parents.get(label)) for row, label in zip(predictions, labels, strict=True)]
    )
    assert 0 < broader.sum() < len(broader)
    assert figures.images == len(labels)
    assert figures.broader.value == pytest.approx(broader.mean())
    assert figures.right.value == pytest.approx(right.mean())
    assert figures.right_broader is not None
    assert figures.right_broader.value == pytest.approx(right[broader].mean())
    assert figures.right_narrow is not None
    assert figures.right_narrow.value == pytest.approx(right[~broader].mean())
    damaged = fm.evaluate(classifier=pairs[0], embeddings=pairs[1]).to_dict()
    damaged["back_off"]["right"]["value"] = float("nan")
    with pytest.raises(EvaluationError, match="back_off: expected a number"):
        fm.Evaluation.from_dict(damaged)


def test_parents_of_two_levels_are_not_counted_and_said(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    nested = tmp_path / "nested.safetensors"
    parents = json.dumps({"class 0": "class 1", "class 1": "class 2"})
    head = load_head(pairs[0])
    ClassifierFile(nested).write(replace(head, metadata={"parents": parents}))
    with logged() as messages:
        result = fm.evaluate(classifier=nested, embeddings=pairs[1], arms=["descriptors"])
    assert not result.parents
    assert result.back_off is None
    assert any(message.startswith("broader classes are not counted: ") for message in messages)


def test_a_store_keeps_parents_through_new_answers(tmp_path: Path) -> None:
    store = fm.Store(tmp_path / "dogs.jsonl", create=True)
    store.append(fm.Entry("beagle", ("long ears",), parent=" dog "), fm.Entry("poodle", ("curls",)))
    store.append(fm.Entry("beagle", ("longer ears",), origin="generated"))
    assert store.parents() == {"beagle": "dog"}
