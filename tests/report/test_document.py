"""Files that a report becomes: whole or not at all, also where several processes write the same one."""

import threading
from pathlib import Path

import pytest

from fieldmarks.errors import ReportError
from fieldmarks.report import document


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ReportError, match=r"a\.html cannot be written: "):
        document.replace(tmp_path / "a.html", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.parametrize("name", ["-", "nowhere/a.html", "/proc/a.html"])
def test_what_could_not_be_written_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReportError, match=f"^{name} cannot be written: "):
        document.check(Path(name))
    document.check(Path("a.html"))
    assert list(tmp_path.iterdir()) == []


def test_several_write_the_same_file(tmp_path: Path) -> None:
    failed: list[ReportError] = []

    def write(letter: bytes) -> None:
        for _ in range(50):
            try:
                document.replace(tmp_path / "a.html", letter * 10_000)
            except ReportError as error:
                failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    content = (tmp_path / "a.html").read_bytes()
    assert content in (b"a" * 10_000, b"b" * 10_000)
