"""The command line: one module per command group."""

from fieldmarks.cli.root import main

__all__ = ["main"]
