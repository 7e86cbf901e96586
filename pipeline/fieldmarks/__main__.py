"""`python -m fieldmarks` is the `fieldmarks` command."""

from fieldmarks.cli import main

main(prog_name="fieldmarks")
