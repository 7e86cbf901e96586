"""The file that tells where a stopped run has to go on."""

from pathlib import Path

import pytest

from fieldmarks.errors import ImageError
from fieldmarks.report.journal import Journal

LINES = (
    b'{"image":"a.png","label":"owl"}\n'
    b'{"image":"b.png","error":"why"}\n'
    b'{"image":"c\\u00e9.png","label":null}\n'
)


def test_a_new_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl") as journal:
        assert journal.done == set()
        journal.append('{"image":"a"}')
        assert (tmp_path / "out.jsonl").read_text() == '{"image":"a"}\n'  # at once


@pytest.mark.parametrize("end", range(len(LINES) + 1))
def test_cut_at_every_byte(tmp_path: Path, end: int) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(LINES[:end])
    with Journal(path) as journal:
        assert journal.done == set(["a.png", "b.png", "cé.png"][: LINES[:end].count(b"\n")])
        journal.append('{"image":"d"}')
    whole = LINES[: LINES[:end].rfind(b"\n") + 1]
    assert path.read_bytes() == whole + b'{"image":"d"}\n'


@pytest.mark.parametrize(
    "line", [b"hello", b"[1]", b'{"class":"a"}', b'{"image":1}', b"\xff\xfe", b"", b"null"]
)
def test_any_other_file_is_left_alone(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "diary"
    path.write_bytes(LINES + line + b"\nmore")
    with pytest.raises(ImageError) as caught:
        Journal(path)
    assert str(caught.value) == f"{path}, line 4 is no result of classify: name another file to resume"
    assert path.read_bytes() == LINES + line + b"\nmore"


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/full")):  # which would be read without end
        with pytest.raises(ImageError, match="cannot be opened: it is a folder or a device, not a file"):
            Journal(path)
    with pytest.raises(ImageError, match="cannot be opened: No such file or directory"):
        Journal(tmp_path / "none" / "out.jsonl")
