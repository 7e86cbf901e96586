"""What all commands share in talking: notices and progress on stderr, JSON on stdout."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fieldmarks.store import Store


class ConfirmationNeeded(click.ClickException):
    """A command has to ask and there is no terminal to ask on: wrong usage, told in one line."""

    exit_code = 2


def say(message: str) -> None:
    """Print one line on stderr, as it is."""
    click.echo(message, err=True)


def tell(message: str) -> None:
    """Print one line on stderr, with control characters of strangers' texts escaped."""
    from fieldmarks.wording import printable

    click.echo(printable(message), err=True)


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object as a line on stdout, in ASCII where stdout takes no other letters."""
    import orjson

    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # integers beyond 64 bits, and file names that are not Unicode
        text = json.dumps(value)
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        text = json.dumps(json.loads(text))
    click.echo(text)


def open_store(path: str, *, create: bool = False) -> "Store":
    """Open a store and tell its notices, now and when the command ends. Raises StoreError."""
    from fieldmarks.store import Store

    store = Store.open(path, create=create)
    say_notices(store)
    if context := click.get_current_context(silent=True):
        context.call_on_close(lambda: say_notices(store))
    return store


def say_notices(store: "Store") -> None:
    """Tell a store's notices, each once."""
    notices, store.notices[:] = list(store.notices), []
    for notice in notices:
        say(f"Note: {notice}")
