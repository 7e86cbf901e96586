"""What was sorted is taken back: all of it, or what is safe, in one run or in several that were killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.choices import SortAction
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sorting import SortedFolder
from fieldmarks.classification.unsorting import Undone, count_steps, unsort
from fieldmarks.errors import ReportError

ACTIONS: tuple[SortAction, ...] = ("copy", "move", "link")
NAMES = ("a.png", "b.png", "more/a.png", "more/ü.png")


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder and their content; links as what they name."""
    return {
        path.relative_to(folder).as_posix(): os.fsencode(os.readlink(path))  # noqa: PTH115
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(f"content of {name}".encode())
    return folder


def _sort(out: Path, images: Iterable[Path], action: SortAction) -> None:
    folder = SortedFolder(out, ["owl", "tree frog"])
    rows: list[Sequence[object]] = [
        (str(image), ("owl", "tree frog")[number % 2], "0.9", "newt", "0.1", "marks")
        for number, image in enumerate(images)
    ]
    for step in folder.carry_out(folder.plan(rows, action)):
        assert not isinstance(step, Failure)


def _failures(out: Path) -> dict[str, str]:
    return {Path(step.image).name: step.error for step in unsort(out) if isinstance(step, Failure)}


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(ACTIONS)), max_size=6), st.booleans())
def test_any_runs_are_undone(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, SortAction]], there: bool
) -> None:
    folder = tmp_path_factory.mktemp("sorting")
    for name in NAMES:
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(f"content of {name}".encode())
    if there:
        (folder / "out" / "owl").mkdir(parents=True)
        (folder / "out" / "owl" / "a.png").write_bytes(b"mine")
    before = _contents(folder)
    for name, action in runs:
        if (image := folder / "photos" / name).exists():
            _sort(folder / "out", [image], action)
    if runs:
        planned = list(unsort(folder / "out", dry_run=True))
        assert len(planned) == count_steps(folder / "out")
        list(unsort(folder / "out"))
    # A link to an image that a later run moved, and a second copy, are undone as well.
    assert _contents(folder) == before
    assert (folder / "out").exists() == there


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dry_run_changes_nothing_and_a_second_run_has_nothing_to_do(
    tmp_path: Path, photos: Path, action: SortAction
) -> None:
    out = tmp_path / "out"
    _sort(out, [photos / name for name in NAMES], action)
    before = _contents(tmp_path)
    planned = list(unsort(out, dry_run=True))
    assert _contents(tmp_path) == before
    assert list(unsort(out)) == planned
    assert {step.action for step in planned if isinstance(step, Undone)} == {action}
    with pytest.raises(ReportError, match=r"out: no such folder, or all of it was undone"):
        list(unsort(out))


def test_what_changed_since_stays(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    for name in NAMES:
        _sort(out, [photos / name], "copy")
    _sort(out, [photos / "b.png"], "link")  # as b-2.png? the same image is there: no step
    assert count_steps(out) == 4
    (out / "owl" / "a.png").write_bytes(b"retouched")
    (photos / "b.png").unlink()
    (out / "owl" / "ü.png").unlink()
    (out / "owl" / "ü.png").symlink_to(photos / "more" / "ü.png")
    before = _contents(out)
    assert _failures(out) == {
        "a.png": f"stays: it or its original {photos / 'a.png'} was changed",
        "b.png": f"stays: its original {photos / 'b.png'} is gone",
        "ü.png": "stays: it is no longer the file that was put there",
    }
    after = _contents(out)
    assert before.keys() - after.keys() == {"owl/a-2.png"}
    assert [json.loads(line)["to"] for line in after["sorted.jsonl"].splitlines()] == [
        str(out / "owl" / name) for name in ("a.png", "b.png", "ü.png")
    ]
    assert after["metadata.csv"].count(b"\r\n") == 4
    (photos / "b.png").write_bytes(b"content of b.png")
    (out / "owl" / "a.png").write_bytes(b"content of a.png")
    assert list(_failures(out)) == ["ü.png"]


def test_the_only_content_is_never_removed(tmp_path: Path, photos: Path) -> None:
    """The original is now a link to the copy: removing the copy would lose the image."""
    out = tmp_path / "out"
    _sort(out, [photos / "a.png"], "copy")
    (photos / "a.png").unlink()
    (photos / "a.png").symlink_to(out / "owl" / "a.png")
    assert _failures(out) == {"a.png": f"stays: it or its original {photos / 'a.png'} was changed"}
    assert (photos / "a.png").read_bytes() == b"content of a.png"


def test_a_moved_image_returns_to_a_free_place_only(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    _sort(out, [photos / "more" / "a.png", photos / "b.png", photos / "a.png"], "move")
    (photos / "b.png").write_bytes(b"a new one")
    (out / "owl" / "a.png").unlink()
    for path in (photos / "more").iterdir():
        path.unlink()
    (photos / "more").rmdir()
    assert _failures(out) == {
        "b.png": f"stays: another file is at {photos / 'b.png'}",
        "a.png": f"is no longer there, nor is {photos / 'more' / 'a.png'}",
    }
    assert _contents(photos) == {"a.png": b"content of a.png", "b.png": b"a new one"}
    assert (out / "tree frog" / "b.png").read_bytes() == b"content of b.png"


def test_links_that_lead_elsewhere_now_and_files_of_others_stay(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    _sort(out, [photos / name for name in NAMES], "link")
    (out / "owl" / "a.png").unlink()
    (out / "owl" / "a.png").symlink_to("elsewhere")
    (out / "tree frog" / "notes.txt").write_text("mine")
    (photos / "b.png").unlink()  # a link that dangles is ours all the same
    assert _failures(out) == {"a.png": f"stays: it is no longer the link to {photos / 'a.png'}"}
    assert sorted(_contents(out)) == ["owl/a.png", "sorted.jsonl", "tree frog/notes.txt"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"notes\n", "line 2: not a step of sorting: nothing was undone"),
        (b'{"action": "burn", "from": "/a", "to": "/b"}\n', "line 2: not a step"),
        (b'{"action": "move", "from": "a", "to": "/b"}\n', "line 2: not a step"),
        (b"[" * 5000 + b"\n", "line 2: not a step"),
        (b'{"action": "move", "from": "/a.png", "to": "/other/owl/a.png"}\n', "if the folder was renamed"),
        (b'{"action": "copy", "from": "/a.png", "to": "OUT/../photos/a.png"}\n', "is not in"),
        (b'{"action": "copy", "from": "/a.png", "to": "OUT/link/a.png"}\n', "leads out of"),
        (b'{"action": "copy", "from": "/a.png", "to": "OUT/sorted.jsonl"}\n', "is not in"),
    ],
)
def test_a_list_that_is_not_of_this_folder_is_refused(
    tmp_path: Path, photos: Path, line: bytes, problem: str
) -> None:
    out = tmp_path / "out"
    _sort(out, [photos / "a.png"], "copy")
    (out / "link").symlink_to(photos)
    with (out / "sorted.jsonl").open("ab") as file:
        file.write(line.replace(b"OUT", str(out).encode()))
    before = _contents(tmp_path)
    with pytest.raises(ReportError, match=problem):
        list(unsort(out))
    assert _contents(tmp_path) == before


def test_a_line_that_was_not_written_whole_is_of_no_step(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    _sort(out, [photos / "a.png"], "move")
    with (out / "sorted.jsonl").open("ab") as file:
        file.write(b'{"action": "mo')
    _sort(out, [photos / "b.png"], "move")  # cuts it off
    assert count_steps(out) == 2
    with (out / "sorted.jsonl").open("ab") as file:
        file.write(b'{"action": "mo')
    assert _failures(out) == {}
    assert not out.exists()


def test_nobody_sorts_meanwhile(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "out"
    _sort(out, [photos / "a.png", photos / "b.png"], "copy")
    running = unsort(out)
    next(running)
    with pytest.raises(ReportError, match="is being sorted into by another process"):
        next(unsort(out))
    with pytest.raises(ReportError, match="is being sorted into by another process"):
        _sort(out, [photos / "more" / "a.png"], "copy")
    running.close()
    assert count_steps(out) == 1


def _killed(script: str, folder: Path, lines: int) -> None:
    """Run a script in a folder and kill it when it has printed so many lines."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script], cwd=folder, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        for _ in range(lines):
            assert running.stdout.readline()
        running.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_what_was_killed_in_the_middle_is_finished(tmp_path: Path, action: SortAction) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(2000):
        (photos / f"{number}.png").write_bytes(b"%d" % number)
    before = _contents(tmp_path)
    sort = f"""
from fieldmarks.classification.sorting import SortedFolder
folder = SortedFolder(__import__("pathlib").Path("out"), ["owl"])
rows = [(f"photos/{{n}}.png", "owl", "0.9", "newt", "0.1", "") for n in range(2000)]
for step in folder.carry_out(folder.plan(rows, {action!r})):
    print(step.source)
"""
    undo = """
from fieldmarks.classification.unsorting import unsort
for step in unsort(__import__("pathlib").Path("out")):
    print(step.target)
"""
    _killed(sort, tmp_path, 700)
    done = count_steps(out)
    assert 700 <= done < 2000
    _killed(undo, tmp_path, 300)
    steps = list(unsort(out))
    assert len(steps) == done
    assert all(isinstance(step, Undone) for step in steps)
    assert 300 <= sum(step.is_gone for step in steps if isinstance(step, Undone)) < done
    assert _contents(tmp_path) == before
    assert not out.exists()
