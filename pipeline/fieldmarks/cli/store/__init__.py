"""The commands on stores: read, change, lint, exchange."""

from fieldmarks.cli.store.changing import add, drop, rename, reparse, replace
from fieldmarks.cli.store.editing import edit
from fieldmarks.cli.store.exchanging import compact, copy, diff, export, import_, merge
from fieldmarks.cli.store.group import store
from fieldmarks.cli.store.linting import lint
from fieldmarks.cli.store.packing import pack, page
from fieldmarks.cli.store.reading import grep, history, list_, show, stats
from fieldmarks.cli.store.reverting import redo, restore, undo
from fieldmarks.cli.store.reviewing import review

for command in (
    *(add, compact, copy, diff, drop, edit, export, grep, history, import_),
    *(lint, list_, merge, pack, page, redo, rename, reparse, replace, restore, review, show, stats, undo),
):
    store.add_command(command)

__all__ = ["store"]
