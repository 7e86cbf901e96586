"""`fieldmarks classify` with files, sorted folders, class names and a catch-all, as a user meets them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.kit import write_store

from fieldmarks.cli import main
from fieldmarks.text import counted

CLASSES = {
    "tree frog": ["protruding eyes", "a wide mouth"],
    "owl": ["big eyes", "feathers"],
    "newt": ["a tail"],
}
EXACT = ("--dtype", "float32", "--engine", "torch")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store, three images and a file that only looks like one."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.new("RGB", (40 + number, 60), (90 * number, 200 - 90 * number, 90)).save(
            tmp_path / "photos" / f"{number}.png"
        )
    (tmp_path / "photos" / "broken.png").write_bytes(b"hello")
    write_store(tmp_path / "store.jsonl", CLASSES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Classify:
    """Runs `fieldmarks classify photos` on a model of random weights."""

    def __init__(self, runner: CliRunner, clip: Path) -> None:
        self.runner, self.clip = runner, clip

    def __call__(self, *options: str, store: bool = True) -> Result:
        given = ["--store", "store.jsonl"] if store else []
        return self.runner.invoke(main, ["classify", *EXACT, "--clip", str(self.clip), *given, *options])


@pytest.fixture
def classify(runner: CliRunner, tiny_clip: Path, folder: Path) -> Classify:
    """The command in the working folder."""
    return Classify(runner, tiny_clip)


def _rows(path: str) -> list[list[str]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def _files(folder: str) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if not path.is_dir()
    )


@pytest.mark.parametrize(
    ("name", "options"), [("a.csv", []), ("a.jsonl", []), ("a.json", ["--format", "label-studio"])]
)
def test_a_file_has_what_stdout_has(classify: Classify, name: str, options: list[str]) -> None:
    form = options or ["--format", name.rpartition(".")[2]]
    printed = classify("photos", "--min-probability", "0.5", *form)
    written = classify("photos", "--min-probability", "0.5", *options, "-o", name)
    assert (written.exit_code, written.stdout) == (3, "")
    assert Path(name).read_bytes() == printed.stdout_bytes
    assert f" Wrote {name}. 1 input failed." in written.stderr.splitlines()[-1]


def test_parquet_and_marks_of_more_classes(classify: Classify) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert classify("photos/0.png", "-o", "a.parquet", "--explain-top", "3", "--top", "2").exit_code == 0
    (row,) = parquet.read_table("a.parquet").to_pylist()
    line = json.loads(
        classify("photos/0.png", "--format", "jsonl", "--explain-top", "3", "--top", "2").stdout
    )
    assert len({mark["class"] for mark in line["marks"]}) == 3
    assert [mark["descriptor"] for mark in row["marks"]] == [mark["descriptor"] for mark in line["marks"]]
    assert [score["class"] for score in row["scores"]] == [score["class"] for score in line["scores"]]
    assert len(row["scores"]) == 2
    assert row["label"] == line["label"]


def test_no_label_is_said_in_every_format(classify: Classify) -> None:
    pytest.importorskip("pyarrow")
    asked = ("photos/0.png", "--min-probability", "1")
    assert "(unsure)" in classify(*asked).stdout
    assert json.loads(classify(*asked, "--format", "jsonl").stdout)["abstained"] == "unsure"
    assert ",(unsure)," in classify(*asked, "--format", "csv").stdout
    (task,) = json.loads(classify(*asked, "--format", "label-studio").stdout)
    assert (task["data"]["label"], task["predictions"]) == ("(unsure)", [])
    last = classify(*asked, "-o", "a.parquet", "--report", "a.html").stderr
    assert last == "Classified 1 image, 1 unsure. Wrote a.parquet and a.html.\n"
    assert "<em>(unsure)</em>" in Path("a.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "a.csv", "--resume", "b.jsonl"], "give either -o or --resume"),
        (["-o", "a.json"], "pass --format label-studio"),
        (["-o", "a.txt"], "ends in .csv, .jsonl or .parquet"),
        (["-o", "a.csv", "--format", "jsonl"], "expected a name that ends in .jsonl"),
        (["-o", "store.jsonl", "--report", "./store.jsonl"], "-o and --report name the same file"),
        (["-o", "./store.jsonl", "--force"], "is what the classes come from"),
        (["--force"], "--force goes with -o, --report or --save-classifier"),
        (["--format", "parquet"], "name one with -o FILE.parquet"),
        (["--format", "csv", "--top", "3"], "--top has no effect with csv"),
        (["--format", "label-studio", "--baseline"], "--baseline has no effect with label-studio"),
        (["--move"], "--move goes with --sort-into DIR"),
        (["--link"], "--link goes with --sort-into DIR"),
        (["--dry-run"], "--dry-run goes with --sort-into DIR"),
        (["--sort-into", "out", "--move", "--link"], "give either --move or --link"),
        (["--sort-into", "out", "--dry-run", "--format", "csv"], "write the results to a file with -o"),
        (["--sort-into", "photos"], "photos would be sorted into itself"),
        (["--sort-into", "photos/../photos"], "photos would be sorted into itself"),
        (["--class", "owl"], "'owl' alone would be the label of every image: name at least two classes"),
        (["--class", "owl", "--class", "owl"], "class 'owl' is given twice"),
        (["--none", " "], "found an empty one"),
    ],
)
def test_wrong_usage(classify: Classify, folder: Path, options: list[str], message: str) -> None:
    before = (folder / "store.jsonl").read_bytes()
    result = classify("photos", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert (folder / "store.jsonl").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["photos", "store.jsonl"]


def test_some_classes_of_a_store(classify: Classify, folder: Path) -> None:
    asked = ("photos/0.png", "--format", "jsonl", "--class", "newt", "--class", "tree frog")
    some = json.loads(classify(*asked).stdout)
    every = json.loads(classify("photos/0.png", "--format", "jsonl").stdout)
    logits = {score["class"]: score["logit"] for score in every["scores"]}
    del logits["owl"]
    assert {score["class"]: score["logit"] for score in some["scores"]} == pytest.approx(logits)
    assert sum(score["probability"] for score in some["scores"]) == pytest.approx(1)
    alone = json.loads(classify(*asked[:3], "--class", "owl", "--none", "a wall").stdout)
    assert {score["class"] for score in alone["scores"]} == {"owl", "(none of these)"}
    page = classify(*asked[:1], *asked[3:], "--report", "page.html", "--save-classifier", "c.safetensors")
    assert page.exit_code == 0
    assert "1 image, 2 classes" in Path("page.html").read_text("utf-8")
    refused = classify("photos", "--classifier", "c.safetensors", "--class", "owl", store=False)
    assert (refused.exit_code, refused.stderr.splitlines()[-1]) == (
        2,
        "Error: --class goes with --store, or stands alone: a saved classifier has its own classes",
    )
    with (folder / "store.jsonl").open("a") as file:
        file.write('{"class": "newt", "descriptors": ["a tail"], "ids": ["n1"], "parent": "amphibian"}\n')
    for name, hint in (("oowl", "did you mean 'owl'?"), ("n1", "'newt' has it among its ids")):
        refused = classify("photos", "--class", "owl", "--class", name)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert hint in refused.stderr
    kept = classify("photos/0.png", "--class", "owl", "--class", "tree frog", "--back-off")
    assert "no class has a parent" in kept.stderr  # as that of the newt is left out with it


def test_outputs_are_checked_before_the_work(classify: Classify, folder: Path) -> None:
    (folder / "mine.csv").write_text("mine")
    (folder / "mine").mkdir()
    (folder / "mine" / "metadata.csv").write_text("file_name\n")
    for options, message in (
        (["-o", "mine.csv"], "mine.csv already exists: choose another name, or pass --force"),
        (["-o", "none/a.csv"], "its folder does not exist"),
        (["--sort-into", "mine.csv"], "is not a folder"),
        (["--sort-into", "mine"], "is not of an earlier run"),
    ):
        result = classify("photos", *options, "--clip", "none")  # which is not looked for
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
    assert (folder / "mine.csv").read_text() == "mine"
    assert classify("photos/0.png", "-o", "mine.csv", "--force").exit_code == 0
    assert _rows("mine.csv")[0][0] == "image"


def test_images_are_copied_into_folders(classify: Classify, folder: Path) -> None:
    planned = classify("photos", "--sort-into", "out", "--dry-run")
    assert planned.exit_code == 3
    assert not Path("out").exists()
    done = classify("photos", "--sort-into", "out", "-o", "a.csv")
    assert (done.exit_code, done.stdout) == (3, "")
    labels = {row[0]: row[1] for row in _rows("a.csv")[1:]}
    assert labels.pop("photos/broken.png") == "(unreadable)"
    expected = [(image, f"out/{label}/{Path(image).name}") for image, label in labels.items()]
    assert planned.stdout.splitlines() == [f"{source} -> {target}" for source, target in expected]
    assert _files("out") == sorted(
        ["metadata.csv", "sorted.jsonl", *(target.removeprefix("out/") for _, target in expected)]
    )
    error, last = done.stderr.splitlines()
    assert error.startswith("Error: photos/broken.png: ")
    folders = counted(len(set(labels.values())), "folder")
    assert last == (
        f"Classified 3 images. Wrote a.csv. Copied 3 images into {folders} of out; `fieldmarks unsort out`"
        " undoes it. 1 input failed."
    )
    assert len(_files("photos")) == 4
    again = classify("photos", "--sort-into", "out")
    assert "Copied 0 images into 0 folders of out, 3 already there. 1 input failed." in again.stderr


def test_a_file_is_sorted_once(classify: Classify, folder: Path) -> None:
    (folder / "link.png").symlink_to("photos/0.png")
    given = ("photos/0.png", "photos/0.png", "./photos/../photos/0.png", "photos/0*.png", "link.png")
    moved = classify(*given, "--sort-into", "out", "--move")
    assert moved.exit_code == 0
    assert "Moved 1 image into 1 folder of out, left out 4 images given twice" in moved.stderr
    assert not (folder / "photos" / "0.png").exists()
    assert [path.name for path in Path("out").glob("*/*")] == ["0.png"]


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        ("100%", 0, "Classified 1 image, 1 unsure."),
        (" 100 %", 0, "Classified 1 image, 1 unsure."),
        ("1%", 0, "Classified 1 image.\n"),
        ("80", 2, "'80' is not between 0 and 1: write 0.8, or 80%."),
        ("nan%", 2, "is not between 0 and 1"),
        ("high", 2, "'high' is not a number: write 0.8, or 80%."),
    ],
)
def test_a_probability_may_be_in_per_cent(classify: Classify, value: str, code: int, message: str) -> None:
    result = classify("photos/0.png", "--min-probability", value)
    assert result.exit_code == code
    assert message in result.stderr


def test_unsure_images_have_a_folder_of_their_own(classify: Classify) -> None:
    done = classify("photos/0.png", "photos/1.png", "--sort-into", "out", "--min-probability", "1", "--move")
    assert done.exit_code == 0
    assert _files("out") == ["(unsure)/0.png", "(unsure)/1.png", "metadata.csv", "sorted.jsonl"]
    assert _files("photos") == ["2.png", "broken.png"]


def test_what_was_sorted_is_not_sorted_again(classify: Classify) -> None:
    assert classify(".", "--sort-into", "sorted", "--link").exit_code == 3
    before = _files("sorted")
    again = classify(".", "--sort-into", "sorted", "--move")
    assert "3 already there, left out 3 images sorted before." in again.stderr
    assert _files("sorted") == before
    assert Path("photos/0.png").exists()


def test_what_was_sorted_goes_back(classify: Classify, runner: CliRunner) -> None:
    before = _files("photos")
    assert classify("photos", "--sort-into", "out", "--move").exit_code == 3  # one is broken
    assert len(_files("photos")) == 1
    planned = runner.invoke(main, ["unsort", "out", "--dry-run"])
    assert planned.exit_code == 0
    assert len(planned.stdout.splitlines()) == 3
    assert planned.stderr.startswith("Would undo the sorting into out: 3 images moved back.")
    Path("photos/0.png").write_bytes(b"new")
    result = runner.invoke(main, ["unsort", "out"])
    assert result.exit_code == 3
    reason, last = result.stderr.splitlines()
    assert reason.endswith(f"/0.png: stays: another file is at {Path('photos/0.png').absolute()}")
    assert last.startswith("Undid the sorting into out: 2 images moved back. 1 input failed.")
    Path("photos/0.png").unlink()
    assert runner.invoke(main, ["unsort", "out"]).exit_code == 0
    assert _files("photos") == before
    assert not Path("out").exists()
    result = runner.invoke(main, ["unsort", "out"])
    assert (result.exit_code, result.stderr) == (1, "Error: out: no such folder, or all of it was undone\n")


def test_class_names_without_a_store(classify: Classify) -> None:
    by_name = classify("photos/0.png", "--class", "owl", "--class", "newt", "--format", "jsonl", store=False)
    assert by_name.exit_code == 0
    write_store(Path("names.jsonl"), {"owl": [], "newt": []})
    by_store = classify("photos/0.png", "--store", "names.jsonl", "--format", "jsonl", store=False)
    assert by_name.stdout == by_store.stdout
    other = classify(
        *("photos/0.png", "--class", "owl", "--class", "newt", "--text", "a {class}", "--explain"),
        *("--format", "jsonl"),
        store=False,
    )
    assert {mark["descriptor"] for mark in json.loads(other.stdout)["marks"]} == {"a owl", "a newt"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--class", "owl", "--class", "owl"], "class 'owl' is given twice"),
        (["--class", "owl", "--preset", "paper"], "preset has no effect"),
        (["--class", "owl", "--with-name"], "with_name has no effect"),
        (["--class", "owl", "--baseline"], "baseline has no effect"),
        (["--class", "owl", "--aggregate", "max-similarity"], "aggregate has no effect"),
        (["--class", "owl", "--text", "a photo"], "the same for all classes"),
        (["--class", "owl", "--concept", "bird"], "concept has no effect"),
        (["--class", "(none of these)", "--none", "x"], "there is a class named '(none of these)' already"),
        (["--classifier", "a.safetensors", "--none", "x"], "--none goes with --store"),
    ],
)
def test_what_class_names_cannot_have(classify: Classify, options: list[str], message: str) -> None:
    refused = classify("photos", *options, store=False)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert message in refused.stderr


def test_a_catch_all_that_wins_is_no_label(classify: Classify) -> None:
    lines = [
        json.loads(line)
        for line in classify(
            "photos", "--none", "a wall", "--none", "fog", "--format", "jsonl"
        ).stdout.splitlines()
    ]
    for line in (line for line in lines if "scores" in line):
        assert "(none of these)" in [score["class"] for score in line["scores"]]
        best = line["scores"][0]["class"]
        assert line["label"] == (None if best == "(none of these)" else best)
        assert line.get("abstained") == ("none of these" if best == "(none of these)" else None)


def test_a_saved_classifier_has_its_catch_all(classify: Classify) -> None:
    asked = ("photos/0.png", "--class", "owl", "--none", "a wall", "--format", "jsonl")
    first = classify(*asked, "--save-classifier", "a.safetensors", store=False)
    again = classify("photos/0.png", "--classifier", "a.safetensors", "--format", "jsonl", store=False)
    assert (again.exit_code, again.stdout) == (0, first.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_the_results_so_far(
    folder: Path, tiny_clip: Path, end: signal.Signals
) -> None:
    reader, writer = os.pipe()
    words = ["classify", "-", *EXACT, "--clip", str(tiny_clip), "--store", "store.jsonl", "--batch", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "fieldmarks", *words, "-o", "a.csv", "--sort-into", "out"],
        stdin=reader,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        os.write(writer, b"none.png\n" + b"photos/0.png\n" * 40)
        assert running.stderr is not None
        first = running.stderr.readline()  # the first image was tried
        time.sleep(0.5)
        running.send_signal(end)
        os.close(writer)
        _, errors = running.communicate(timeout=60)
    os.close(reader)
    assert first.startswith("Error: none.png")
    assert running.returncode == (130 if end == signal.SIGINT else 143)
    rows = _rows("a.csv")
    assert rows[0][0] == "image"
    assert {row[0] for row in rows[1:]} <= {"none.png", "photos/0.png"}
    assert len(rows) > 1
    assert f"Wrote the {counted(len(rows) - 1, 'result')} so far to a.csv" in errors
    assert not Path("out").exists()
