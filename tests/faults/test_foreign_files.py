"""Whatever lies where a command writes: it is replaced only if it is ours, and otherwise left and named."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file
from tests.evaluation.worlds import problem, save

from fieldmarks.cli import main
from fieldmarks.report.document import BEGINNING

Make = Callable[[Path], object]
NOTES = "Buy milk.\nCall Ann."


def _text(text: str) -> Make:
    return lambda path: path.write_text(text)


def _mode(mode: int) -> Make:
    def make(path: Path) -> None:
        path.write_text(NOTES)
        path.chmod(mode)

    return make


def _beside(path: Path, content: str = NOTES) -> Path:
    beside = path.with_name(f"beside {path.name}")
    beside.write_text(content)
    return beside


def _database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE notes (text TEXT)")
        db.execute("INSERT INTO notes VALUES ('Buy milk.')")


def _weights(path: Path) -> None:
    save_file({"weight": np.ones((4, 4), np.float32)}, path, {"format": "pt"})


def _picture(path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(path, "PNG")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text(NOTES)


KINDS: dict[str, Make] = {
    "notes": _text(NOTES),
    "an empty file": Path.touch,
    "blanks": _text(" \n\n"),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "notes in UTF-16": lambda path: path.write_text(NOTES, "utf-16"),
    "a page of somebody else": _text("<!doctype html><!-- a report of mine --><title>Notes</title></html>\n"),
    "JSON of somebody else": _text('{"v":1,"settings":{"theme":"dark"}}\n'),
    "minified JSON without a line end": _text('{"image":"a.png","label":"owl"}'),
    "JSON lines of somebody else": _text('{"text":"a"}\n{"text":"b"}\n'),
    "results of version 0.1": _text('{"image":"a.png","label":"owl","scores":[]}\n'),
    "a manifest": _text("image,label\na.png,owl\nb.png,newt"),
    "a store": _text('{"class": "owl", "descriptors": ["big eyes"]}\n'),
    "a model's weights": _weights,
    "a database": _database,
    "a picture": _picture,
    "a drawing": _text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>\n'),
    "a folder": _folder,
    "an empty folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a symlink to notes": lambda path: path.symlink_to(_beside(path).name),
    "a symlink to nothing": lambda path: path.symlink_to("nothing"),
    "a symlink to itself": lambda path: path.symlink_to(path.name),
    "a symlink to a device": lambda path: path.symlink_to("/dev/full"),
    "a hard link to notes": lambda path: path.hardlink_to(_beside(path)),
    "a read-only file": _mode(0o444),
    "a file that nobody may read": _mode(0o000),
    "the mark of a page in notes": _text(f"{NOTES} {BEGINNING} {NOTES}"),
    "the mark of a chart in notes": _text(f"{NOTES} fieldmarks: a chart of an evaluation"),
    "a journal of a newer version": _text('{"fieldmarks":"results","version":2,"identity":"a"}\n'),
    "an evaluation of a newer version": _text('{"v":2,"settings":{"fieldmarks":"9.0"},"arms":[]}\n'),
}


@dataclass(frozen=True)
class Target:
    """A command with an option that writes, and where the foreign thing lies, below a working folder."""

    command: tuple[str, ...]
    place: str
    uses: tuple[str, ...] = ()  # kinds that it may use

    def arguments(self, name: str | None = None) -> list[str]:
        """Return the command line; `name` replaces the place."""
        return [name if name and word == self.place else word for word in self.command]

    def again(self) -> list[str]:
        """Return the command line that may overwrite what it wrote."""
        return [*self.command, *([] if "--resume" in self.command else ["--force"])]


SCORING = ("--classifier", "head.safetensors", "--image-embeddings", "kept.npz")
TARGETS = {
    "--resume": Target(("classify", *SCORING, "--resume", "out.jsonl"), "out.jsonl", ("an empty file",)),
    "--report": Target(("classify", *SCORING, "--report", "out.html"), "out.html"),
    "--save-classifier": Target(
        ("classify", *SCORING, "--save-classifier", "out.safetensors"), "out.safetensors"
    ),
    "evaluate --json": Target(("evaluate", *SCORING, "--json", "out.json"), "out.json"),
    "evaluate --report": Target(("evaluate", *SCORING, "--report", "out.html"), "out.html"),
    "a chart": Target(("evaluate", *SCORING, "--save-plots", "plots"), "plots/arms.svg"),
    "another chart": Target(("evaluate", *SCORING, "--save-plots", "plots"), "plots/confusion.png"),
    "--save-plots": Target(
        ("evaluate", *SCORING, "--save-plots", "plots"), "plots", ("a folder", "an empty folder")
    ),
    "embed --out": Target(("embed", "photo.png", "--out", "out"), "out", ("an empty folder",)),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands read."""
    folder = tmp_path_factory.mktemp("world")
    save(problem([2, 2, 2], 12, seed=0), folder)
    _picture(folder / "photo.png")
    return folder


@pytest.fixture
def folder(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_clip: Path) -> Path:
    """A working folder of its own with the same content."""
    shutil.copytree(world, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def _tree(folder: Path) -> dict[str, Any]:
    """Return all that can be seen of a folder's content without waiting."""

    def content(path: Path) -> Any:
        if path.is_symlink():
            return path.readlink()
        return path.read_bytes() if path.is_file() else None

    def status(path: Path) -> tuple[int, ...]:
        seen = path.lstat()
        return seen.st_mode, seen.st_ino, seen.st_size, 0 if path.is_dir() else seen.st_mtime_ns

    return {str(path): (status(path), content(path)) for path in sorted(folder.rglob("*"))}


def _cases() -> Iterator[Any]:
    for option, target in TARGETS.items():
        for kind, make in KINDS.items():
            if kind not in target.uses:
                yield pytest.param(target, make, id=f"{option}: {kind}")


def _refused(code: int, stdout: str, stderr: str, target: Target) -> None:
    *_, last = stderr.splitlines()
    assert (code, stdout) == (1, "")
    assert last.startswith(f"Error: {target.place} ")
    assert "Traceback" not in stderr


@pytest.mark.slow
@pytest.mark.parametrize(("target", "make"), list(_cases()))
def test_what_is_not_ours_is_left_and_named(
    runner: CliRunner, folder: Path, target: Target, make: Make
) -> None:
    pytest.importorskip("scipy")
    (folder / target.place).parent.mkdir(exist_ok=True)
    make(folder / target.place)
    before = _tree(folder)
    result = runner.invoke(main, target.arguments())
    _refused(result.exit_code, result.stdout, result.stderr, target)
    assert _tree(folder) == before


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize(("target", "make"), list(_cases()))
def test_in_a_process_of_its_own(folder: Path, target: Target, make: Make) -> None:
    (folder / target.place).parent.mkdir(exist_ok=True)
    make(folder / target.place)
    before = _tree(folder)
    command = [sys.executable, "-m", "fieldmarks", *target.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    _refused(done.returncode, done.stdout, done.stderr, target)
    assert _tree(folder) == before


SLOW = ("a chart", "another chart", "evaluate --report")  # which draw charts
FILES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in TARGETS
    if name not in ("--save-plots", "embed --out")
]


@pytest.mark.parametrize("option", FILES)
@pytest.mark.parametrize("device", ["/dev/full", "/dev/null", "/dev/zero"])
def test_a_device_is_not_written_to(runner: CliRunner, folder: Path, option: str, device: str) -> None:
    target = TARGETS[option]
    if target.place.startswith("plots"):
        pytest.skip("its name is not the user's")
    result = runner.invoke(main, target.arguments(device))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {device} ")


@pytest.mark.parametrize("option", FILES)
def test_our_own_file_is_used_and_a_part_of_it_is_not(runner: CliRunner, folder: Path, option: str) -> None:
    pytest.importorskip("scipy")
    target = TARGETS[option]
    assert runner.invoke(main, target.arguments()).exit_code == 0
    whole = (folder / target.place).read_bytes()
    if option != "--resume":
        again = runner.invoke(main, target.arguments())
        said = f"Error: {target.place} already exists: choose another name, or pass --force"
        plot = f"Error: {target.command[-1]}/arms.svg already exists: choose another name, or pass --force"
        assert (again.exit_code, again.stderr.splitlines()[-1] in (said, plot)) == (1, True)
        assert (folder / target.place).read_bytes() == whole
    assert runner.invoke(main, target.again()).exit_code == 0
    cuts = [1, len(whole) // 2, len(whole) - 1]
    if option == "--resume":  # of which the end is allowed to be missing, but not of the first line
        cuts = [1, 20, whole.index(b"\n")]
    for cut in cuts:
        (folder / target.place).write_bytes(whole[:cut])
        result = runner.invoke(main, target.again())
        _refused(result.exit_code, result.stdout, result.stderr, target)
        assert (folder / target.place).read_bytes() == whole[:cut]


@pytest.mark.parametrize("option", FILES)
def test_a_symlink_to_our_own_file_is_followed(runner: CliRunner, folder: Path, option: str) -> None:
    pytest.importorskip("scipy")
    target = TARGETS[option]
    assert runner.invoke(main, target.arguments()).exit_code == 0
    real = folder / "real"
    (folder / target.place).rename(real)
    (folder / target.place).symlink_to(real)
    before = real.read_bytes()
    result = runner.invoke(main, target.again())
    assert result.exit_code == 0, result.output
    assert (folder / target.place).is_symlink()
    assert len(real.read_bytes()) == pytest.approx(len(before), abs=200)  # a report may name its path
    assert not [path.name for path in folder.rglob("*") if path.name.startswith(".")]


def test_another_files_json_is_not_an_evaluation(runner: CliRunner, folder: Path) -> None:
    (folder / "out.json").write_text(json.dumps({"v": 1, "settings": {"fieldmarks": "mine"}}))  # with blanks
    result = runner.invoke(main, TARGETS["evaluate --json"].arguments())
    assert result.exit_code == 1
