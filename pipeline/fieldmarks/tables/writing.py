"""Writes CSV that spreadsheets can open; every CSV file that fieldmarks writes comes from here.

The text is UTF-8 with a byte order mark, without which Excel assumes another encoding, and its lines end in
CR LF (RFC 4180). A text that a spreadsheet would run as a formula, or that looks like a comment, gets a
leading apostrophe, which `unguarded` removes. Numbers are written unchanged.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Final

BOM: Final = "\ufeff"
_GUARDED: Final = re.compile(r"'*\s*[=+\-@＝＋－＠#\t\r\n]|'*$")


def csv_text(rows: Iterable[Iterable[object]], delimiter: str = ",") -> str:
    """Return the text of a whole file."""
    return BOM + "".join(csv_row(row, delimiter) for row in rows)


def csv_row(cells: Iterable[object], delimiter: str = ",") -> str:
    """Return a line with its newline. None becomes an empty cell, an empty string an apostrophe."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter).writerow(
        _guarded(cell) if isinstance(cell, str) else cell for cell in cells
    )
    return line.getvalue()


def unguarded(cell: str) -> str:
    """Return the text that a cell stands for."""
    return cell[1:] if cell.startswith("'") and _GUARDED.match(cell[1:]) else cell


def _guarded(cell: str) -> str:
    return f"'{cell}" if _GUARDED.match(cell) else cell
