"""The command line: one module per command group; `root` knows them by name and imports one when it runs."""

from fieldmarks.cli.root import main

__all__ = ["main"]
