"""Images sorted into folders: nothing is overwritten, all is in the list, and `datasets` reads it."""

import csv
import errno
import io
import json
import os
import resource
import shutil
import string
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmarks.choices import SortAction
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sorting import SortedFolder, Step, check_folder, split_name
from fieldmarks.errors import ReportError
from fieldmarks.paths import folder_names

CLASSES = ("owl", "tree frog", "and/or")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three different images, two of the same name, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png", "more/a.png")):
        Image.new("RGB", (8, 8), (80 * number, 90, 90)).save(folder / name)
    return folder


def _row(image: Path | str, label: str) -> tuple[object, ...]:
    return str(image), label, "0.9", "newt", "0.1", f"{label}: big eyes 2.0", "owl; newt", None


def _sort(
    folder: Path, rows: Iterable[Sequence[object]], action: SortAction = "copy"
) -> list[Step | Failure]:
    target = SortedFolder(folder, CLASSES)
    return list(target.carry_out(target.plan(rows, action)))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _metadata(folder: Path) -> list[list[str]]:
    text = (folder / "metadata.csv").read_bytes().decode("utf-8")
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text[1:], newline="")))


def _undo(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "sorted.jsonl").read_text("ascii").splitlines()]


@pytest.mark.parametrize("action", ["copy", "move", "link"])
def test_each_image_goes_to_the_folder_of_its_label(tmp_path: Path, photos: Path, action: SortAction) -> None:
    content = {name: (photos / name).read_bytes() for name in ("a.png", "b.png", "more/a.png")}
    rows = [
        _row(photos / "a.png", "owl"),
        _row(photos / "b.png", "(unsure)"),
        _row(photos / "more/a.png", "owl"),
    ]
    out = tmp_path / "sorted"
    steps = _sort(out, rows, action)
    assert all(isinstance(step, Step) and not step.is_there for step in steps)
    assert _files(out) == ["(unsure)/b.png", "metadata.csv", "owl/a-2.png", "owl/a.png", "sorted.jsonl"]
    targets = {"a.png": "owl/a.png", "b.png": "(unsure)/b.png", "more/a.png": "owl/a-2.png"}
    for name, target in targets.items():
        assert (out / target).read_bytes() == content[name]
        assert (out / target).is_symlink() == (action == "link")
        assert (photos / name).exists() == (action != "move")
    assert _metadata(out) == [
        [
            "file_name",
            "label",
            "probability",
            "runner_up",
            "runner_up_probability",
            "marks",
            "labels",
            "reason",
        ],
        ["owl/a.png", "owl", "0.9", "newt", "0.1", "owl: big eyes 2.0", "owl; newt", ""],
        ["(unsure)/b.png", "(unsure)", "0.9", "newt", "0.1", "(unsure): big eyes 2.0", "owl; newt", ""],
        ["owl/a-2.png", "owl", "0.9", "newt", "0.1", "owl: big eyes 2.0", "owl; newt", ""],
    ]
    assert _undo(out) == [
        {"action": action, "from": str(photos / name), "to": str(out / target)}
        for name, target in targets.items()
    ]


@pytest.mark.parametrize("action", ["copy", "link"])
def test_the_same_run_again_changes_nothing(tmp_path: Path, photos: Path, action: SortAction) -> None:
    rows = [_row(photos / "a.png", "owl"), _row(photos / "a.png", "owl"), _row(photos / "more/a.png", "owl")]
    out = tmp_path / "sorted"
    first = _sort(out, rows, action)
    assert [isinstance(step, Step) and step.is_there for step in first] == [False, True, False]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = _sort(out, rows, action)
    assert all(isinstance(step, Step) and step.is_there for step in again)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_second_run_adds_to_the_first(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "sorted"
    _sort(out, [_row(photos / "a.png", "owl"), _row(photos / "more/a.png", "and/or")])
    (out / "owl" / "a.png").unlink()  # as somebody who threw it away
    _sort(out, [_row(photos / "b.png", "owl")], "move")
    assert [row[0] for row in _metadata(out)] == ["file_name", "and_or/a.png", "owl/b.png"]
    assert [step["action"] for step in _undo(out)] == ["copy", "copy", "move"]


def test_an_image_that_was_there_is_never_overwritten(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "sorted"
    (out / "owl").mkdir(parents=True)
    (out / "owl" / "a.png").write_bytes(b"mine")
    (out / "owl" / "a-2.png").symlink_to("nowhere")
    _sort(out, [_row(photos / "a.png", "owl")], "move")
    assert (out / "owl" / "a.png").read_bytes() == b"mine"
    assert (out / "owl" / "a-2.png").is_symlink()
    assert (out / "owl" / "a-3.png").is_file()
    assert not (photos / "a.png").exists()


def test_a_file_that_comes_between_plan_and_step_is_left(tmp_path: Path, photos: Path) -> None:
    folder = SortedFolder(tmp_path / "sorted", CLASSES)
    steps = list(folder.plan([_row(photos / "a.png", "owl")], "move"))
    (tmp_path / "sorted" / "owl").mkdir(parents=True)
    (tmp_path / "sorted" / "owl" / "a.png").write_bytes(b"somebody else's")
    (failure,) = folder.carry_out(steps)
    assert failure == Failure(str(photos / "a.png"), "cannot be sorted: File exists")
    assert (tmp_path / "sorted" / "owl" / "a.png").read_bytes() == b"somebody else's"
    assert (photos / "a.png").exists()


def test_what_cannot_be_sorted_is_named_and_the_rest_is_sorted(tmp_path: Path, photos: Path) -> None:
    rows = [
        _row("none.png", "owl"),
        _row(photos / ("x" * 251 + ".png"), "owl"),
        _row(photos / "b.png", "owl"),
    ]
    shutil.copy(photos / "a.png", str(rows[1][0]))
    (photos / "b.png").rename(photos / "taken")
    (photos / "b.png").symlink_to(photos / "taken")
    out = tmp_path / "sorted"
    results = _sort(out, [*rows, _row(photos / "more/a.png", "owl")], "copy")
    assert results[0] == Failure("none.png", "cannot be sorted: there is no such file")
    assert [isinstance(result, Step) for result in results] == [False, True, True, True]
    assert not (out / "owl" / "b.png").is_symlink()  # a copy is of what the link leads to


def test_a_link_that_is_moved_still_leads_to_its_file(tmp_path: Path, photos: Path) -> None:
    (photos / "link.png").symlink_to("more/a.png")
    _sort(tmp_path / "sorted", [_row(photos / "link.png", "owl")], "move")
    moved = tmp_path / "sorted" / "owl" / "link.png"
    assert moved.is_symlink()
    assert moved.read_bytes() == (photos / "more/a.png").read_bytes()
    assert not (photos / "link.png").is_symlink()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system here")
def test_images_move_to_another_file_system(photos: Path) -> None:
    out = Path("/dev/shm") / f"fieldmarks-test-{os.getpid()}"
    try:
        if Path("/dev/shm").stat().st_dev == photos.stat().st_dev:
            pytest.skip("/dev/shm is on the same file system")
        content = (photos / "a.png").read_bytes()
        _sort(out, [_row(photos / "a.png", "owl")], "move")
        assert (out / "owl" / "a.png").read_bytes() == content
        assert not (photos / "a.png").exists()
        assert _files(out) == ["metadata.csv", "owl/a.png", "sorted.jsonl"]
    finally:
        shutil.rmtree(out, ignore_errors=True)


def test_an_interruption_leaves_all_that_was_done_in_the_list(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "sorted"
    folder = SortedFolder(out, CLASSES)
    steps = folder.carry_out(
        folder.plan([_row(photos / "a.png", "owl"), _row(photos / "b.png", "owl")], "move")
    )
    next(steps)
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    assert [step["to"] for step in _undo(out)] == [str(out / "owl" / "a.png")]
    assert [row[0] for row in _metadata(out)][1:] == ["owl/a.png"]
    assert (photos / "b.png").exists()


def test_names_that_are_not_unicode_or_hold_a_backslash(tmp_path: Path, photos: Path) -> None:
    odd = os.fsdecode(os.fsencode(photos) + b"/\xff\\.png")
    shutil.copy(photos / "a.png", odd)
    folder = SortedFolder(tmp_path / "sorted", CLASSES)
    (step,) = folder.carry_out(folder.plan([_row("shown", "owl")], "move", {"shown": odd}.__getitem__))
    assert isinstance(step, Step)
    assert _metadata(tmp_path / "sorted")[1][0] == "owl/\ufffd_.png"
    (noted,) = _undo(tmp_path / "sorted")
    shutil.move(noted["to"], noted["from"])
    assert os.path.lexists(odd)


@pytest.mark.parametrize("name", ["metadata.csv", "sorted.jsonl"])
@pytest.mark.parametrize("content", [b"file_name,text\na.png,x\n", b'{"a": 1}\n', b"\xff\xfe", b"[1]\n"])
def test_files_of_others_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReportError, match=rf"{name} already exists and is not of an earlier run"):
        check_folder(tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_places_that_cannot_be_sorted_into(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReportError, match="is not a folder"):
        check_folder(tmp_path / "file")
    check_folder(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()
    (tmp_path / "sorted.jsonl").symlink_to("pipe")
    with pytest.raises(ReportError, match="not of an earlier run"):
        check_folder(tmp_path)


def test_two_processes_do_not_sort_into_one_folder(tmp_path: Path, photos: Path) -> None:
    folder = SortedFolder(tmp_path / "sorted", CLASSES)
    steps = folder.carry_out(
        folder.plan([_row(photos / "a.png", "owl"), _row(photos / "b.png", "owl")], "copy")
    )
    next(steps)
    with pytest.raises(ReportError, match="is being sorted into by another process"):
        _sort(tmp_path / "sorted", [])
    steps.close()


def test_a_full_disk_leaves_no_half_image(tmp_path: Path, photos: Path) -> None:
    Image.effect_noise((200, 200), 90).save(photos / "a.png")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # no file grows beyond that
    try:
        (failure,) = _sort(tmp_path / "sorted", [_row(photos / "a.png", "owl")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure == Failure(str(photos / "a.png"), f"cannot be sorted: {os.strerror(errno.EFBIG)}")
    assert _files(tmp_path / "sorted") == ["metadata.csv", "sorted.jsonl"]
    assert (photos / "a.png").exists()


@pytest.mark.parametrize(
    ("name", "is_split"),
    [
        ("test tube/1.png", True),
        ("owl/test_1.png", True),
        ("owl/my-val.png", True),
        ("contest/1.png", False),
        ("owl/Test.png", False),
        ("training/1.png", True),
        ("owl/trainer.png", False),
    ],
)
def test_names_that_datasets_takes_for_splits(name: str, is_split: bool) -> None:
    assert split_name([name]) == (name if is_split else None)


LOAD = """
import json, sys, datasets
loaded = datasets.load_dataset("imagefolder", cache_dir=sys.argv[1], **json.loads(sys.argv[2]))
pixel = lambda row: {"image": row["image"].getpixel((0, 0))}
print(json.dumps({split: [{**row, **pixel(row)} for row in own] for split, own in loaded.items()}))
"""


def _loaded(tmp_path: Path, **options: str) -> Any:
    """Return the splits and rows that the library finds, in a process of its own, as it leaves files open."""
    command = [sys.executable, "-c", LOAD, str(tmp_path / "cache"), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_datasets_loads_the_folder(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("datasets")
    rows = [
        *(_row(photos / "a.png", "and/or"), _row(photos / "b.png", "(unsure)")),
        _row(photos / "more/a.png", "owl"),
    ]
    actions: tuple[SortAction, ...] = ("copy", "link")
    for action in actions:
        out = tmp_path / action
        _sort(out, rows, action)
        loaded = _loaded(tmp_path, data_dir=str(out))
        assert list(loaded) == ["train"]
        assert [row["label"] for row in loaded["train"]] == ["and/or", "(unsure)", "owl"]
        assert loaded["train"][0]["image"] == [0, 90, 90]
        assert loaded["train"][2]["probability"] == 0.9
    shutil.copy(photos / "a.png", photos / "test 1.png")
    _sort(out, [_row(photos / "test 1.png", "owl")])
    assert split_name(row[0] for row in _metadata(out)) == "owl/test 1.png"
    assert list(_loaded(tmp_path, data_dir=str(out))) == ["test"]  # which is why the command says this:
    assert len(_loaded(tmp_path, data_files=f"{out}/**")["train"]) == 4


NAMES = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        *("..", ".", "con", "COM1.txt", "a/b", "a\\b", "a_b", "A_B", "-rf", "=1", "owl. ", "~", ""),
        *("x" * 300, "ü" * 200, "__MACOSX", "metadata.csv"),
    ]
)


@given(st.lists(NAMES, unique=True))
def test_every_class_has_a_folder_of_its_own_on_every_file_system(names: list[str]) -> None:
    folders = folder_names(names, taken=("metadata.csv",))
    assert list(folders) == names
    assert len({folder.casefold() for folder in folders.values()} | {"metadata.csv"}) == len(names) + 1
    for folder in folders.values():
        assert 0 < len(folder.encode()) <= 140
        assert not set(folder) & set('<>:"/\\|?*\0\n')
        assert folder[0] not in ".~=+-@#$' "
        assert folder[-1] not in ". "
        assert folder.split(".")[0].lower() not in ("con", "prn", "aux", "nul", "com1", "lpt9")


def test_usual_names_are_folders_as_they_are() -> None:
    names = [
        "tree frog",
        "(unsure)",
        "Blässhuhn",
        "北极熊",
        "it's",
        string.ascii_letters,
        "St. Bernard",
        "4 o'clock",
    ]
    assert folder_names(names) == {name: name for name in names}
    assert folder_names(["owl", "Owl", "and/or", "and_or", "..", "con", "lost+found"]) == {
        "owl": "owl",
        "Owl": "Owl-2",
        "and/or": "and_or",
        "and_or": "and_or-2",
        "..": "_",
        "con": "_con",
        "lost+found": "_lost+found",
    }
