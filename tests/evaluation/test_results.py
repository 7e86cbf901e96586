"""An evaluation as plain data, as a file and as a table: what is read is what was written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.errors import EvaluationError
from fieldmarks.evaluation.results import Evaluation


@pytest.fixture(scope="module")
def made() -> Evaluation:
    """Three classes with effects, examples and failures."""
    birds = evaluation(BIRDS[:3], 60, seeds=2)
    return replace(birds, settings={"fieldmarks": "0.2.0", "data": {"spec": "photos"}})


def test_a_file_is_read_as_it_was_written(made: Evaluation, tmp_path: Path) -> None:
    made.save(tmp_path / "run.json")
    made.save(tmp_path / "run.json")  # an earlier evaluation is replaced
    read = Evaluation.load(tmp_path / "run.json")
    assert read == made
    assert Evaluation.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert [example.label for example in read.examples] == [example.label for example in made.examples]
    assert read.arm.name == "descriptors"
    assert read.baseline is not None
    assert read.baseline.role == "baseline"
    assert read.effects == made.effects


def test_images_that_are_one_count_once(made: Evaluation) -> None:
    repeated = replace(made, repeats=((3, 7, 59), (4, 5)))
    assert repeated.distinct.tolist() == [n for n in range(60) if n not in (5, 7, 59)]
    assert made.distinct.tolist() == list(range(60))
    assert Evaluation.from_dict(json.loads(json.dumps(repeated.to_dict()))) == repeated
    assert repeated != made


def test_what_differs_is_not_equal(made: Evaluation) -> None:
    assert made != replace(made, summary=("otherwise",))
    assert made != "an evaluation"


def test_files_of_version_0_1_are_read(made: Evaluation, tmp_path: Path) -> None:
    plain = made.to_dict()
    for arm in plain["arms"]:
        del arm["role"]
    del plain["repeats"]
    for example in plain["examples"]:
        del example["true"]
    (tmp_path / "old.json").write_text(json.dumps(plain))
    assert Evaluation.load(tmp_path / "old.json") == made


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value"),
        ("[]", "expected one JSON object"),
        ('{"v": 2}', "expected an evaluation of version 1, found 2"),
        (
            '{"v": 1, "settings": {}}',
            "an evaluation, or a damaged one: Object missing required field `summary`",
        ),
        (
            '{"v": 1, "classes": 3}',
            "or a damaged one: Expected `array`, got `int` - at `$.classes`",
        ),
        (
            '{"v": 1, "settings": {}, "classes": ["owl"], "images": ["a"], "labels": [0], "arms": [],'
            ' "summary": [], "notices": [], "failures": [], "effects": [], "examples": []}',
            "expected at least one image and one arm",
        ),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_evaluation(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(EvaluationError) as caught:
        Evaluation.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_no_other_file_is_replaced(made: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(EvaluationError, match="already exists and is not a fieldmarks evaluation"):
        made.save(tmp_path / "mine.json")
    with pytest.raises(EvaluationError, match="cannot be written: its folder does not exist"):
        made.save(tmp_path / "none" / "run.json")
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_a_row_an_arm(made: Evaluation) -> None:
    pytest.importorskip("pandas")
    table = made.to_pandas()
    assert table["arm"].tolist() == ["photo", "descriptors", "waffle", "swapped"]
    assert table["role"].tolist() == ["baseline", "subject", "control", "control"]
    assert table["top1"].tolist() == [arm.top1.value for arm in made.arms]
    assert table["difference_low"].isna().tolist() == [True, False, False, False]


def test_how_it_shows_itself(made: Evaluation) -> None:
    figures = ", ".join(f"{arm.name} {100 * arm.top1.value:.1f}%" for arm in made.arms)
    assert repr(made) == f"<Evaluation of 60 images, 3 classes: {figures}>"
    hostile = replace(made, arms=(replace(made.arms[0], name="<script>"),))
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;script&gt;" in hostile._repr_html_()
