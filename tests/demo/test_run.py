"""The demo's promise: both stages, offline, on the shipped models, with the figures it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fieldmarks.cli import main
from fieldmarks.demo.species import demo_species
from fieldmarks.store import Store

CHANCE = 1 / 12
SPREAD = (CHANCE * (1 - CHANCE) / 12) ** 0.5  # standard deviation of twelve hits or misses


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "creatures"


@pytest.fixture(scope="module")
def figures(demo_folder: Path) -> dict[str, object]:
    """The figures of one run in a process without network, keys or a cached model."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI", "HF_"))}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(demo_folder.parent / "no-hub")}
    command = [sys.executable, "-m", "fieldmarks", "demo", "--json", "--out", str(demo_folder)]
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    figures: dict[str, object] = json.loads(shown.stdout)
    return figures


@pytest.mark.slow
def test_descriptors_beat_the_name_alone(figures: dict[str, object], demo_folder: Path) -> None:
    assert list(figures) == [
        "species",
        "images",
        "accuracy_descriptors",
        "accuracy_name",
        "descriptor_recall",
        "seconds",
        "store",
        "images_dir",
        "page",
    ]
    assert (figures["species"], figures["images"]) == (12, 240)
    assert float(str(figures["accuracy_descriptors"])) >= 0.95
    # A name hits or misses its species nearly as a whole, so chance has a spread of 8 points over twelve.
    assert float(str(figures["accuracy_name"])) <= CHANCE + 2 * SPREAD
    assert float(str(figures["descriptor_recall"])) >= 0.95
    assert Path(str(figures["store"])) == demo_folder / "demo.jsonl"


@pytest.mark.slow
def test_every_descriptor_came_through_generation(figures: dict[str, object]) -> None:
    entries = list(Store(str(figures["store"])).entries())
    assert {entry.name for entry in entries} == set(demo_species())
    assert all(entry.origin == "generated" and entry.answer and entry.descriptors for entry in entries)


@pytest.mark.slow
def test_a_second_run_asks_nothing_and_keeps_what_was_edited(
    figures: dict[str, object], demo_folder: Path, runner: CliRunner
) -> None:
    store = demo_folder / "demo.jsonl"
    with store.open("a", encoding="utf-8") as file:
        file.write('{"class": "' + next(iter(demo_species())) + '", "descriptors": ["a bushy tail"]}\n')
    before = store.read_bytes()
    result = runner.invoke(main, ["demo", "--out", str(demo_folder)])
    assert result.exit_code == 0
    assert store.read_bytes() == before
    assert "toy models" in result.stdout
    assert "by design" in " ".join(result.stdout.split())
    page = demo_folder / "result.html"
    assert result.stdout.splitlines()[-1] == f"Page    {page}"
    assert result.stderr.splitlines()[-1].endswith(f"Open {page} in a browser to see each with its reasons.")
    assert page.read_text("utf-8").count("<img") >= 240


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80])
def test_nothing_is_wider_than_the_terminal(
    figures: dict[str, object],
    demo_folder: Path,
    runner: CliRunner,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(demo_folder.parent)
    lines = runner.invoke(main, ["demo", "--out", demo_folder.name]).stdout.splitlines()
    images = [line for line in lines if "(name alone: " in line]  # a path has what length it has
    assert len(images) == 1
    assert max(len(line) for line in lines if line not in images) <= columns
    chart = [line for line in lines if line.startswith("   by ")]
    assert [line.count("█") > 0 for line in chart] == [True, True, True]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, runner: CliRunner) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = runner.invoke(main, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: {tmp_path} holds 'thesis.txt', which the demo did not write: pass another folder with --out"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
