"""`fieldmarks learn` as a user runs it, on drawn pictures and the shipped CLIP."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.evaluation.worlds import draw_species
from tests.kit import write_store

from fieldmarks.classification.classifier_file import load_head
from fieldmarks.cli import main
from fieldmarks.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of four species, and a store in which each also has the traits of others."""
    folder = tmp_path_factory.mktemp("species")
    store = draw_species(folder, 4, 12)
    entries = {entry.name: entry.descriptors for entry in Store(store).entries()}
    names = list(entries)
    damaged = {
        name: (*entries[name][:2], *entries[names[at - 1]][:2], *entries[names[at - 2]][:2])
        for at, name in enumerate(names)
    }
    write_store(folder / "damaged.jsonl", damaged)
    return folder


def _learn(runner: CliRunner, *given: str, code: int = 0) -> Result:
    result = runner.invoke(main, ["learn", *given])
    assert result.exit_code == code, result.output
    return result


def test_from_images_to_a_classifier_that_explains_itself(
    runner: CliRunner, species: Path, demo_clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "learned.safetensors"
    args = [str(species / "pictures"), "--store", str(species / "damaged.jsonl"), "--clip", str(demo_clip)]
    result = _learn(runner, *args, "--shots", "8", "-o", str(out))
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Learned from 32 images: strength ")
    assert "-fold cross-validation" in last
    assert "; expected accuracy " in last
    assert f"Wrote {out}" in last
    assert result.stdout == ""

    again = _learn(runner, *args, "-o", str(out), code=1)
    assert "already exists: choose another name, or pass --force" in again.stderr
    _learn(runner, *args, "-o", str(out), "--force", "--strength", "inf")
    assert not load_head(out).is_learned
    few = _learn(runner, *args, "-o", str(out), "--force", "--descriptors", "4")
    assert [line.split()[0] for line in few.stdout.splitlines()[1:]] == ["6", "5", "4"]
    assert "4 descriptors of each class: expected accuracy " in few.stderr
    _learn(runner, *args, "-o", str(out), "--force", "--shots", "8")

    picture = str(next((species / "pictures").glob("*/0.png")))
    shown = runner.invoke(main, ["classify", picture, "--classifier", str(out), "--explain"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("×") == 12
    assert shown.stdout.count("(class offset)") == 2
    page = tmp_path / "page.html"
    runner.invoke(main, ["classify", picture, "--classifier", str(out), "--report", str(page)])
    shown_page = page.read_text("utf-8")
    assert shown_page.count(" ×") >= 12
    assert shown_page.count(">class offset<") == 2
    assert "The parts of all descriptors and the class offset add up to the logit" in shown_page
    figures = runner.invoke(
        main, ["evaluate", str(species / "pictures"), "--classifier", str(out), "--json", "-"]
    )
    plain = json.loads(figures.stdout)
    assert [arm["name"] for arm in plain["arms"]] == ["photo", "descriptors"]
    assert any(
        text.startswith("this classifier was learned or calibrated on 32 of 48") for text in plain["notices"]
    )


def test_an_unreadable_image_is_named_and_the_rest_is_learned(
    runner: CliRunner, tmp_path: Path, demo_clip: Path
) -> None:
    store = draw_species(tmp_path, 2, 4)
    broken = next((tmp_path / "pictures").glob("*/3.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    args = [str(tmp_path / "pictures"), "--store", str(store), "--clip", str(demo_clip)]
    result = _learn(runner, *args, "-o", str(tmp_path / "out.safetensors"), code=3)
    assert "Learned from 7 images" in result.stderr
    assert result.stderr.count(str(broken)) == 1
    assert " 1 input failed." in result.stderr.splitlines()[-1]
    assert load_head(tmp_path / "out.safetensors").digests is not None


def test_nothing_is_read_where_the_file_cannot_be_written(
    runner: CliRunner, tmp_path: Path, demo_clip: Path
) -> None:
    args = [str(tmp_path), "--store", str(tmp_path / "no.jsonl"), "--clip", str(demo_clip), "--force"]
    (tmp_path / "mine.txt").write_text("precious")
    result = _learn(runner, *args, "-o", str(tmp_path / "mine.txt"), code=1)
    assert "mine.txt" in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "precious"
