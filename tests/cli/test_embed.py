"""`fieldmarks embed`: a folder that classify reads back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tests.kit import untimed

from fieldmarks.classification.embedder import Encoder
from fieldmarks.cli import main

pytest.importorskip("pyarrow")

EXACT = ("--dtype", "float32", "--engine", "torch")  # OpenVINO tells on stderr that it converts a model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store, two pictures and a broken one."""
    (tmp_path / "photos").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"hello")
    lines = [{"class": "owl", "descriptors": ["big eyes"]}, {"class": "newt", "descriptors": ["a long tail"]}]
    (tmp_path / "store.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_embedded_is_classified_the_same(runner: CliRunner, tiny_clip: Path, folder: Path) -> None:
    model = [*EXACT, "--clip", str(tiny_clip)]
    result = runner.invoke(main, ["embed", "photos", "--out", "embedded", *model])
    assert (result.exit_code, result.stdout) == (3, "")
    broken, *last = result.stderr.splitlines()
    assert broken.startswith("Error: photos/broken.png: not an image ")
    assert last == [
        "Added 2 images to embedded; it has 2 images. 1 input failed.",
    ]
    asked = ["classify", "--store", "store.jsonl", "--format", "jsonl", *model]
    direct = runner.invoke(main, [*asked, "photos/a.png", "photos/b.png"])
    through = runner.invoke(main, [*asked, "--image-embeddings", "embedded"])
    assert (through.exit_code, through.stderr) == (0, "Classified 2 images.\n")
    for splitline, other in zip(through.stdout.splitlines(), direct.stdout.splitlines(), strict=True):
        ours, theirs = json.loads(splitline), json.loads(other)
        assert (ours["image"], ours["label"]) == (theirs["image"], theirs["label"])
        assert ours["scores"][0]["logit"] == pytest.approx(theirs["scores"][0]["logit"], abs=1e-4)


def test_a_manifest_stands_for_the_images_that_it_lists(
    runner: CliRunner, tiny_clip: Path, folder: Path
) -> None:
    model = [*EXACT, "--clip", str(tiny_clip)]
    (folder / "list.csv").write_text(
        "image,label\nphotos/a.png,owl\nphotos/absent.png,owl\nphotos/b.png,newt\n"
    )
    result = runner.invoke(main, ["embed", "list.csv", "--out", "embedded", *model])
    assert (result.exit_code, untimed(result.stderr).splitlines()) == (
        3,
        [
            "list.csv: 3 images from column 'image'",
            "Error: photos/absent.png: cannot be read: No such file or directory",
            "Added 2 images to embedded; it has 2 images. 1 input failed.",
        ],
    )
    again = runner.invoke(main, ["embed", "photos/b.png", "list.csv", "--out", "embedded", *model])
    assert "Added 0 images to embedded (3 already there); it has 2 images. 1 input failed." in again.stderr


def test_a_manifest_lists_single_images_whatever_their_names_look_like(
    runner: CliRunner, tiny_clip: Path, folder: Path
) -> None:
    Path("photos/a.png").rename("-")
    Path("photos/b.png").rename("[1].png")
    lines = ["image", "-", "[1].png", "*.png", "photos", "more.tar", "https://me:secret@127.0.0.1/x.png"]
    (folder / "list.csv").write_text("\n".join(lines))
    model = [*EXACT, "--clip", str(tiny_clip)]
    result = runner.invoke(main, ["embed", "list.csv", "--out", "set", *model], input="elsewhere.png\n")
    assert (result.exit_code, untimed(result.stderr).splitlines()) == (
        3,
        [
            "list.csv: 6 images from column 'image'",
            "Error: *.png: cannot be read: No such file or directory",
            "Error: photos: a folder, not an image",
            "Error: more.tar: cannot be read: No such file or directory",
            "Error: https://127.0.0.1/x.png: list.csv lists an address: download the image and list its file",
            "Added 2 images to set; it has 2 images. 4 inputs failed.",
        ],
    )


def test_only_what_was_computed_is_told_of(runner: CliRunner, tiny_clip: Path, folder: Path) -> None:
    model = [*EXACT, "--clip", str(tiny_clip)]
    runner.invoke(main, ["embed", "photos/a.png", "--out", "embedded", *model])
    store = ["--store", "store.jsonl", "--save-classifier", "birds.safetensors"]
    runner.invoke(main, ["classify", "photos/a.png", *store, *model])
    asked = ["classify", "--classifier", "birds.safetensors"]
    kept = runner.invoke(main, [*asked, "--image-embeddings", "embedded"])
    only = (0, "Classified 1 image.\n")
    assert (kept.exit_code, kept.stderr) == only  # "auto" may be bfloat16 here, but nothing is computed
    fresh = runner.invoke(main, [*asked, "photos/a.png"])
    assert (fresh.exit_code, fresh.stderr.splitlines(keepends=True)[-1]) == only
    assert "Note: " not in fresh.stderr
    assert "full precision" not in fresh.stderr  # only -v tells
    verbose = runner.invoke(main, ["-v", *asked, "photos/a.png"])
    halved = Encoder(tiny_clip).dtype != "float32"
    assert ("; pass --dtype float32 for full precision" in verbose.stderr) == halved


@pytest.mark.slow
def test_a_saved_classifier_on_embeddings_loads_no_framework(
    runner: CliRunner, tiny_clip: Path, folder: Path
) -> None:
    model = [*EXACT, "--clip", str(tiny_clip)]
    runner.invoke(main, ["embed", "photos/a.png", "--out", "embedded", *model])
    store = ["--store", "store.jsonl", "--save-classifier", "birds.safetensors"]
    expected = runner.invoke(main, ["classify", "photos/a.png", *store, *model]).stdout
    script = (
        "import atexit, sys; from fieldmarks.cli import main\n"
        "heavy = {'torch', 'transformers', 'PIL', 'pandas'}\n"
        "atexit.register(lambda: print('loaded:', *sorted(heavy & set(sys.modules))))\n"
        "main()"
    )
    asked = ["classify", "--classifier", "birds.safetensors", "--image-embeddings", "embedded"]
    done = subprocess.run([sys.executable, "-c", script, *asked], capture_output=True, text=True, check=True)
    assert (done.stdout, untimed(done.stderr)) == (f"{expected}loaded:\n", "Classified 1 image.\n")


def test_another_models_embeddings_are_told(
    runner: CliRunner, tiny_clip: Path, demo_clip: Path, folder: Path
) -> None:
    runner.invoke(main, ["embed", "photos/a.png", "--out", "embedded", *EXACT, "--clip", str(tiny_clip)])
    asked = [
        "classify",
        "--store",
        "store.jsonl",
        "--image-embeddings",
        "embedded",
        *EXACT,
        "--clip",
        str(demo_clip),
    ]
    result = runner.invoke(main, asked)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == (
        f"Note: the classifier was built with {demo_clip}, but the images are embedded with {tiny_clip}"
    )


def test_a_sets_own_model_reads_the_texts_of_a_store(
    runner: CliRunner, tiny_clip: Path, folder: Path
) -> None:
    for name, label in (("a", "owl"), ("b", "newt")):
        (folder / "photos" / label).mkdir()
        (folder / "photos" / f"{name}.png").rename(folder / "photos" / label / f"{name}.png")
    (folder / "photos" / "broken.png").unlink()
    model = ["--clip", str(tiny_clip)]
    runner.invoke(main, ["embed", "photos", "--out", "embedded", *EXACT, *model], catch_exceptions=False)
    of_set = ["--store", "store.jsonl", "--image-embeddings", "embedded", *EXACT]
    for asked in (
        ["classify", "--format", "jsonl"],
        ["evaluate", "--arms", "photo,descriptors"],
        ["what-if", "owl", "--drop", "1", "--add", "a beak"],
        ["learn", "-o", "learned.safetensors", "--force"],
    ):
        named = runner.invoke(main, [*asked, *of_set, *model])
        unnamed = runner.invoke(main, [*asked, *of_set])
        assert (unnamed.exit_code, unnamed.stdout) == (0, named.stdout), unnamed.stderr
        assert untimed(unnamed.stderr) == untimed(named.stderr)


def test_a_second_run_does_only_what_is_new(runner: CliRunner, tiny_clip: Path, folder: Path) -> None:
    asked = ["embed", "photos/a.png", "photos/b.png", "--out", "set", *EXACT, "--clip", str(tiny_clip)]
    assert runner.invoke(main, asked).stderr.endswith("Added 2 images to set; it has 2 images.\n")
    again = runner.invoke(main, asked)
    assert (again.exit_code, again.stdout) == (0, "")
    assert again.stderr == "Added 0 images to set (2 already there); it has 2 images.\n"
    Path("photos/a.png").rename("photos/c.png")
    pruned = runner.invoke(main, ["embed", "photos/b.png", "photos/c.png", "--prune", *asked[3:]])
    counts = "(1 already there, 1 known under another name, 1 removed)"
    assert pruned.stderr == f"Added 1 image to set {counts}; it has 2 images.\n"


def test_a_set_of_another_model_or_without_a_manifest_is_left_alone(
    runner: CliRunner, tiny_clip: Path, demo_clip: Path, folder: Path
) -> None:
    asked = ["embed", "photos/a.png", "--out", "set", *EXACT, "--clip"]
    assert runner.invoke(main, [*asked, str(tiny_clip)]).exit_code == 0
    other = runner.invoke(main, [*asked, str(demo_clip)])
    message = f"was made with the model {tiny_clip}, not {demo_clip}: pass --clip {tiny_clip}"
    assert (other.exit_code, other.stderr) == (1, f"Error: set {message}\n")
    Path("set/manifest.json").unlink()
    old = runner.invoke(main, [*asked, str(tiny_clip)])
    assert old.exit_code == 1
    assert old.stderr.startswith("Error: set holds embeddings without a manifest.json, by clip-retrieval or")
