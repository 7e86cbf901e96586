"""Changes of many classes: they are shown first, and a person is asked before anything is written."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from fieldmarks.cli.console import ConfirmationNeeded, conclude
from fieldmarks.cli.render import stores
from fieldmarks.cli.store.group import ASK_ABOVE

if TYPE_CHECKING:
    from fieldmarks.store.edits import Change

LINES_SHOWN: Final = 60  # of a change; --dry-run shows all


def confirmed(
    task: str,
    run: "Callable[..., list[Change]]",
    show: Callable[..., Any] = stores.changes,
    *,
    yes: bool,
    dry_run: bool,
) -> "list[Change]":
    """Show what `run` would change, ask where it is many classes, and make the change that was shown.

    Raises ConfirmationNeeded, before anything is printed, where nobody can be asked.
    """
    plan = run(dry_run=True)
    if dry_run or not plan:
        show(plan, dry_run=dry_run)
        return plan
    ask = len(plan) > ASK_ABOVE and not yes
    if ask and not can_ask():
        raise ConfirmationNeeded(f"this would {task}: {stores.effect(plan)}; pass --yes to go ahead")
    show(plan, dry_run=False, most=LINES_SHOWN)
    if ask:
        ask_to_go_ahead(f"This would {task}: {stores.effect(plan)}.")
    return run(plan=plan)


def can_ask() -> bool:
    """Return whether there is a terminal on which a person can answer."""
    return bool(sys.stdin and sys.stdin.isatty())


def ask_to_go_ahead(situation: str) -> None:
    """Ask a person, and end the command with exit code 1 unless the answer is yes."""
    stores.line(situation, err=True)
    if not click.confirm("Go ahead?", err=True):
        conclude("Nothing was changed")
        raise click.exceptions.Exit(1)
