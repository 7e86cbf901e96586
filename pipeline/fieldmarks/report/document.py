"""Pages as files: the security policy, the templates, and writing without touching what is not ours.

A page opens from disk, prints, reads on a phone, runs no script and loads nothing: its policy lets through
the pictures inside it and the one style sheet whose digest it names.
"""

import base64
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fieldmarks import __version__
from fieldmarks.errors import ReportError, StoreError
from fieldmarks.paths import obstacle
from fieldmarks.report import numbers
from fieldmarks.store import disk
from fieldmarks.wording import printable

HERE: Final = Path(__file__).parent
POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
BEGINNING: Final = "<!doctype html><!-- a report of fieldmarks -->"
ENDING: Final = "</html>\n"


def render(template: str, css: tuple[str, ...], context: dict[str, Any]) -> str:
    """Return a page: a template of this folder with its style sheets, in order, and what it shows."""
    style = "".join((HERE / name).read_text("utf-8") for name in css)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    body = _environment().get_template(template)
    page = body.render(
        css=Markup(style), policy=f"{POLICY}; style-src 'sha256-{digest}'", version=__version__, **context
    )
    return f"{BEGINNING}\n{page}\n"


def data_uri(kind: str, content: bytes) -> str:
    """Return content as an address that needs no file; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def check(path: Path) -> None:
    """Raise ReportError where `write` would refuse: an earlier report is replaced, no other file is."""
    check_place(path, "a fieldmarks report", lambda file: has_ends(file, BEGINNING.encode(), ENDING.encode()))
    if path.name == "-":
        raise ReportError(f"{path} cannot be written: a page needs a file, name one that ends in .html")
    check_folder(path, path.resolve().parent)


def check_place(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> None:
    """Raise ReportError where something lies at a path that must not be replaced; see `paths.obstacle`."""
    if reason := obstacle(path, what, is_ours):
        raise ReportError(f"{path} {reason}")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ReportError, which names `path`, where no file can be made in a folder."""
    if not folder.is_dir():
        raise ReportError(f"{path} cannot be written: its folder is not there")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror or error}") from error


def write(path: Path, page: str) -> None:
    """Write a page. Raises ReportError, and as `check`."""
    check(path)
    replace(path, page.encode())


def has_ends(file: BinaryIO, beginning: bytes, ending: bytes) -> bool:
    """Whether a file begins and ends so, as one that fieldmarks wrote whole does."""
    if file.read(len(beginning)) != beginning:
        return False
    file.seek(max(0, file.seek(0, os.SEEK_END) - len(ending)))
    return file.read() == ending


def replace(path: Path, content: bytes) -> None:
    """Put a whole file in the place of an earlier one, or leave that as it was. Raises ReportError.

    Of a symlink the file is replaced that it leads to, not the link.
    """
    try:
        disk.replace(path.resolve(), [content])
    except StoreError as error:
        raise ReportError(str(error)) from error


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shapes = (numbers.percent, numbers.points, numbers.share, numbers.signed, numbers.p_value, numbers.amount)
    environment.filters |= {shape.__name__: shape for shape in shapes} | {"shown": printable}
    return environment
