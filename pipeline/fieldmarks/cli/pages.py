"""The options of every command that writes a page: whose it is and what it is called."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fieldmarks.report.document import Imprint

Command = Callable[..., None]


def page_options(command: Command) -> Command:
    """Add the options for a page's title and author."""
    for option in (
        click.option("--author", metavar="NAME", help="Author, shown below the title of the page."),
        click.option("--title", metavar="TEXT", help="Title of the page  [default: what it shows]."),
    ):
        command = option(command)
    return command


def imprint(options: Mapping[str, Any]) -> "Imprint":
    """Return what the options say of the page. Raises UsageError where no page is written."""
    from fieldmarks.report.document import Imprint

    check(options)
    return Imprint(options["title"], options["author"])


def check(options: Mapping[str, Any]) -> None:
    """Raise UsageError for a title or an author without a page."""
    for name in ("title", "author"):
        if options[name] is not None and options["report"] is None:
            raise click.UsageError(f"--{name} goes with --report FILE")
