"""Results as text and files: each format exactly, and whole or not at all."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.conftest import failure, hostile, prediction

from fieldmarks.choices import ResultFormat
from fieldmarks.classification.result_files import (
    Result,
    ResultsFile,
    csv_cells,
    form_of,
    journal_line,
    text_of,
)
from fieldmarks.classification.results import (
    NONE_OF_THESE,
    Explanation,
    Failure,
    FileVersion,
    Mark,
    Prediction,
    Predictions,
    Score,
    shortened,
)
from fieldmarks.errors import ModelError, ReportError, UsageError

__all__ = ["failure", "hostile", "prediction"]


@pytest.fixture
def unsure(prediction: Prediction) -> Prediction:
    """The prediction, with a probability that was not enough."""
    return replace(prediction, image="photos/two.png", label=None)


@pytest.fixture
def nothing() -> Prediction:
    """A picture that the catch-all fits best."""
    return Prediction("photos/3 ü.png", None, (Score(NONE_OF_THESE, 0.75, 9.0), Score("owl", 0.25, 8.0)))


def _text(form: ResultFormat, *results: Result, baseline: bool = False) -> str:
    return "".join(text_of(form, results, baseline=baseline, model="fieldmarks 0, clip"))


def test_csv_has_a_row_for_each_image(
    prediction: Prediction, unsure: Prediction, nothing: Prediction
) -> None:
    marks = "tree frog: protruding eyes 25.5; a wide mouth 23.0 | owl: big eyes 24.1; a hooked beak -3.2"
    assert _text("csv", prediction, unsure, nothing, Failure('a,"b', "c\nd")) == (
        "\ufeffimage,label,probability,runner_up,runner_up_probability,marks,labels,reason\r\n"
        f"photos/one.png,tree frog,0.9,owl,0.1,{marks},,\r\n"
        f"photos/two.png,(unsure),0.9,owl,0.1,{marks},,\r\n"
        "photos/3 ü.png,(none of these),0.75,owl,0.25,,,\r\n"
        '"a,""b",(unreadable),,,,,,"c\nd"\r\n'
    )


def test_csv_with_a_baseline_has_two_columns_more(prediction: Prediction) -> None:
    rows = list(csv.reader(io.StringIO(_text("csv", prediction, Failure("a", "b"), baseline=True))))
    assert [row[8:] for row in rows] == [["baseline", "baseline_probability"], ["owl", "0.6"], ["", ""]]


def test_csv_of_one_class_and_of_relative_marks() -> None:
    explanation = Explanation((Mark("owl", "beak", 3.0, 1.5), Mark("owl", "eyes", 2.0, -0.5)), (), None)
    alone = Prediction("a.png", "owl", (Score("owl", 1.0, 3.0),), None, explanation)
    assert csv_cells(alone) == ("a.png", "owl", "1", None, None, "owl: beak +1.50; eyes -0.50", None, None)


def test_what_a_stranger_wrote_is_no_formula(prediction: Prediction) -> None:
    evil = '=HYPERLINK("http://x")'
    scores = (Score(evil, 0.9, 1.0), Score("@SUM", 0.1, 0.0))
    explanation = Explanation((Mark(evil, "-1", 1.0),), (), None)
    row = list(csv.reader(io.StringIO(_text("csv", Prediction("+a.png", evil, scores, None, explanation)))))[
        1
    ]
    assert row == ["'+a.png", f"'{evil}", "0.9", "'@SUM", "0.1", f"'{evil}: -1 1.0", "", ""]


@pytest.fixture
def doubtful(prediction: Prediction) -> Prediction:
    """What a calibrated classifier says of an image that fits no class, with its set of labels."""
    return replace(prediction, label=None, labels=("=1+1", "owl"), reason="its score is under 24.0")


def test_what_a_calibrated_classifier_says_is_in_every_format(
    tmp_path: Path, prediction: Prediction, doubtful: Prediction
) -> None:
    results = (prediction, doubtful, replace(doubtful, labels=()), Failure("b", "-why"))
    rows = list(csv.DictReader(io.StringIO(_text("csv", *results).removeprefix("\ufeff"))))
    assert [(row["labels"], row["reason"]) for row in rows] == [
        ("", ""),
        ("'=1+1; owl", "its score is under 24.0"),
        ("'", "its score is under 24.0"),  # an empty set, which is not the same as none
        ("", "'-why"),
    ]
    data = [task["data"] for task in json.loads(_text("label-studio", *results))]
    assert [(of.get("labels"), of.get("reason")) for of in data] == [
        *((None, None), ("=1+1; owl", "its score is under 24.0"), ("", "its score is under 24.0")),
        (None, None),
    ]
    parquet = pytest.importorskip("pyarrow.parquet")
    ResultsFile(tmp_path / "a.parquet").write(results)
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert [(row["labels"], row["reason"]) for row in rows] == [
        (None, None),
        (["=1+1", "owl"], "its score is under 24.0"),
        ([], "its score is under 24.0"),
        (None, None),
    ]
    pytest.importorskip("pandas")
    table = Predictions([prediction, doubtful], ("tree frog", "owl")).to_pandas()
    assert (table["labels"][1], table["reason"][1]) == (("=1+1", "owl"), "its score is under 24.0")
    assert table.isna()[["labels", "reason"]].values.tolist() == [[True, True], [False, False]]


def test_json_lines_say_why_there_is_no_label(
    prediction: Prediction, unsure: Prediction, nothing: Prediction
) -> None:
    lines = [json.loads(line) for line in _text("jsonl", prediction, unsure, nothing).splitlines()]
    assert [(line["label"], line.get("abstained")) for line in lines] == [
        ("tree frog", None),
        (None, "unsure"),
        (None, "none of these"),
    ]
    assert Prediction.from_dict(lines[1]).to_dict() == lines[1]
    assert _text("jsonl", Failure("a", "b")) == '{"image":"a","error":"b"}\n'


def test_a_line_of_a_journal_has_the_version_of_the_file(prediction: Prediction) -> None:
    line = journal_line(replace(prediction, version=FileVersion("ab", (1, 2, 3))))
    assert json.loads(line)["file"] == {"size": 1, "mtime_ns": 2, "ctime_ns": 3, "sha256": "ab"}


def test_tasks_of_label_studio(prediction: Prediction, unsure: Prediction, nothing: Prediction) -> None:
    tasks = json.loads(_text("label-studio", prediction, unsure, nothing, Failure("a b.png", "why")))
    assert [task["data"]["label"] for task in tasks] == [
        *("tree frog", "(unsure)", "(none of these)", "(unreadable)"),
    ]
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=photos/one.png"
    assert tasks[2]["data"]["image"] == "/data/local-files/?d=photos/3%20%C3%BC.png"
    assert tasks[0]["predictions"] == [
        {
            "model_version": "fieldmarks 0, clip",
            "score": 0.9,
            "result": [
                {
                    "id": "fieldmarks-0",
                    "from_name": "label",
                    "to_name": "image",
                    "type": "choices",
                    "value": {"choices": ["tree frog"]},
                }
            ],
        }
    ]
    assert [task["predictions"] for task in tasks[1:]] == [[], [], []]
    assert json.loads(_text("label-studio")) == []


def test_parquet_has_the_columns_of_csv_and_more(
    tmp_path: Path, prediction: Prediction, unsure: Prediction, nothing: Prediction
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    ResultsFile(tmp_path / "a.parquet").write([prediction, unsure, nothing, Failure("a", "why")])
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == [
        *("image", "label", "probability", "runner_up", "runner_up_probability", "marks"),
        *("scores", "abstained", "labels", "reason", "baseline", "baseline_probability", "error"),
    ]
    rows = table.to_pylist()
    assert [(row["label"], row["abstained"], row["error"]) for row in rows] == [
        ("tree frog", None, None),
        (None, "unsure", None),
        (None, "none of these", None),
        (None, None, "why"),
    ]
    assert rows[0]["probability"] == pytest.approx(0.9)
    assert (rows[0]["runner_up"], rows[0]["baseline"]) == ("owl", "owl")
    assert rows[0]["marks"][1] == {
        "class": "tree frog",
        "descriptor": "a wide mouth",
        "logit": 23.0,
        "z": None,
    }
    assert [score["class"] for score in rows[0]["scores"]] == ["tree frog", "owl"]
    assert rows[3]["scores"] is None


@pytest.mark.parametrize("form", ["csv", "jsonl", "label-studio"])
def test_a_file_holds_the_text_that_is_printed(
    tmp_path: Path, form: ResultFormat, prediction: Prediction, hostile: Prediction, failure: Failure
) -> None:
    path = tmp_path / {"label-studio": "a.json"}.get(form, f"a.{form}")
    results: list[Result] = [prediction, hostile, failure]
    ResultsFile(path, form).write(results, baseline=True, model="m")
    assert path.read_bytes().decode() == "".join(text_of(form, results, baseline=True, model="m"))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        ("a.csv", None, "csv"),
        ("a.JSONL", None, "jsonl"),
        ("a.parquet", "parquet", "parquet"),
        ("a.json", "label-studio", "label-studio"),
        ("a.json", None, "pass --format label-studio"),
        ("a.txt", None, "ends in .csv, .jsonl or .parquet"),
        ("a", None, "ends in .csv, .jsonl or .parquet"),
        ("-", None, "ends in .csv, .jsonl or .parquet"),
        ("a.csv", "jsonl", "ends in .jsonl for the format jsonl"),
        ("a.csv", "table", "the format table is for the terminal only"),
    ],
)
def test_the_suffix_says_the_format(name: str, asked: ResultFormat | None, found: str) -> None:
    if " " not in found:
        assert form_of(Path(name), asked) == found
        return
    with pytest.raises(UsageError, match=found):
        form_of(Path(name), asked)


def test_no_file_is_overwritten_unasked(tmp_path: Path, prediction: Prediction) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mine")
    with pytest.raises(ReportError, match="already exists: choose another name, or pass --force"):
        ResultsFile(path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ReportError, match="is a folder"):
        ResultsFile(tmp_path / "folder.csv", force=True)
    with pytest.raises(ReportError, match="its folder does not exist"):
        ResultsFile(tmp_path / "none" / "a.csv")
    assert path.read_text() == "mine"
    late = ResultsFile(tmp_path / "late.csv")
    (tmp_path / "late.csv").write_text("somebody else's")
    with pytest.raises(ReportError, match="already exists"):
        late.write([prediction])
    assert (tmp_path / "late.csv").read_text() == "somebody else's"
    ResultsFile(path, force=True).write([prediction])
    assert "tree frog" in path.read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("the model is gone")])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_an_interrupted_run_writes_what_is_done_and_replaces_nothing(
    tmp_path: Path, prediction: Prediction, error: BaseException, name: str
) -> None:
    pytest.importorskip("pyarrow")

    def results() -> Iterator[Prediction]:
        yield prediction
        yield prediction
        raise error

    path = tmp_path / name
    file = ResultsFile(path)
    with pytest.raises(type(error)):
        file.write(results())
    assert file.written == 2
    before = path.read_bytes()
    if name == "a.csv":
        assert before.count(b"\r\n") == 3
    again = ResultsFile(path, force=True)
    with pytest.raises(type(error)):
        again.write(results())
    assert again.written == 0
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_detail_cuts_a_prediction(prediction: Prediction) -> None:
    assert prediction.explanation
    third = (Mark("newt", "a long tail", 2.0),)
    whole = replace(prediction, explanation=replace(prediction.explanation, further=(third,)))
    assert shortened(whole, top=1) == replace(
        prediction, scores=prediction.scores[:1], baseline=None, explanation=None
    )
    by_count = [shortened(whole, top=2, explain_top=count, baseline=True) for count in (1, 2, 3, 9)]
    explanations = [cut.explanation for cut in by_count if isinstance(cut, Prediction)]
    assert [len(explanation.by_class) for explanation in explanations if explanation] == [1, 2, 3, 3]
    assert explanations[0] == Explanation(prediction.explanation.predicted, (), None)
    assert explanations[1] == prediction.explanation
    assert explanations[2] == whole.explanation
    assert Prediction.from_dict(whole.to_dict()).explanation == whole.explanation
    assert shortened(Failure("a", "b"), top=1) == Failure("a", "b")
