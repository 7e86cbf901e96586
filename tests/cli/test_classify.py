"""`fieldmarks classify` as a user meets it: forms of output, exit codes, bad input, going on again."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tests.kit import write_store
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from fieldmarks.choices import DEFAULT_CLIP, Aggregation, words
from fieldmarks.classification.journal import Journal
from fieldmarks.cli import main
from fieldmarks.cli.classify import classify as command

CLASSES: dict[str, list[str]] = {
    "tree frog": ["protruding eyes", "a wide mouth"],
    "owl": ["big eyes", "a hooked beak", "feathers"],
    "newt": ["a long tail"],
}

EXACT = ("--dtype", "float32", "--engine", "torch")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store and three pictures, higher than wide as those of the seeds' numbers."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        image = Image.effect_mandelbrot((40 + number, 60), (-2 + number / 2, -1.5, number / 2, 1.5), 60)
        tint = Image.new("RGB", image.size, (90 * number, 200 - 90 * number, 90))
        Image.blend(image.convert("RGB"), tint, 0.5).save(tmp_path / "photos" / f"{number}.png")
    write_store(tmp_path / "store.jsonl", CLASSES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Classify:
    """Runs `fieldmarks classify` on the working folder's store and a model.

    In float32, as numbers are compared and what "auto" takes depends on the machine; by torch, as the first
    use of OpenVINO tells that it converts the model.
    """

    def __init__(self, runner: CliRunner, clip: Path) -> None:
        self.runner, self.clip = runner, clip

    def __call__(self, *options: str, stdin: str | None = None, store: bool = True) -> Result:
        given = ["--store", "store.jsonl"] if store else []
        return self.runner.invoke(
            main, ["classify", *EXACT, "--clip", str(self.clip), *given, *options], input=stdin
        )


@pytest.fixture
def classify(runner: CliRunner, tiny_clip: Path, folder: Path) -> Classify:
    """The command on the model of random weights."""
    return Classify(runner, tiny_clip)


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@torch.no_grad()
def _seeds(clip: Path, paths: list[str]) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """The article's probabilities, its descriptors' scores, and the plain baseline's probabilities."""
    model, tokenizer = CLIPModel.from_pretrained(clip), AutoTokenizer.from_pretrained(clip)
    processor = AutoImageProcessor.from_pretrained(clip)  # type: ignore[no-untyped-call]
    pixels = processor(images=[Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
    images = model.visual_projection(model.vision_model(**pixels).pooler_output)
    images = images / images.norm(dim=-1, keepdim=True)
    scale = model.logit_scale.exp()
    rows, scores = [], []
    for own in CLASSES.values():
        states = model.text_model(**tokenizer(own, padding=True, return_tensors="pt")).pooler_output
        mean, each = model.text_projection(states.mean(dim=0)), model.text_projection(states)
        rows.append(mean / mean.norm())
        scores.append(scale * images @ (each / each.norm(dim=-1, keepdim=True)).T)
    names = tokenizer([f"a photo of a {name}" for name in CLASSES], padding=True, return_tensors="pt")
    plain = model(**names, **pixels).logits_per_image.softmax(dim=-1)
    shares = (scale * images @ torch.stack(rows).T).softmax(dim=-1)
    return shares.tolist(), torch.cat(scores, dim=1).tolist(), plain.tolist()


@pytest.mark.parametrize("model", ["tiny_clip", "demo_clip"])
def test_the_seeds_numbers(
    runner: CliRunner, folder: Path, model: str, request: pytest.FixtureRequest
) -> None:
    clip: Path = request.getfixturevalue(model)
    result = Classify(runner, clip)("photos", "--format", "jsonl", "--explain", "--baseline")
    assert (result.exit_code, result.stderr) == (0, "Classified 3 images.\n")
    lines = _lines(result.stdout)
    shares, scores, plain = _seeds(clip, [line["image"] for line in lines])
    columns = [(name, descriptor) for name, own in CLASSES.items() for descriptor in own]
    for line, row, marks, names in zip(lines, shares, scores, plain, strict=True):
        probabilities = {score["class"]: score["probability"] for score in line["scores"]}
        assert probabilities == pytest.approx(dict(zip(CLASSES, row, strict=True)), abs=1e-4)
        known = dict(zip(columns, marks, strict=True))
        assert len(line["marks"]) == sum(len(CLASSES[item["class"]]) for item in line["scores"][:2])
        for mark in line["marks"]:
            assert mark["logit"] == pytest.approx(known[mark["class"], mark["descriptor"]], abs=1e-4)
        best = max(range(3), key=names.__getitem__)
        assert line["baseline"]["class"] == list(CLASSES)[best]
        assert line["baseline"]["probability"] == pytest.approx(names[best], abs=1e-4)


def test_json_lines_are_the_contract(classify: Classify) -> None:
    result = classify("photos/0.png", "none.png", "--format", "jsonl")
    first, second = _lines(result.stdout)
    assert list(first) == ["image", "label", "scores"]
    assert [list(score) for score in first["scores"]] == [["class", "probability", "logit"]] * 3
    assert (first["image"], first["label"]) == ("photos/0.png", first["scores"][0]["class"])
    assert second == {"image": "none.png", "error": "cannot be read: No such file or directory"}
    assert result.stderr.splitlines() == [
        "Error: none.png: cannot be read: No such file or directory",
        "Classified 1 image. 1 input failed.",
    ]
    assert result.exit_code == 3


def test_a_table(classify: Classify) -> None:
    (line,) = _lines(classify("photos/0.png", "--format", "jsonl", "--explain").stdout)
    best, second, _ = line["scores"]
    width = len("tree frog")
    table = classify("photos/0.png", "--top", "2").stdout
    assert table == (
        f"{best['probability']:6.1%}  {best['class']:<{width}}  photos/0.png\n"
        f"{second['probability']:6.1%}  {second['class']}\n"
    )
    explained = classify("photos/0.png", "--explain").stdout.splitlines()
    assert [text.strip().split("  ")[0] for text in explained[1:2]] == [best["class"]]
    assert len(explained) == 1 + 2 + len(line["marks"]) + 1
    lead, other = line["decided"]["for"], line["decided"]["against"]
    assert explained[-1] == (
        f"          decided: {lead['descriptor']} {lead['logit']:.1f}"
        f" against {other['descriptor']} {other['logit']:.1f}"
    ).replace("-", "\N{MINUS SIGN}")


def test_explanations_have_colours_on_a_terminal_alone(classify: Classify) -> None:
    asked = [
        "classify",
        *EXACT,
        "--clip",
        str(classify.clip),
        "--store",
        "store.jsonl",
        "photos",
        "--explain",
    ]
    plain, coloured = (classify.runner.invoke(main, asked, color=color).stdout for color in (False, True))
    assert "\x1b" not in plain
    assert click.unstyle(coloured) == plain
    for code in ("\x1b[32m█", "\x1b[33m█", "\x1b[1m          decided"):
        assert code in coloured
    for form in ("jsonl", "csv"):
        machine = classify.runner.invoke(main, [*asked, "--format", form], color=True)
        assert (machine.exit_code, "\x1b" in machine.stdout) == (0, False)


def test_csv(classify: Classify) -> None:
    result = classify("photos/0.png", "none.png", "--format", "csv", "--baseline")
    (line,) = _lines(classify("photos/0.png", "--format", "jsonl", "--explain", "--baseline").stdout)
    rows = list(csv.reader(io.StringIO(result.stdout)))
    assert rows[0] == [
        *("\ufeffimage", "label", "probability", "runner_up", "runner_up_probability", "marks"),
        *("labels", "reason", "baseline", "baseline_probability"),
    ]
    best, second, _ = line["scores"]
    assert [rows[1][0], rows[1][1], rows[1][3], rows[1][8]] == [
        *("photos/0.png", line["label"], second["class"], line["baseline"]["class"]),
    ]
    assert float(rows[1][2]) == pytest.approx(best["probability"], rel=1e-4)
    marks = [mark for mark in line["marks"] if mark["class"] == line["label"]]
    shown = "; ".join(f"{mark['descriptor']} {mark['logit']:.1f}" for mark in marks)
    assert rows[1][5] == f"{line['label']}: {shown}"
    reason = "cannot be read: No such file or directory"
    assert rows[2] == ["none.png", "(unreadable)", *[""] * 5, reason, "", ""]


def test_control_characters_of_strangers_do_not_reach_the_terminal(classify: Classify, folder: Path) -> None:
    shutil.copy("photos/0.png", "evil\x1b[2J.png")
    (folder / "store.jsonl").write_text(
        json.dumps({"class": "owl", "descriptors": ["eyes\x1b]0;x\x07", "beak"]}) + "\n"
    )
    result = classify("evil\x1b[2J.png", "no\x1b[2J.png", "--explain")
    assert "\x1b" not in result.output
    assert "evil\\x1b[2J.png" in result.stdout
    assert "eyes\\x1b]0;x\\x07" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["photos"], "give either --store or --classifier"),
        (
            ["photos", "--store", "a", "--classifier", "b"],
            "give either --store or --classifier",
        ),
        (["--store", "store.jsonl"], "give either IMAGES or --image-embeddings"),
        (
            ["photos", "--store", "a", "--image-embeddings", "b"],
            "give either IMAGES or --image-embeddings",
        ),
        (["photos", "--store", "a", "--top", "0"], "Invalid value for '--top'"),
        (["photos", "--store", "a", "--preset", "other"], "Invalid value for '--preset'"),
        (["photos", "--classifier", "b", "--preset", "paper"], "--preset goes with --store: a saved"),
        (["photos", "--classifier", "b", "--text", "{class}"], "--text goes with --store: a saved"),
        (["photos", "--store", "store.jsonl", "--text", ""], "the text '' is the same for all classes"),
        (["photos", "--classifier", "b", "--with-name"], "--with-name goes with --store: a saved"),
    ],
)
def test_wrong_usage(runner: CliRunner, folder: Path, options: list[str], message: str) -> None:
    result = runner.invoke(main, ["classify", *options])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["photos", "--store", "none.jsonl"], "none.jsonl"),
        (["photos", "--store", "."], "is a folder"),
        (["photos", "--store", "empty.jsonl"], "there is no class to choose from"),
        (["photos", "--store", "store.jsonl", "--clip", "./none"], "./none is not a folder"),
        (["photos", "--store", "store.jsonl", "--clip", "photos"], "photos is not a model folder"),
        (
            ["photos", "--store", "store.jsonl", "--clip", "some/clip"],
            "some/clip is neither a local folder",
        ),
        (["photos", "--store", "store.jsonl", "--text", "{clas}"], "{clas} in '{clas}' is unknown"),
        (
            ["photos", "--store", "store.jsonl", "--text", "{concept}"],
            "{concept} in '{concept}' is unknown without a concept",
        ),
        (["photos", "--classifier", "store.jsonl"], "store.jsonl is not a classifier file"),
        (
            ["--store", "store.jsonl", "--image-embeddings", "none"],
            "none: no such file or folder of embeddings",
        ),
        (
            ["photos", "--store", "store.jsonl", "--resume", "store.jsonl"],
            "store.jsonl already exists and is not a results journal",
        ),
        (["photos", "--store", "store.jsonl", "--resume", "."], ". cannot be used"),
        (
            ["photos", "--store", "store.jsonl", "--report", "store.jsonl"],
            "store.jsonl already exists and is not a fieldmarks report",
        ),
        (
            ["photos", "--store", "store.jsonl", "--save-classifier", "store.jsonl"],
            "store.jsonl already exists and is not a fieldmarks classifier",
        ),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(
    runner: CliRunner, folder: Path, tiny_clip: Path, options: list[str], message: str
) -> None:
    (folder / "empty.jsonl").touch()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    given = options if "--clip" in options else [*EXACT, "--clip", str(tiny_clip), *options]
    result = runner.invoke(main, ["classify", *given])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_every_bad_picture_is_one_line_and_the_others_are_classified(
    classify: Classify, folder: Path
) -> None:
    whole = Path("photos/1.png").read_bytes()
    bad = {"text.png": b"hello", "zero.png": b"", "cut.png": whole[: len(whole) // 2]}
    for name, data in bad.items():
        (folder / "photos" / name).write_bytes(data)
    os.mkfifo(folder / "photos" / "pipe.png")
    result = classify("photos", os.devnull, "--format", "jsonl")
    lines = _lines(result.stdout)
    assert [line["image"] for line in lines if "label" in line] == [f"photos/{n}.png" for n in range(3)]
    assert {line["image"] for line in lines if "error" in line} == {
        *(f"photos/{name}" for name in bad),
        "photos/pipe.png",
        os.devnull,
    }
    errors, last = result.stderr.splitlines()[:5], result.stderr.splitlines()[5:]
    assert all(line.startswith("Error: ") for line in errors)
    assert last == [
        "Classified 3 images. 5 inputs failed.",
    ]
    assert result.exit_code == 3


def test_all_that_failed_is_named_once(classify: Classify, folder: Path) -> None:
    for number in range(25):
        (folder / f"{number:02d}.bad.png").write_bytes(b"hello")
    result = classify("*.bad.png")
    assert result.exit_code == 1
    *errors, last = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in errors] == [f"{number:02d}.bad.png" for number in range(25)]
    assert last == "Classified 0 images. Every input failed (25)."


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["fotos"], "fotos: no such file or folder"),
        (["empty"], "empty: a folder without images"),
        (["fotos/*.jpg"], "fotos/*.jpg: matches no files"),
        (["a.png", "empty", "x*.png"], "a.png: no such file or folder; empty: a folder without"),
        (["a", "b", "c", "d", "e"], "c: no such file or folder; 2 more"),
    ],
)
def test_where_there_is_nothing_to_classify_nothing_begins(
    classify: Classify, folder: Path, images: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    for name in ("classify", "embed"):
        options = (
            ["--resume", "out.jsonl", "--store", "store.jsonl"] if name == "classify" else ["--out", "set"]
        )
        refused = classify.runner.invoke(main, [name, *images, *options, "--clip", "none"])
        assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
        assert refused.stderr.startswith("Error: no images: ")
        assert message in refused.stderr
        assert not Path("out.jsonl").exists()
    listed = classify.runner.invoke(
        main, ["classify", "-", "--store", "store.jsonl", "--clip", str(classify.clip)], input="fotos\n"
    )
    assert (listed.exit_code, listed.stderr) == (1, "Error: no images: fotos: no such file or folder\n")


def test_what_is_missing_beside_others_is_one_that_failed(classify: Classify, folder: Path) -> None:
    done = classify("fotos", "photos")
    assert done.exit_code == 3
    assert done.stderr.endswith("Classified 3 images. 1 input failed.\n")
    words = ["classify", "-", "--store", "store.jsonl", "--engine", "torch", "--clip", str(classify.clip)]
    nothing = classify.runner.invoke(main, words, input="")
    assert (nothing.exit_code, nothing.stderr) == (0, "Classified 0 images.\n")


def test_a_broken_image_beside_those_of_an_earlier_run_is_no_failed_run(
    classify: Classify, folder: Path
) -> None:
    (folder / "photos" / "3.png").write_bytes(b"hello")
    alone = classify("photos/3.png", "--resume", "out.jsonl")
    assert (alone.exit_code, "Every input failed (1)." in alone.stderr) == (1, True)
    for _ in range(2):
        assert classify("photos", "--resume", "out.jsonl").exit_code == 3


def test_odd_pictures_are_classified_without_a_word(classify: Classify, folder: Path) -> None:
    image = Image.open("photos/0.png")
    image.convert("CMYK").save("photos/cmyk.jpg")
    image.convert("L").save("photos/grey.png")
    image.convert("P").save("photos/palette.png", transparency=bytes([0] * 100 + [255] * 156))
    image.save("photos/moving.gif", save_all=True, append_images=[image.rotate(90)])
    Image.new("I;16", (20, 20), 30000).save("photos/deep.png")
    result = classify("photos", "--format", "csv")
    assert (result.exit_code, result.stderr) == (0, "Classified 8 images.\n")
    assert len(result.stdout.splitlines()) == 1 + 3 + 5


@pytest.mark.slow
def test_a_report_beside_the_results(classify: Classify, folder: Path) -> None:
    plain = classify("photos").stdout
    reported = classify("photos", "none.png", "--report", "page.html")
    assert (reported.exit_code, reported.stdout) == (3, plain)  # the page changes nothing of the lines
    page = (folder / "page.html").read_text("utf-8")
    assert (page.count("<article"), page.count("<img")) == (3, 6)  # each in the overview and on its card
    assert "Class name only" in page
    assert "none.png" in page
    again = classify(
        "photos", "--report", "page.html", "--relative", "--force"
    )  # from kept embeddings, with pictures
    assert again.exit_code == 0
    assert (folder / "page.html").read_text("utf-8").count("<img") == 6


def test_paths_on_stdin(classify: Classify) -> None:
    result = classify("-", "--format", "jsonl", stdin="photos/2.png\nphotos/0.png\n")
    assert [line["image"] for line in _lines(result.stdout)] == ["photos/2.png", "photos/0.png"]


def test_abstaining(classify: Classify) -> None:
    result = classify("photos/0.png", "--min-probability", "1")
    assert result.stdout.split()[0] == "(unsure)"
    assert (
        _lines(classify("photos/0.png", "--min-probability", "1", "--format", "jsonl").stdout)[0]["label"]
        is None
    )


@pytest.mark.slow
def test_wording_options(classify: Classify) -> None:
    paper = classify("photos", "--preset", "paper", "--format", "jsonl").stdout
    by_hand = classify(
        "photos", "--text", "{class}, {which}", "--aggregate", "mean-similarity", "--format", "jsonl"
    )
    assert paper == by_hand.stdout
    assert (
        paper
        != classify("photos", "--preset", "paper", "--text", "{class}, {which}.", "--format", "jsonl").stdout
    )
    named = classify("photos/0.png", "--with-name", "--format", "jsonl", "--explain")
    shown = [mark["descriptor"] for mark in _lines(named.stdout)[0]["marks"]]
    assert sum(item.startswith("a photo of a ") for item in shown) == 2
    concept = classify(
        "photos", "--text", "a photo of a {concept}: {article} {class} with {descriptor}", "--concept", "pet"
    )
    assert (concept.exit_code, concept.stderr) == (0, "Classified 3 images.\n")


@pytest.mark.slow
def test_going_on_where_a_run_stopped(classify: Classify, folder: Path) -> None:
    expected = _lines(classify("photos", "--format", "jsonl").stdout)
    done = classify("photos", "--resume", "out.jsonl", "--format", "jsonl")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "Classified 3 images. Wrote out.jsonl.\n")
    whole = (folder / "out.jsonl").read_bytes()
    header, *lines = _lines(whole.decode())
    assert list(header) == ["fieldmarks", "version", "identity", "settings"]
    assert [line.pop("file").keys() for line in lines] == [{"size", "mtime_ns", "ctime_ns", "sha256"}] * 3
    assert lines == expected
    for end in range(whole.index(b"\n") + 1, len(whole), 101):  # stopped at any byte
        (folder / "out.jsonl").write_bytes(whole[:end])
        assert classify("photos", "--resume", "out.jsonl").exit_code == 0
        _, *lines = _lines((folder / "out.jsonl").read_text())
        assert [(line["image"], line["label"]) for line in lines] == [
            (line["image"], line["label"]) for line in expected
        ]


def _images(path: str) -> list[str]:
    return [line["image"] for line in _lines(Path(path).read_text())[1:]]


def test_what_failed_and_what_changed_is_tried_again(classify: Classify, folder: Path) -> None:
    (folder / "photos" / "3.png").write_bytes(b"hello")
    first = classify("photos", "--resume", "out.jsonl")
    assert first.exit_code == 3
    error, closing = first.stderr.splitlines()
    assert error.startswith("Error: photos/3.png: not an image")
    assert closing == "Classified 3 images. Wrote out.jsonl. 1 input failed."
    whole = (folder / "out.jsonl").read_bytes()
    again = classify("photos", "--resume", "out.jsonl")  # as every night
    assert again.exit_code == 3
    assert "1 input failed" in again.stderr
    assert (folder / "out.jsonl").read_bytes() == whole
    (folder / "photos" / "3.png").write_bytes(b"")
    assert classify("photos", "--resume", "out.jsonl").exit_code == 3
    assert _lines((folder / "out.jsonl").read_text())[-1]["error"] != _lines(whole.decode())[-1]["error"]
    shutil.copyfile("photos/0.png", "photos/3.png")
    os.utime("photos/1.png")  # another time, the same content
    data = Path("photos/2.png").read_bytes()
    status = Path("photos/2.png").stat()
    shutil.copyfile("photos/0.png", "photos/2.png")
    assert classify("photos", "--resume", "out.jsonl").exit_code == 0
    before = [f"photos/{n}.png" for n in range(4)]
    assert _images("out.jsonl") == [*before, "photos/3.png", "photos/2.png", "photos/3.png"]
    labels = {line["image"]: line for line in _lines((folder / "out.jsonl").read_text())[1:]}
    assert "error" not in labels["photos/3.png"]
    (folder / "photos" / "0.png").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    Path("photos/2.png").write_bytes(data)
    os.utime("photos/2.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    classify("photos", "--resume", "out.jsonl")
    assert _images("out.jsonl")[7:] == ["photos/0.png", "photos/2.png"]
    assert classify("photos", "--resume", "out.jsonl").exit_code == 0
    assert len(_images("out.jsonl")) == 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--top", "2"], "top"),
        (["--preset", "paper"], "classifier"),
        (["--text", "a {class} with {descriptor}"], "classifier"),
        (["--with-name"], "classifier"),
        (["--aggregate", "max-similarity"], "classifier"),
        (["--explain"], "explain"),
        (["--relative"], "explain, relative"),
        (["--min-probability", "0.5"], "min-probability"),
        (["--baseline"], "baseline"),
        (["--dtype", "bfloat16"], "decoding, model"),
    ],
)
def test_results_of_other_options_are_not_mixed(
    classify: Classify, folder: Path, options: list[str], names: str
) -> None:
    classify("photos/0.png", "--resume", "out.jsonl")
    before = (folder / "out.jsonl").read_bytes()
    refused = classify("photos", "--resume", "out.jsonl", *options)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith(
        f"Error: out.jsonl holds results of another run (other {names}); use the same options, or pass"
    )
    assert (folder / "out.jsonl").read_bytes() == before


def test_another_store_is_another_run_and_its_history_is_not(classify: Classify, folder: Path) -> None:
    classify("photos/0.png", "--resume", "out.jsonl")
    with (folder / "store.jsonl").open("a") as store:
        store.write('{"class": "newt", "descriptors": ["a crest"]}\n')
    assert "(other classifier)" in classify("photos", "--resume", "out.jsonl").stderr
    with (folder / "store.jsonl").open("a") as store:
        store.write('{"class": "newt", "descriptors": ["a long tail"]}\n')
    assert classify("photos", "--resume", "out.jsonl").exit_code == 0
    assert len(_images("out.jsonl")) == 3


@pytest.mark.slow
def test_kept_embeddings_and_saved_classifiers_resume_too(classify: Classify, folder: Path) -> None:
    pytest.importorskip("pyarrow")
    classify.runner.invoke(
        main, ["embed", "photos", "--out", "embedded", *EXACT, "--clip", str(classify.clip)]
    )
    classify("photos", "--save-classifier", "frogs.safetensors")
    asked = ["classify", "--classifier", "frogs.safetensors", "--image-embeddings", "embedded"]
    nothing = "Nothing left to classify: out.jsonl has the results of 3 images.\n"
    for closing in ("Classified 3 images. Wrote out.jsonl.\n", nothing):
        done = classify.runner.invoke(main, [*asked, "--resume", "out.jsonl"])
        assert (done.exit_code, done.stderr) == (0, closing)
    assert len(_images("out.jsonl")) == 3
    classify("photos", "--save-classifier", "frogs.safetensors", "--preset", "paper", "--force")
    other = classify.runner.invoke(main, [*asked, "--resume", "out.jsonl"])
    assert "(other classifier)" in other.stderr
    shutil.rmtree("embedded")
    shutil.copyfile("photos/0.png", "photos/1.png")
    classify("photos", "--save-classifier", "frogs.safetensors", "--force")
    classify.runner.invoke(
        main, ["embed", "photos", "--out", "embedded", *EXACT, "--clip", str(classify.clip)]
    )
    assert classify.runner.invoke(main, [*asked, "--resume", "out.jsonl"]).exit_code == 0
    assert _images("out.jsonl")[3:] == ["photos/1.png"]


def test_relative_marks_are_of_all_images_when_a_run_goes_on(classify: Classify, folder: Path) -> None:
    classify("photos", "--relative", "--resume", "out.jsonl")
    whole = (folder / "out.jsonl").read_text()
    (folder / "out.jsonl").write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert classify("photos", "--relative", "--resume", "out.jsonl").exit_code == 0
    assert (folder / "out.jsonl").read_text() == whole


def test_a_second_process_is_refused_at_once(classify: Classify, folder: Path) -> None:
    with Journal(folder / "out.jsonl"):
        refused = classify("photos", "--resume", "out.jsonl")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: out.jsonl is in use by another fieldmarks process; ")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "out.jsonl", "--format", "csv"], "--resume writes JSONL: leave out --format csv"),
        (["--resume", "out.jsonl", "--format", "table"], "--resume writes JSONL: leave out --format table"),
        (
            ["--resume", "store.jsonl", "--report", "./store.jsonl"],
            "--resume and --report name the same file",
        ),
        (
            ["--report", "store.jsonl", "--save-classifier", "store.jsonl"],
            "--report and --save-classifier name the same file",
        ),
    ],
)
def test_outputs_that_exclude_each_other(classify: Classify, options: list[str], message: str) -> None:
    refused = classify("photos", *options)
    assert refused.exit_code == 2
    assert message in refused.stderr


def test_outputs_are_checked_before_anything_is_computed(classify: Classify, folder: Path) -> None:
    for option in ("--report", "--save-classifier", "--resume"):
        refused = classify("photos", option, "store.jsonl", "--clip", "none")  # which is not looked for
        assert refused.exit_code == 1
        assert "store.jsonl already exists and is not a" in refused.stderr


def test_a_saved_classifier_can_be_read_as_the_umask_says(classify: Classify, folder: Path) -> None:
    (folder / "link.safetensors").symlink_to("frogs.safetensors")
    classify("photos", "--save-classifier", "frogs.safetensors")
    plain = folder / "plain"
    plain.touch()
    assert (folder / "frogs.safetensors").stat().st_mode == plain.stat().st_mode
    assert classify("photos", "--save-classifier", "link.safetensors", "--force").exit_code == 0
    assert (folder / "link.safetensors").is_symlink()
    assert sorted(path.suffix for path in folder.glob("*frogs*")) == [".safetensors"]


def test_a_saved_classifier_needs_no_store_and_no_model_option(classify: Classify, runner: CliRunner) -> None:
    first = classify("photos", "--format", "jsonl", "--save-classifier", "frogs.safetensors")
    again = runner.invoke(
        main,
        [
            "classify",
            "photos",
            *EXACT,
            "--format",
            "jsonl",
            "--classifier",
            "frogs.safetensors",
        ],
    )
    assert (again.exit_code, again.stdout, again.stderr) == (0, first.stdout, "Classified 3 images.\n")


def test_relative_marks(classify: Classify) -> None:
    lines = _lines(classify("photos", "--relative", "--format", "jsonl").stdout)
    assert all("z" in mark for line in lines for mark in line["marks"])
    assert "+" in classify("photos", "--relative").stdout


def test_a_kept_embedding_of_another_width_is_told(classify: Classify, demo_clip: Path) -> None:
    classify("photos", "--save-classifier", "frogs.safetensors")
    result = classify(
        "photos",
        "--classifier",
        "frogs.safetensors",
        *EXACT,
        "--clip",
        str(demo_clip),
        store=False,
    )
    assert result.exit_code == 1
    assert "they come from different models" in result.stderr.splitlines()[-1]
    assert "the classifier was built with" in result.stderr.splitlines()[0]


@pytest.mark.slow
def test_an_interruption_keeps_what_is_done_and_exits_130(folder: Path, tiny_clip: Path) -> None:
    reader, writer = os.pipe()
    arguments = [
        "classify",
        "-",
        *EXACT,
        "--clip",
        str(tiny_clip),
        "--store",
        "store.jsonl",
        "--batch",
        "1",
    ]
    running = subprocess.Popen(
        [sys.executable, "-m", "fieldmarks", *arguments],
        stdin=reader,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(writer, b"photos/0.png\n" * 20)
    assert running.stdout is not None
    first = running.stdout.readline()
    running.send_signal(signal.SIGINT)
    os.close(writer)
    rest, errors = running.communicate(timeout=30)
    os.close(reader)
    assert running.returncode == 130
    assert errors.split() == ["Interrupted."]
    assert set((first + rest).splitlines()) == {first.strip("\n")}


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_where_it_was(
    classify: Classify, folder: Path, end: signal.Signals
) -> None:
    names = [f"photos/{number}.png" for number in range(40)]
    for name in names[3:]:
        shutil.copyfile("photos/0.png", name)
    reader, writer = os.pipe()
    words = ["classify", "-", *EXACT, "--clip", str(classify.clip), "--store", "store.jsonl", "--batch", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "fieldmarks", *words, "--resume", "out.jsonl"],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as running:
        os.write(writer, "".join(f"{name}\n" for name in names[:20]).encode())
        until = time.monotonic() + 60
        while not (folder / "out.jsonl").exists() or (folder / "out.jsonl").read_bytes().count(b"\n") < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        running.send_signal(end)
        os.close(writer)
        _, errors = running.communicate(timeout=60)
        assert running.returncode != 0
    said = b"out.jsonl has the results so far; the same command continues" in errors
    assert said == (end != signal.SIGKILL)
    os.close(reader)
    before = (folder / "out.jsonl").read_bytes()
    assert classify("photos", "--resume", "out.jsonl").exit_code == 0
    assert (folder / "out.jsonl").read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert sorted(_images("out.jsonl")) == sorted(names)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_one_line(folder: Path, tiny_clip: Path) -> None:
    arguments = [
        "classify",
        "photos",
        *EXACT,
        "--clip",
        str(tiny_clip),
        "--store",
        "store.jsonl",
    ]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fieldmarks", *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: the output cannot be written: No space left on device\n",
    )


def test_the_options_name_what_the_package_has() -> None:
    (aggregate,) = (option for option in command.params if option.name == "aggregate")
    assert aggregate.to_info_dict()["type"]["choices"] == words(Aggregation)
    (clip,) = (option for option in command.params if option.name == "clip")
    assert f"else {DEFAULT_CLIP}]" in clip.to_info_dict()["help"]


def test_what_folders_hold_besides_images_is_one_line(classify: Classify, folder: Path) -> None:
    (folder / "photos" / "a.txt").write_text("text")
    (folder / "photos" / "1.png").rename(folder / "photos" / "no suffix")
    (folder / "more").mkdir()
    (folder / "more" / "b.mov").touch()
    (folder / "more" / "photo.jpg").write_bytes((folder / "photos" / "0.png").read_bytes())
    result = classify("photos", "more")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 4)
    note = "Note: photos and 1 more: 4 images; left out: 1 .mov, 1 .txt"
    assert result.stderr == f"{note}\nClassified 4 images.\n"


def test_inputs_that_are_no_images_say_what_they_are(classify: Classify, folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "a.txt").write_text("photos/0.png")
    result = classify("docs", "docs/a.txt")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:2] == [
        "Error: docs: a folder without images: it has 1 .txt",
        "Error: docs/a.txt: not an image but text; if it lists images, pass its lines (on the"
        " command line: - < FILE)",
    ]
