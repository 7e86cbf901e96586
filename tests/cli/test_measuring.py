"""`evaluate` and `what-if` from the command line on a tiny model: quick, and what both share."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.kit import write_store

from fieldmarks.cli import main

LISTS = {"owl": ["big eyes", "a hooked beak"], "newt": ["a long tail"], "toad": ["warts"]}
TEXTS = ["--text", "{class}, a {concept} with {descriptor}", "--with-name", "--concept", "beast"]


@pytest.fixture
def world(tmp_path: Path, tiny_clip: Path) -> list[str]:
    """The arguments that name the data set, the store and the model."""
    write_store(tmp_path / "store.jsonl", LISTS)
    for number in range(6):
        folder = tmp_path / "photos" / list(LISTS)[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * number, 255 - 40 * number, 0)).save(folder / f"{number}.png")
    return [str(tmp_path / "photos"), "--store", str(tmp_path / "store.jsonl"), "--clip", str(tiny_clip)]


def _run(runner: CliRunner, *words: str, code: int = 0) -> Result:
    result = runner.invoke(main, list(words))
    assert result.exit_code == code, result.output
    return result


def test_evaluate_prints_what_it_measured(runner: CliRunner, world: list[str]) -> None:
    result = _run(runner, "evaluate", *world, "--ablate", "--seeds", "2")
    lines = result.stdout.splitlines()
    assert lines[0] == "6 images, 3 classes; accuracy in %, 95% CI in brackets"
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        "photo",
        "descriptors",
        "waffle (of 2)",
        "swapped (of 2)",
    ]
    assert "leave-one-out effect of each descriptor (top-1 points; margin in logits)" in lines
    assert any(line.startswith("6 images are few: ") for line in lines)
    assert result.stderr.splitlines()[-2:] == [
        "6 images in 3 classes, 2 each",
        "Evaluated 4 arms on 6 images.",
    ]


def test_evaluate_reads_the_texts_that_are_asked_for(runner: CliRunner, world: list[str]) -> None:
    plain = json.loads(_run(runner, "evaluate", *world, *TEXTS, "--json", "-").stdout)
    texts = {arm["name"]: arm["texts"] for arm in plain["arms"]}
    assert texts["descriptors"] == [
        "owl, a beast with big eyes",
        "owl, a beast with a hooked beak",
        "a photo of a owl",
    ]
    assert texts["concept"][0] == "a photo of a beast: a owl"
    assert [arm["role"] for arm in plain["arms"]] == ["baseline", "other", "subject", "control", "control"]


def test_what_if_names_what_is_dropped(runner: CliRunner, world: list[str]) -> None:
    lines = _run(runner, "what-if", "owl", *world, "--drop", "2", "--add", "red eyes").stdout.splitlines()
    assert lines[:2] == ["owl without 'a hooked beak'", "owl with 'red eyes'"]
    assert lines[2].startswith("accuracy: ")
    assert lines[2].endswith("% after, on 6 images")
    titles = [line.partition(":")[0] for line in lines[3:] if not line.startswith(" ")]
    assert titles == ["newly wrong", "newly right", "wrong both times, answer changed"]


@pytest.mark.slow
def test_what_if_reads_the_same_texts(runner: CliRunner, world: list[str]) -> None:
    found = json.loads(_run(runner, "what-if", "owl", *world, *TEXTS, "--drop", "2", "--json").stdout)
    plain = json.loads(
        _run(runner, "evaluate", *world, *TEXTS, "--arms", "descriptors", "--json", "-").stdout
    )
    arm = next(arm for arm in plain["arms"] if arm["name"] == "descriptors")
    assert found["accuracy_before"] == arm["top1"]["value"]
    assert (found["dropped"], found["added"]) == (["a hooked beak"], [])


@pytest.mark.slow
def test_notes_are_printed_once(runner: CliRunner, world: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "kiwi").mkdir()
    (tmp_path / "photos" / "kiwi" / "0.png").write_bytes((tmp_path / "photos" / "owl" / "0.png").read_bytes())
    note = "Note: left out: labels without a class in the store: 'kiwi'"
    for command in (["evaluate"], ["what-if", "owl"]):
        change = [] if command == ["evaluate"] else ["--drop", "1"]
        result = _run(runner, *command, *world, *change, "--allow-missing")
        assert result.stderr.splitlines().count(note) == 1
