"""`fieldmarks compare` as a user runs it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.cli import main
from fieldmarks.evaluation.results import Evaluation

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on the same images and one on fewer."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"fieldmarks": "0.2", "store": "birds.jsonl", "model": "some/clip"}
    first = replace(evaluation(BIRDS[:4], 80, seeds=2), settings=settings)
    first.save(folder / "a.json")
    photo, descriptors, *others = first.arms
    arms = (photo, replace(descriptors, runs=photo.runs, top1=photo.top1), *others)
    replace(first, arms=arms).save(folder / "b.json")
    replace(evaluation(BIRDS[:4], 40, seeds=2), settings=settings).save(folder / "c.json")
    return folder


def _run(runner: CliRunner, *args: str | Path, code: int = 0) -> Result:
    result = runner.invoke(main, ["compare", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def test_two_runs_side_by_side(runner: CliRunner, runs: Path) -> None:
    result = _run(runner, runs / "a.json", runs / "b.json")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:3] == ["1  a.json: 80 images, 4 classes", "   birds.jsonl", "   some/clip"]
    heading = lines.index(f"{'descriptors':16}{'top-1':>20}{'mean per class':>20}{'vs 1, points':>24}")
    assert lines[heading + 1].startswith("  1 ")
    assert lines[heading + 2].split("(")[-1].count(" to ") == 1
    assert "\nb.json vs a.json, descriptors: −10.0 points (95% CI −22.2 to +2.5): no\n" in result.stdout
    assert result.stderr == "Read 2 runs.\n"


def test_other_settings_are_named_in_every_format(runner: CliRunner, runs: Path, tmp_path: Path) -> None:
    plain = json.loads((runs / "b.json").read_text())
    plain["settings"]["wanted"] = {"presets": ["paper"]}
    (tmp_path / "paper.json").write_text(json.dumps(plain))
    given = [runs / "a.json", tmp_path / "paper.json"]
    for form in ("table", "markdown", "latex"):
        assert "Differs in: preset none / paper." in _run(runner, *given, "--format", form).stdout
    lines = csv.DictReader(_run(runner, *given, "--format", "csv").stdout.removeprefix("\ufeff").splitlines())
    assert {(line["run"], line["differs_in"]) for line in lines} == {
        ("a.json", "preset none"),
        ("paper.json", "preset paper"),
    }


def test_a_run_on_other_images_is_shown_and_not_compared(runner: CliRunner, runs: Path) -> None:
    result = _run(runner, runs / "a.json", runs / "c.json")
    said = " ".join(result.stdout.split())
    assert "c.json is not compared: " in said
    assert result.stderr == "Read 2 runs, 1 of them not compared.\n"


@pytest.mark.slow
def test_a_page_of_runs_without_a_method_in_common(runner: CliRunner, runs: Path, tmp_path: Path) -> None:
    run = Evaluation.load(runs / "a.json")
    arms = tuple(
        replace(arm, name="descriptors paper", text="{class}") if arm.name == "descriptors" else arm
        for arm in run.arms
    )
    replace(run, arms=arms).save(tmp_path / "paper.json")
    _run(runner, runs / "a.json", tmp_path / "paper.json", "--report", tmp_path / "page.html")
    said = (tmp_path / "page.html").read_text("utf-8")
    assert "no difference for descriptors paper, as a.json has only photo, descriptors, " in said


@pytest.mark.slow
def test_page_table_and_charts(runner: CliRunner, runs: Path, tmp_path: Path) -> None:
    page, plots = tmp_path / "page.html", tmp_path / "plots"
    given: list[str | Path] = [runs / "a.json", runs / "b.json", "--report", page, "--save-plots", plots]
    for suffix, begins in {".md": "| Method |", ".csv": "\ufeffrun,", ".tex": "% needs"}.items():
        table = tmp_path / f"table{suffix}"
        result = _run(runner, *given, "-o", table, "--title", "Two runs", "--author", "A. Finch", "--force")
        assert result.stdout == ""
        assert result.stderr == f"Read 2 runs. Wrote {table}, {page} and {plots}.\n"
        assert table.read_text("utf-8").startswith(begins)
    assert sorted(path.name for path in plots.iterdir()) == [
        f"comparison.{form}" for form in ("pdf", "png", "svg")
    ]
    text = page.read_text("utf-8")
    assert "<title>Two runs</title>" in text
    assert "<dt>Author</dt><dd><bdi>A. Finch</bdi></dd>" in text


@pytest.mark.slow
def test_the_page_of_a_single_run_is_made_again(runner: CliRunner, runs: Path, tmp_path: Path) -> None:
    page, plots = tmp_path / "page.html", tmp_path / "plots"
    result = _run(runner, runs / "a.json", "--report", page, "--save-plots", plots)
    assert result.stdout.startswith("80 images, 4 classes; accuracy in %, 95% CI in brackets\n")
    assert "<title>Evaluation of 80 images in 4 classes</title>" in page.read_text("utf-8")
    assert (plots / "arms.pdf").read_bytes().startswith(b"%PDF")


def test_a_table_is_not_overwritten_unasked(runner: CliRunner, runs: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    table.write_text("mine")
    refused = _run(runner, runs / "a.json", "-o", table, code=1)
    said = "already exists: choose another name, or pass --force"
    assert refused.stderr == f"Error: {table} {said}\n"
    assert table.read_text() == "mine"
    _run(runner, runs / "a.json", "-o", table, "--force")
    assert table.read_text("utf-8").startswith("| Method |")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value"),
        ("run,store\na,b\n", "not a saved evaluation (`fieldmarks evaluate --json`): Expecting value"),
        ('{"class": "owl", "descriptors": []}\n', "not a saved evaluation (`fieldmarks evaluate --json`)\n"),
        ('{"v": 2, "arms": []}', "expected an evaluation of version 1, found 2"),
        (
            '{"v": 1, "kind": "learning curves"}',
            "holds learning curves; expected an evaluation, which `fieldmarks evaluate` writes without",
        ),
        ('{"v": 1}', "this is not an evaluation, or a damaged one: Object missing required field"),
        ("[" * 100_000, "recursion"),
        ('{"v": 1, "settings": {}, "fieldmarks', "Unterminated string"),
    ],
)
def test_a_damaged_or_foreign_file_is_one_line(
    runner: CliRunner, runs: Path, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    result = _run(runner, runs / "a.json", path, code=1)
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {path}")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert len(result.stderr) < 500


def test_a_huge_file_is_refused_before_it_is_read(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    result = _run(runner, path, code=1)
    assert result.stderr == f"Error: {path} has over 268,435,456 bytes: expected a smaller file\n"


def test_an_edited_figure_is_noticed(runner: CliRunner, runs: Path, tmp_path: Path) -> None:
    plain = json.loads((runs / "a.json").read_text())
    plain["arms"][1]["top1"]["value"] = 0.99
    (tmp_path / "better.json").write_text(json.dumps(plain))
    result = _run(runner, tmp_path / "better.json", code=1)
    assert "arm 'descriptors': top1 is not the share of its right answers" in result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["a.json", "a.json"], "is named twice"),
        (["a.json", "--force"], "--force goes with --output"),
        (["a.json", "-o", "table.txt"], "name a file that ends in .md, .csv, .tex, or pass --format"),
        (["a.json", "--title", "x"], "--title goes with --report FILE"),
        (["a.json", "--report", "a.json"], "is named twice"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage(
    runner: CliRunner, runs: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    monkeypatch.chdir(runs)
    assert said in _run(runner, *args, code=2).stderr
