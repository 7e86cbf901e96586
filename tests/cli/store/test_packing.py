"""`store pack` and `store page`, from the command line."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import write_store
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks.cli import main
from fieldmarks.evaluation.results import Evaluation


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_store(Path("birds.jsonl"), {name: ["a beak", "may sing"] for name in BIRDS}).name


def test_a_pack(runner: CliRunner, file: str) -> None:
    done = runner.invoke(main, ["store", "pack", file, "pack", "--title", "Birds", "--licence", "mit"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "Packed 10 classes in pack.\n")
    card = Path("pack/README.md").read_text()
    assert 'license: "mit"' in card
    assert "| FM302 | 10 |" in card
    again = runner.invoke(main, ["store", "pack", file, "pack"])
    assert (again.exit_code, again.stderr) == (1, "Error: pack already exists: choose another name\n")
    unset = runner.invoke(main, ["store", "pack", file, "other"])
    assert "No licence is set: pass --licence before you publish it." in unset.stderr


def test_figures_with_their_controls(runner: CliRunner, file: str) -> None:
    run = evaluation()
    plain = run.to_dict()
    plain["settings"] |= {"store_sha256": "x", "model": "/home/ada/clip", "data": {"spec": "/home/ada/birds"}}
    Evaluation.from_dict(plain).save("run.json")
    done = runner.invoke(main, ["store", "pack", file, "pack", "--evaluation", "run.json"])
    assert done.exit_code == 0, done.stderr
    card = Path("pack/README.md").read_text()
    assert f"On {len(run.labels):,} images of birds with clip, controls included" in card
    assert "The lists may have changed since" in card
    assert "/home/ada" not in card
    rows = [
        line.split(" | ")[:2] for line in card.splitlines() if " | control | " in line or "baseline |" in line
    ]
    assert ["| waffle", "control"] in rows
    assert ["| photo", "baseline"] in rows
    write_store(Path(file), {"owl": ["x"]})
    other = runner.invoke(main, ["store", "pack", file, "pack2", "--evaluation", "run.json"])
    assert other.exit_code == 1
    assert f"run.json is not an evaluation of birds.jsonl, which has no class {BIRDS[0]!r}" in other.stderr
    assert not Path("pack2").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--author", "A", "--no-authors"], "give either --author or --no-authors"),
        (["--licence", "my own words"], "--licence 'my own words': expected an id such as cc-by-4.0"),
        (["--language", "English"], "--language 'English': expected a code such as en or pt-BR"),
    ],
)
def test_wrong_usage(runner: CliRunner, file: str, options: list[str], message: str) -> None:
    result = runner.invoke(main, ["store", "pack", file, "pack", *options])
    assert (result.exit_code, message in result.stderr, Path("pack").exists()) == (2, True, False)


def test_a_page(runner: CliRunner, file: str) -> None:
    done = runner.invoke(main, ["store", "page", file, "page.html", "--title", "My birds"])
    assert (done.exit_code, done.stderr) == (0, "Wrote a page of 10 classes to page.html.\n")
    assert "<title>My birds</title>" in Path("page.html").read_text()
    refused = runner.invoke(main, ["store", "page", file, file])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "birds.jsonl already exists and is not a fieldmarks report" in refused.stderr
