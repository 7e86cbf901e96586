"""Where files live, whatever the environment says, and what is opened there."""

import os
from pathlib import Path

import pytest

from fieldmarks.errors import FieldmarksError
from fieldmarks.paths import make_private, open_regular, read_regular, user_cache


@pytest.mark.parametrize("name", ["FIELDMARKS_CACHE", "XDG_CACHE_HOME"])
def test_a_home_that_there_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIELDMARKS_CACHE")
    monkeypatch.setenv(name, "~nobody-of-this-name/cache")
    with pytest.raises(FieldmarksError, match=r"^~nobody-of-this-name/cache.*set FIELDMARKS_CACHE"):
        user_cache()


def test_a_regular_file_is_opened_and_nothing_that_blocks(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    for path, limit, reason in (
        (tmp_path / "file", 4, "larger than 4 bytes"),
        (tmp_path / "pipe", 9, "it is not a regular file"),
        (Path("/dev/zero"), 9, "it is not a regular file"),
        (tmp_path, 9, "it is a folder"),
    ):
        with pytest.raises(OSError, match=reason):
            read_regular(path, limit)
    with pytest.raises(OSError, match="it is a symlink"):
        open_regular(tmp_path / "link", follow=False)


def test_a_cache_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "cache")
    make_private(tmp_path / "a" / "cache")
    assert (tmp_path / "a" / "cache").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "file")
