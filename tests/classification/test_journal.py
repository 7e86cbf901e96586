"""The results journal: where a stopped run goes on, whose results they are, and what is never touched."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.classification.journal import Journal, identity_of
from fieldmarks.classification.results import FileVersion
from fieldmarks.errors import ReportError

SETTINGS: dict[str, Any] = {
    "classifier": "abc",
    "model": "some/clip",
    "options": {"top": 5, "explain": False},
}
FILE = '"file":{"size":1,"mtime_ns":2,"ctime_ns":3,"sha256":"ab"}'
VERSION = FileVersion("ab", (1, 2, 3))
RESULTS = (
    f'{{"image":"a.png","label":"owl",{FILE}}}\n'
    '{"image":"b.png","error":"why"}\n'
    f'{{"image":"cé.png","label":null,{FILE}}}\n'
).encode()


def _header(**changes: Any) -> bytes:
    header = {"fieldmarks": "results", "version": 1, "identity": identity_of(SETTINGS), "settings": SETTINGS}
    return json.dumps(header | changes).encode() + b"\n"


def _opened(path: Path, content: bytes) -> Journal:
    path.write_bytes(content)
    return Journal(path)


def _done(path: Path, content: bytes) -> dict[str, FileVersion]:
    with _opened(path, content) as journal:
        return journal.done


def test_a_new_file_begins_with_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Journal(path) as journal:
        journal.start(SETTINGS)
        assert journal.done == {}
        journal.append('{"image":"a"}')
        header, line = path.read_text().splitlines()  # at once
    assert line == '{"image":"a"}'
    assert json.loads(header) == {
        "fieldmarks": "results",
        "version": 1,
        "identity": identity_of(SETTINGS),
        "settings": SETTINGS,
    }


def test_an_empty_file_is_used(tmp_path: Path) -> None:
    with _opened(tmp_path / "out.jsonl", b"") as journal:
        journal.start(SETTINGS)
    assert json.loads((tmp_path / "out.jsonl").read_text())["fieldmarks"] == "results"


def test_a_run_that_fails_before_it_starts_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model"), Journal(tmp_path / "out.jsonl"):
        raise ValueError("no model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", range(len(RESULTS) + 1))
def test_cut_at_every_byte(tmp_path: Path, end: int) -> None:
    path, header = tmp_path / "out.jsonl", _header()
    whole = RESULTS[: RESULTS[:end].rfind(b"\n") + 1]
    if RESULTS[end : end + 1] == b"\n":  # a result that lacks its line end is whole
        whole = RESULTS[: end + 1]
    done = {"a.png": VERSION, "cé.png": VERSION}
    with _opened(path, header + RESULTS[:end]) as journal:
        assert list(journal.done) == list(done)[: (whole.count(b"\n") + 1) // 2]
        journal.start(SETTINGS)
        journal.append('{"image":"d"}')
    assert path.read_bytes() == header + whole + b'{"image":"d"}\n'


def test_a_header_that_is_cut_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for end in range(1, len(_header())):
        with pytest.raises(ReportError, match="is not a results journal"):
            _opened(path, _header()[:end])
        assert path.read_bytes() == _header()[:end]


LINES = st.one_of(
    st.tuples(st.sampled_from("abc"), st.just("error"), st.text(max_size=3)),
    st.tuples(st.sampled_from("abc"), st.just("label"), st.none() | st.text(max_size=3)),
)


@pytest.mark.slow
@given(st.lists(LINES, max_size=8))
def test_the_last_line_of_an_image_decides(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str, str | None]]
) -> None:
    rows = [
        {"image": image, key: value, "more": 1} | ({"file": VERSION.to_dict()} if key == "label" else {})
        for image, key, value in lines
    ]
    content = _header() + b"".join(json.dumps(row).encode() + b"\r\n" for row in rows)  # an editor's ends
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    assert set(_done(path, content)) == {
        image for image, key in {image: key for image, key, _ in lines}.items() if key == "label"
    }
    assert path.read_bytes() == content


def test_a_result_without_a_version_is_tried_again(tmp_path: Path) -> None:
    lines = b'{"image":"a","label":"owl"}\n{"image":"b","label":"owl","file":{"size":"1"}}\n'
    assert _done(tmp_path / "out.jsonl", _header() + lines) == {}


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[1]",
        b'{"class":"a"}',
        b'{"image":1,"label":"a"}',
        b'{"image":"a"}',
        b"\xff\xfe",
        b"",
        b"null",
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\nmore"])
def test_what_is_no_result_is_left_alone(tmp_path: Path, line: bytes, end: bytes) -> None:
    path = tmp_path / "out.jsonl"
    content = _header() + RESULTS + line + end
    with pytest.raises(ReportError) as caught:
        _opened(path, content)
    assert str(caught.value).startswith(f"{path}, line 5, is not a result of classify; ")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "end",
    [
        b"my notes",
        b'{"image":"a", my notes',
        b'{"image":"a","label":"b"} and notes',
        b'{"class":"a',
        b"\0\0\0",
        b'{"image":"\xff',
    ],
)
def test_only_the_beginning_of_a_result_is_cut_off(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(ReportError, match="line 5, is not a result of classify"):
        _opened(path, _header() + RESULTS + end)
    assert path.read_bytes() == _header() + RESULTS + end


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_header(version=2), "is a results journal of a newer fieldmarks (version 2): use that one"),
        (
            _header(version="1"),
            "already exists and is not a results journal of fieldmarks; pass another file",
        ),
        (_header(identity=None), "already exists and is not a results journal of fieldmarks"),
        (
            RESULTS,
            "was written with -o (or by version 0.1), not with --resume, so it does not say",
        ),
        (b"\xef\xbb\xbf" + _header(), "already exists and is not a results journal of fieldmarks"),
        (_header().decode().encode("utf-16"), "already exists and is not a results journal of fieldmarks"),
        (b"[" * 100_000 + b"\n", "already exists and is not a results journal of fieldmarks"),
        (b"   \n", "already exists and is not a results journal of fieldmarks"),
    ],
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(ReportError) as caught:
        _opened(path, content)
    assert str(caught.value).startswith(f"{path} {message}")
    assert path.read_bytes() == content


@pytest.mark.slow
def test_a_line_without_bound_is_not_taken_for_one_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    content = _header() + b'{"image":"' + b"a" * 2**26 + b'","label":"owl"}\n'
    with pytest.raises(ReportError, match="line 2, is not a result"):
        _opened(path, content)
    assert path.stat().st_size == len(content)


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    other = SETTINGS | {"model": "another/clip", "options": {"top": 1, "explain": False}}
    with _opened(path, _header() + RESULTS) as journal, pytest.raises(ReportError) as caught:
        journal.start(other)
    assert str(caught.value) == (
        f"{path} holds results of another run (other model, top); use the same options, or pass another file"
        " with --resume"
    )
    assert path.read_bytes() == _header() + RESULTS
    with (
        _opened(path, _header(settings=None)) as journal,
        pytest.raises(ReportError, match="another run; use"),
    ):
        journal.start(other)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nothing").symlink_to("none.jsonl")
    (tmp_path / "sealed").write_bytes(_header())
    (tmp_path / "sealed").chmod(0o444)
    reasons = {
        tmp_path: "it is a folder",
        Path("/dev/full"): "it is not a regular file",
        tmp_path / "pipe": "it is not a regular file",  # and nobody waits for a writer
        tmp_path / "loop": "it is a symlink to a file that does not exist",
        tmp_path / "nothing": "it is a symlink to a file that does not exist",
        tmp_path / "sealed": "it is read-only",
        tmp_path / "none" / "out.jsonl": "No such file or directory",
    }
    for path, reason in reasons.items():
        with pytest.raises(ReportError) as caught:
            Journal(path)
        assert str(caught.value) == f"{path} cannot be used: {reason}; pass another file with --resume"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop", "nothing", "pipe", "sealed"]


def test_a_symlink_to_a_journal_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out.jsonl")
    (tmp_path / "out.jsonl").write_bytes(_header())
    with Journal(tmp_path / "link") as journal:
        journal.start(SETTINGS)
        journal.append('{"image":"a"}')
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out.jsonl").read_bytes() == _header() + b'{"image":"a"}\n'


@pytest.mark.slow
def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    script = (
        "import sys; from pathlib import Path; from fieldmarks.classification.journal import Journal\n"
        "from fieldmarks.errors import ReportError\n"
        "try: Journal(Path(sys.argv[1]))\n"
        "except ReportError as error: print(error)"
    )

    def other() -> str:
        command = [sys.executable, "-c", script, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    with Journal(path) as journal:
        journal.start(SETTINGS)
        assert other() == (
            f"{path} is in use by another fieldmarks process; wait for it to end, or pass another file with"
            " --resume\n"
        )
        with pytest.raises(ReportError, match="is in use"):
            Journal(path)
    assert other() == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "was removed or replaced during the run"),
        (lambda path: path.write_text("mine"), "was changed by another program during the run"),
        (lambda path: path.rename(path.with_name("moved")) and path.write_text("mine"), None),
    ],
)
def test_a_file_that_changes_during_the_run(tmp_path: Path, change: Any, message: str | None) -> None:
    path = tmp_path / "out.jsonl"
    with Journal(path) as journal:
        journal.start(SETTINGS)
        change(path)
        if message is None:  # the results go on where the file was moved to
            journal.append('{"image":"a"}')
            assert path.read_text() == "mine"
            assert (tmp_path / "moved").read_text().endswith('{"image":"a"}\n')
        else:
            with pytest.raises(ReportError, match=message):
                journal.append('{"image":"a"}')


FULL = """
import resource, signal, sys
from pathlib import Path
from fieldmarks.errors import ReportError
from fieldmarks.classification.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal(Path(sys.argv[1])) as journal:
    journal.start({})
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    try:
        for _ in range(100):
            journal.append('{"image":"a","label":"owl"}')
    except ReportError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith(f"{path} cannot be written: File too large")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) > 1
    assert set(lines[1:]) == {b'{"image":"a","label":"owl"}\n'}
