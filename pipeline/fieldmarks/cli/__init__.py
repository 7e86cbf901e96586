"""The command line: one module per command or group, which `root` imports when the command runs."""

from fieldmarks.cli.root import main

__all__ = ["main"]
