"""`fieldmarks unsort`: undo what `classify --sort-into` did."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from fieldmarks.cli.console import counting, shown
from fieldmarks.cli.images import conclude_images, say_failure
from fieldmarks.text import printable

DONE = {"move": "moved back", "copy": "removed", "link": "removed"}
THINGS = {"move": ("image", "images"), "copy": ("copy", "copies"), "link": ("link", "links")}


@click.command(short_help="Undo `classify --sort-into`.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print what would be done; change nothing.")
def unsort(folder: Path, dry_run: bool) -> None:
    """Undo `classify --sort-into DIR`, all of its runs.

    Moved images go back to where they were, and copies and links are removed, as DIR/sorted.jsonl lists them.
    Nothing is overwritten, and nothing that has changed since is removed: a copy stays if its original is
    gone or differs, and a moved image stays if another file has taken its place. What stays is listed with
    the reason, and the exit code is then 3; run the command again to retry. Files that you put into DIR are
    left alone.

    \b
    Examples:
      fieldmarks unsort sorted --dry-run
      fieldmarks unsort sorted
    """
    from fieldmarks.classification.results import Failure, reporting
    from fieldmarks.classification.unsorting import count_steps, unsort

    total = count_steps(folder)
    counts = dict.fromkeys((*DONE, "gone"), 0)
    failed = 0
    with shown(sys.stderr, counting("undone"), bar=not dry_run) as show:
        for step in reporting(unsort(folder, dry_run=dry_run), total, show):
            if isinstance(step, Failure):
                say_failure(step)
                failed += 1
                continue
            counts["gone" if step.is_gone else step.action] += 1
            if dry_run and not step.is_gone:
                place = f" -> {printable(step.source)}" if step.action == "move" else ": removed"
                click.echo(f"{printable(str(step.target))}{place}")
    conclude_images(failed, total - failed, _summary(folder, counts, dry_run=dry_run))


def _summary(folder: Path, counts: Mapping[str, int], *, dry_run: bool) -> str:
    """Return what was done, or would be, in one sentence."""
    parts = [
        f"{counts[action]:,} {THINGS[action][counts[action] != 1]} {done}"
        for action, done in DONE.items()
        if counts[action]
    ]
    parts += [f"{counts['gone']:,} already gone"] if counts["gone"] else []
    beginning = "Would undo" if dry_run else "Undid"
    return f"{beginning} the sorting into {folder}: {', '.join(parts) or 'nothing'}"
