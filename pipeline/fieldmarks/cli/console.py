"""What all commands share in talking: notices and progress on stderr, JSON on stdout."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from fieldmarks.store import Store


def stderr() -> "Console":
    """Return a rich console on stderr, where everything that is not the result goes."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line on stderr, as it is."""
    click.echo(message, err=True)


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object as a line on stdout."""
    import orjson

    click.echo(orjson.dumps(value).decode())


def open_store(path: str, *, create: bool = False) -> "Store":
    """Open a store and tell its notices. Raises StoreError."""
    from fieldmarks.store import Store

    store = Store.open(path, create=create)
    for notice in store.notices:
        say(f"Note: {notice}")
    return store


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers' own progress bars and advice off stderr while a model loads."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
