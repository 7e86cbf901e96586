"""The type of options that name a file to write, whose suffix tells its format."""

import os
from pathlib import Path
from typing import Any

import click

STDOUT = "-"


class OutputFile(click.Path):
    """A file to write. A new one must have the suffix of its format, so that other programs recognise it.

    An existing one is judged by its content, by the code that writes it; "-" is stdout if a command has that.
    """

    def __init__(self, suffix: str, path_type: type = Path) -> None:
        super().__init__(path_type=path_type)
        self.suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail as click does."""
        name = os.fspath(value)
        if name != STDOUT and not os.path.lexists(name) and Path(name).suffix.lower() != self.suffix:
            self.fail(f"{name}: expected a name that ends in {self.suffix}", param, ctx)
        return super().convert(value, param, ctx)
