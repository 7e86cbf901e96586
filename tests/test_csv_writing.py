"""Every CSV that is written: what a spreadsheet makes of it, and that one function writes it."""

import csv
import io
import re

from hypothesis import given
from hypothesis import strategies as st
from tests.documents import ROOT

from fieldmarks.tables.writing import csv_row, csv_text, unguarded

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    ["=1+1", "'=1", "''", "-2", " @x", "#N/A", "\t=1", "＝1", "+", "a,b", 'say "so"', "two\nlines"]
)
ROWS = st.lists(st.lists(CELLS, min_size=2, max_size=3), max_size=4)


def _read(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


@given(ROWS, st.sampled_from([",", "\t"]))
def test_cells_come_back_and_none_is_a_formula(rows: list[list[str]], delimiter: str) -> None:
    text = csv_text(rows, delimiter)
    assert text.startswith("\ufeff")
    read = _read(text.removeprefix("\ufeff"), delimiter)
    assert [[unguarded(cell) for cell in row] for row in read] == rows
    assert [cell for row in read for cell in row if re.match(r"\s*[=+\-@＝＋－＠#\t\r\n]", cell)] == []


def test_numbers_are_written_as_they_are() -> None:
    assert csv_row(["-2", -2, -0.5, None, ""]) == "'-2,-2,-0.5,,'\r\n"


def test_no_other_module_writes_csv() -> None:
    package = ROOT / "pipeline" / "fieldmarks"
    writers = [
        path for path in package.rglob("*.py") if re.search(r"csv\.(Dict)?[wW]riter", path.read_text("utf-8"))
    ]
    assert [str(path.relative_to(package)) for path in writers] == ["tables/writing.py"]
