"""The commands on stores: read, change, lint, exchange."""

from fieldmarks.cli.store.changing import add, drop, edit, redo, rename, reparse, restore, undo
from fieldmarks.cli.store.exchanging import compact, copy, diff, export, import_, merge
from fieldmarks.cli.store.group import store
from fieldmarks.cli.store.linting import lint
from fieldmarks.cli.store.reading import history, list_, show, stats

for command in (
    *(add, compact, copy, diff, drop, edit, export, history, import_),
    *(lint, list_, merge, redo, rename, reparse, restore, show, stats, undo),
):
    store.add_command(command)

__all__ = ["store"]
