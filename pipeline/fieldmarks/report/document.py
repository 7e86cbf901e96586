"""The frame that all pages share, and their files: title and facts, one style sheet, one policy.

    body = fragment("results.html.j2", cards=cards)
    page = document("240 images", body, {"Store": "frogs.jsonl"}, imprint=Imprint(author="A. Finch"))
    write(Path("page.html"), page)

A page opens from disk, prints, reads on a phone, in light and in dark, and makes no network request: its
policy lets through the images inside it and, by their digests, its style sheet and at most one script,
without which everything can be read. A template escapes what it is given. Templates and style sheets of one
kind of page are files of this folder too; their colours are those of palette.css, as are the server's.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fieldmarks import __version__
from fieldmarks.errors import ReportError, StoreError
from fieldmarks.paths import has_ends, obstacle, unwritable
from fieldmarks.report.numbers import amount, p_value, percent, points, share, signed
from fieldmarks.store import durable
from fieldmarks.text import counted, printable

HERE: Final = Path(__file__).parent
PALETTE: Final = HERE / "palette.css"
POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
BEGINNING: Final = "<!doctype html><!-- a report of fieldmarks -->"
ENDING: Final = "</html>\n"
FORMATS: Final = (amount, p_value, percent, points, share, signed)  # filters of the templates
COUNTED: Final = {"counted": lambda count, thing: counted(int(count), thing)}


def _today() -> str:
    day = date.today()
    return f"{day.day} {day:%B %Y}"


@dataclass(frozen=True, slots=True)
class Imprint:
    """What people say of a page: its title (the page's own by default), its author, and the day."""

    title: str | None = None
    author: str | None = None
    date: str = field(default_factory=_today)


def document(
    heading: str,
    body: Markup,
    facts: Mapping[str, str | Markup],
    *,
    imprint: Imprint | None = None,
    styles: Sequence[str] = (),
    script: str | None = None,
) -> str:
    """Return a page.

    - `heading` says what the page is of; the imprint's title stands above it where there is one.
    - `body` is what `fragment` returns: sections, which bring their own headings from h2 on.
    - `facts` follow author and date below the heading, by term; a Markup is a fact with a link.
    - `styles` and `script` are files of this folder, for what only this kind of page has.
    """
    imprint = imprint or Imprint()
    style, code = _read(PALETTE.name, "document.css", *styles), _read(*([script] if script else []))
    policy = f"{POLICY}; style-src {_digest(style)}" + (f"; script-src {_digest(code)}" if code else "")
    page = _environment().get_template("document.html.j2")
    content = page.render(
        title=imprint.title or heading,
        subtitle=heading if imprint.title else None,
        facts={"Author": imprint.author, "Date": imprint.date} | dict(facts),
        body=body,
        policy=policy,
        css=Markup(style),
        script=Markup(code),
        version=__version__,
    )
    return f"{BEGINNING}\n{content}\n"


def fragment(template: str, **context: Any) -> Markup:
    """Return a part of a page: a template of this folder with what it shows."""
    return Markup(_environment().get_template(template).render(context))


def data_uri(kind: str, content: bytes) -> str:
    """Return content as an address that needs no file; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def check(path: Path) -> None:
    """Raise ReportError where `write` would refuse: an earlier report is replaced, no other file is."""
    check_place(path, "a fieldmarks report", lambda file: has_ends(file, BEGINNING.encode(), ENDING.encode()))
    if path.name == "-":
        raise ReportError(f"{path} cannot be written: a page needs a file name: pass one that ends in .html")
    check_folder(path, path.resolve().parent)


def check_place(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> None:
    """Raise ReportError where something lies at a path that must not be replaced; see `paths.obstacle`."""
    if reason := obstacle(path, what, is_ours):
        raise ReportError(f"{path} {reason}")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ReportError, which names `path`, where no file can be made in a folder."""
    if reason := unwritable(path, folder):
        raise ReportError(f"{path} {reason}")


def write(path: Path, page: str) -> None:
    """Write a page. Raises ReportError, and as `check`."""
    check(path)
    replace(path, page.encode())


def replace(path: Path, content: bytes) -> None:
    """Put a whole file in the place of an earlier one, or leave that as it was. Raises ReportError.

    Of a symlink the file is replaced that it leads to, not the link.
    """
    try:
        durable.replace(path.resolve(), [content])
    except StoreError as error:
        raise ReportError(str(error)) from error


def _read(*names: str) -> str:
    return "".join((HERE / name).read_text("utf-8") for name in names)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {form.__name__: form for form in FORMATS} | COUNTED | {"shown": printable}
    return environment
