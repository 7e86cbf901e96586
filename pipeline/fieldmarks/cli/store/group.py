"""The `store` group, and what its commands share: arguments, options, asking before large changes."""

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from fieldmarks.cli.console import ConfirmationNeeded, InOrder, conclude
from fieldmarks.cli.render import stores
from fieldmarks.errors import FieldmarksError

if TYPE_CHECKING:
    from fieldmarks.store import Store
    from fieldmarks.store.edits import Change

Command = TypeVar("Command", bound=Callable[..., Any])

ASK_ABOVE: Final = 20  # classes
LINES_SHOWN: Final = 60  # of a change; --dry-run shows all


store = InOrder(
    "store",
    help="""Read, correct, check and exchange descriptor stores.

    STORE is a .jsonl file, the name of one that ships with fieldmarks, or hf:NAME[@REVISION] for a pack on
    the Hugging Face Hub; the last two are read-only. Changes are appended as new lines: nothing is
    overwritten, `history` shows every line, and `undo` reverts changes.

    \b
    Example:
      fieldmarks store list imagenette
    """,
    hints={
        "ls": "list",
        "cat": "show",
        "find": "grep",
        "search": "grep",
        "shared": "grep STORE --shared",
        "log": "history",
        "check": "lint",
        "validate": "lint",
        "fix": "lint STORE --fix",
        "approve": "review",
        "delete": "drop",
        "remove": "drop",
        "rm": "drop",
        "create": "add",
        "new": "add",
        "revert": "undo",
        "mv": "rename",
        "cp": "copy",
        "save": "export",
        "convert": "export",
        "publish": "pack",
    },
)


def complete_store(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the shipped stores by name, and the shell's own files."""
    from fieldmarks.paths import shipped_names

    names = [CompletionItem(name) for name in shipped_names() if name.startswith(begun)]
    return names or [CompletionItem(begun, type="file")]


def complete_class(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the classes of the store that the command line names."""
    from fieldmarks.store import Store

    logging.getLogger("fieldmarks").setLevel(logging.CRITICAL)  # neither messages nor failures may disturb
    try:  # the prompt
        names = Store(context.params["store"]).names()
    except (FieldmarksError, KeyError, TypeError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(begun)]


def to_change(name: str, *, dry_run: bool = False) -> "Store":
    """Open a store to change it. Raises StoreError if it must not be changed, unless `dry_run`."""
    from fieldmarks.store import Store

    opened = Store(name)
    if not dry_run:
        opened.check_writable()
    return opened


def licence(opened: "Store") -> list[str]:
    """Return what a closing line says of a pack's licence: nothing if the store is not a pack."""
    from fieldmarks.store.pack import licence_of_pack

    if named := licence_of_pack(opened):
        return [f"Its licence is {named}"]
    return ["Its card names no licence: ask its publisher before you use it"] if opened.is_on_hub else []


def store_argument(command: Command) -> Command:
    """Add the argument STORE."""
    return click.argument("store", metavar="STORE", shell_complete=complete_store)(command)


def class_argument(command: Command) -> Command:
    """Add the argument CLASS, which completes from the store."""
    return click.argument("name", metavar="CLASS", shell_complete=complete_class)(command)


def optional_class_argument(command: Command) -> Command:
    """Add the argument [CLASS]; without it, a command applies to all classes."""
    return click.argument("name", metavar="[CLASS]", required=False, shell_complete=complete_class)(command)


def yes_option(command: Command) -> Command:
    """Add `--yes`, for commands that ask if many classes would change."""
    return click.option("--yes", is_flag=True, help=f"Do not ask, even above {ASK_ABOVE} classes.")(command)


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")(command)


def change_options(command: Command) -> Command:
    """Add the options that all changes share: `--note`, `--by`, `--dry-run`."""
    command = click.option("--dry-run", is_flag=True, help="Show the change; write nothing.")(command)
    command = click.option("--by", metavar="NAME", help="Who makes the change (default: your login name).")(
        command
    )
    return click.option("--note", metavar="TEXT", help="Reason, shown by `store history`.")(command)


def confirmed(
    task: str,
    run: "Callable[..., list[Change]]",
    show: Callable[..., Any] = stores.changes,
    *,
    yes: bool,
    dry_run: bool,
) -> "list[Change]":
    """Show what `run` would change, ask if it affects many classes, and make the change that was shown.

    Raises ConfirmationNeeded, after showing the changes, if nobody can be asked.
    """
    plan = run(dry_run=True)
    if dry_run or not plan:
        show(plan, dry_run=dry_run)
        return plan
    ask = len(plan) > ASK_ABOVE and not yes
    show(plan, dry_run=False, most=LINES_SHOWN)
    if ask and not can_ask():
        raise ConfirmationNeeded(f"this would {task} ({stores.effect(plan)}); pass --yes to go ahead")
    if ask:
        ask_to_go_ahead(f"This would {task} ({stores.effect(plan)}).")
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
