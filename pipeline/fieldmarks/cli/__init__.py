"""The command line: one module per command group, each imported by its own name here."""

from fieldmarks.cli.classify import classify
from fieldmarks.cli.demo import demo
from fieldmarks.cli.generate import generate
from fieldmarks.cli.root import main

main.add_command(classify)
main.add_command(generate)

__all__ = ["main"]

main.add_command(demo)
