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

# In the order of the workflow, as `fieldmarks store --help` lists them.
for command in (
    *(list_, show, grep, stats, lint, page, review),
    *(edit, add, drop, replace, rename),
    *(history, undo, redo, restore),
    *(import_, export, reparse),
    *(diff, merge, copy, compact, pack),
):
    store.add_command(command)

__all__ = ["store"]
