"""Which pictures are meant, in which order, and what they are called."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import MAX_BYTES, FolderContents, find, inputs_of, name_of, read_bytes
from fieldmarks.errors import ImageError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures at several depths, and what is none."""
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        ".hidden.png",
        "sub/d.webp",
        "sub/c.jpeg",
        ".git/e.png",
        "[x].png",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_searched_at_any_depth_sorted(tree: Path) -> None:
    assert list(find(["."])) == ["[x].png", "a.PNG", "b.jpg", "sub/c.jpeg", "sub/d.webp"]
    assert list(find([str(tree / "sub")])) == [f"{tree}/sub/c.jpeg", f"{tree}/sub/d.webp"]


def test_inputs_keep_their_order_and_any_name(tree: Path) -> None:
    given = ["b.jpg", "notes.txt", "a.PNG", "none.png", ".hidden.png"]
    assert list(find(given)) == given


def test_globs_are_sorted_and_a_file_of_that_name_comes_first(tree: Path) -> None:
    assert list(find(["*.[jP]*"])) == ["a.PNG", "b.jpg"]
    assert next(find(["**/d.*"])) == "sub/d.webp"
    assert list(find(["[x].png"])) == ["[x].png"]


def test_a_folder_or_glob_without_pictures_is_a_failure_and_the_others_go_on(tree: Path) -> None:
    assert list(find(["empty", "*.tiff", "", "b.jpg"])) == [
        Failure("empty", "a folder without images"),
        Failure("*.tiff", "matches no files"),
        Failure("", "an empty path"),
        "b.jpg",
    ]


def test_paths_on_stdin(tree: Path) -> None:
    lines = io.StringIO("b.jpg\n\nsub\r\n-\n*.PNG\nno end")
    assert list(find(["-"], lines)) == ["b.jpg", "sub/c.jpeg", "sub/d.webp", "a.PNG", "no end"]


def test_web_addresses_are_not_fetched_and_their_passwords_not_repeated() -> None:
    remedy = "a web address; download the image and pass the file"
    assert list(find(["http://host/a.png", "HTTPS://u:secret@host/b.png"])) == [
        Failure("http://host/a.png", remedy),
        Failure("HTTPS://host/b.png", remedy),
    ]
    assert list(find(["-"], io.StringIO("http://host/a.png"))) == [Failure("http://host/a.png", remedy)]


def test_names(tmp_path: Path) -> None:
    assert name_of(tmp_path / "a.png", 7) == str(tmp_path / "a.png")
    assert name_of(os.fsdecode(b"caf\xe9.png"), 1) == "caf\\xe9.png"
    assert name_of(object(), 7) == "image 7"  # type: ignore[arg-type]


def test_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    messages = {
        tmp_path: "a folder, not an image",
        tmp_path / "fifo": "not a regular file",
        Path(os.devnull): "not a regular file",
        tmp_path / "none.png": "cannot be read: No such file or directory",
        tmp_path / ("x" * 300): "cannot be read: File name too long",
        Path("a\0b"): "cannot be read: embedded null byte",
    }
    for path, message in messages.items():
        with pytest.raises(ImageError) as caught:
            read_bytes(path)
        assert str(caught.value) == message


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ImageError, match="too large: 268435457 bytes, the limit is 268435456"):
        read_bytes(tmp_path / "large.png")


def test_a_folder_is_read_by_suffix_or_by_content_and_the_rest_is_counted(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    jpeg = b"\xff\xd8\xff\xe0 and so on"
    for name in ("a.JFIF", "b.jpe", "c.dng", "d.heic", "e.avif", "sub/f.jp2"):
        (photos / name).touch()
    for name in ("no suffix", "copy.jpg.bak", "movie.mov", "notes.txt", "raw.NEF", "sub/more.txt"):
        (photos / name).write_bytes(jpeg if name[0] in "ncr" else b"text")
    (photos / "readme").write_bytes(b"text")
    os.mkfifo(photos / "pipe")
    contents = FolderContents()
    found = [Path(str(path)).name for path in find([str(photos)], contents=contents)]
    assert found == ["a.JFIF", "b.jpe", "c.dng", "copy.jpg.bak", "d.heic", "e.avif", "no suffix", "f.jp2"]
    left_out = "2 without a suffix, 2 .txt, 1 .mov, 1 .nef"
    assert contents.notice() == f"{photos}: 8 images; left out: {left_out}"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "g.png").touch()
    list(find([str(tmp_path / "other")], contents=contents))
    assert contents.notice() == f"{photos} and 1 more: 9 images; left out: {left_out}"


def test_a_folder_of_other_files_says_which(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"a.x{number}").touch()
    (tmp_path / "b.x6").touch()
    contents = FolderContents()
    message = "a folder without images: it has 2 .x6, 1 .x0, 1 .x1, 1 .x2, 1 .x3, 1 .x4, 1 more"
    assert list(find([str(tmp_path)], contents=contents)) == [Failure(str(tmp_path), message)]
    assert contents.notice() is None


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    helpers = [
        "@eaDir",
        "__MACOSX",
        "#recycle",
        ".thumbnails",
        ".ipynb_checkpoints",
        "$RECYCLE.BIN",
        ".Trash",
    ]
    for folder in [*helpers, "lost+found", "System Volume Information", "photos"]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    for name in ("._a.jpg", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "photos" / name).touch()
    contents = FolderContents()
    assert list(find([str(tmp_path)], contents=contents)) == [f"{tmp_path}/photos/a.jpg"]
    assert contents.notice() is None
    assert list(find([f"{tmp_path}/@eaDir"])) == [f"{tmp_path}/@eaDir/a.jpg"]  # named by the user


def test_links_are_followed_once_and_only_out_of_the_folder(tmp_path: Path) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for name in ("photos/own/a.png", "elsewhere/deep/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (photos / "again").symlink_to(elsewhere / "deep")
    (photos / "a link").symlink_to(elsewhere)
    (photos / "same").symlink_to(photos / "own")
    (photos / "up").symlink_to(tmp_path)
    (photos / "own" / "round").symlink_to(photos)
    (elsewhere / "deep" / "back").symlink_to(elsewhere)
    (photos / "nowhere").symlink_to(photos / "nowhere")
    contents = FolderContents()
    found = list(find([str(photos)], contents=contents))
    assert found == [f"{photos}/a link/deep/b.png", f"{photos}/own/a.png"]
    assert contents.left_out == {"": 1}  # the link to nowhere


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_subfolder_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.png").touch()
    closed = Failure(f"{tmp_path}/closed", "cannot be read: Permission denied")
    assert list(find([str(tmp_path)])) == [f"{tmp_path}/a.png", closed]


@pytest.mark.parametrize(
    "image", [b"bytes of a file", bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"x\ny")]
)
def test_the_bytes_of_a_file_are_one_input_not_a_list_of_numbers(image: Any) -> None:
    assert list(inputs_of(image)) == [image]
