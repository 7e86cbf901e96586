"""The frame that all pages share, and writing them: title and facts, one style sheet, one policy.

    body = fragment("results.html.j2", cards=cards)
    page = document("240 images", body, {"Store": "frogs.jsonl"}, imprint=Imprint(author="A. Finch"))
    write(Path("page.html"), page)

A page opens from disk, prints, works on a phone, in light and in dark, and makes no network requests: its
content security policy allows the images inside it and, by digest, its style sheet and at most one script.
Everything can be read without the script. Templates escape their values. Templates and style sheets for one
kind of page are in this folder, too; their colours, like the server's, are those of palette.css.
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
    """What people may state about a page: its title (by default the page's own), author and date."""

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

    - `heading` says what the page is about; the imprint's title, if any, goes above it.
    - `body` is what `fragment` returns: sections, with their own headings from h2 down.
    - `facts` follow author and date below the heading, by term; a Markup is a fact with a link.
    - `styles` and `script` are files in this folder, for what only this kind of page has.
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
    """Return a part of a page: a template of this folder, rendered with its values."""
    return Markup(_environment().get_template(template).render(context))


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a data URI; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def check(path: Path) -> None:
    """Raise ReportError if `write` would: it replaces an earlier report, but no other file."""
    check_place(path, "a fieldmarks report", lambda file: has_ends(file, BEGINNING.encode(), ENDING.encode()))
    if path.name == "-":
        raise ReportError(f"{path} cannot be written: a page needs a file name: pass one that ends in .html")
    check_folder(path, path.resolve().parent)


def check_place(path: Path, what: str, is_ours: Callable[[BinaryIO], bool]) -> None:
    """Raise ReportError if a path holds something that must not be replaced; see `paths.obstacle`."""
    if reason := obstacle(path, what, is_ours):
        raise ReportError(f"{path} {reason}")


def check_folder(path: Path, folder: Path) -> None:
    """Raise ReportError, which names `path`, if no file can be created in a folder."""
    if reason := unwritable(path, folder):
        raise ReportError(f"{path} {reason}")


def write(path: Path, page: str) -> None:
    """Write a page. Raises ReportError, and as `check` does."""
    check(path)
    replace(path, page.encode())


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically, or leave it as it was. Raises ReportError.

    If it is a symlink, its target is replaced, not the link.
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
