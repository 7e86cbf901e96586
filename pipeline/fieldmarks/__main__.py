"""Runs the `fieldmarks` command with `python -m fieldmarks`."""

from fieldmarks.cli import main

main(prog_name="fieldmarks")
