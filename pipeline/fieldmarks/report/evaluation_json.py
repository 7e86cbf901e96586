"""An evaluation as a JSON file, in the form that the evaluation's records define."""

from pathlib import Path
from typing import Final

import orjson

from fieldmarks.evaluation.results import Evaluation
from fieldmarks.report import document

_BEGINNING: Final = b'{"v":1,"settings":{"fieldmarks":'  # as orjson writes it
_ENDING: Final = b"}\n"


def encode(evaluation: Evaluation) -> bytes:
    """Return the evaluation as one line of JSON."""
    return orjson.dumps(evaluation.to_dict()) + b"\n"


def check(path: Path) -> None:
    """Raise ReportError where `write` would refuse: an earlier evaluation is replaced, no other file is."""
    document.check_place(
        path, "a fieldmarks evaluation", lambda file: document.has_ends(file, _BEGINNING, _ENDING)
    )
    document.check_folder(path, path.resolve().parent)


def write(evaluation: Evaluation, path: Path) -> None:
    """Write the file. Raises ReportError, and as `check`."""
    check(path)
    document.replace(path, encode(evaluation))
