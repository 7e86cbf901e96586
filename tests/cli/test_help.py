"""Every command and option has help, and help alone is enough to start."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from fieldmarks import __version__
from fieldmarks.cli import main
from fieldmarks.cli.console import InOrder

Walk = Iterator[tuple[tuple[str, ...], click.Command]]


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Walk:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*path, name))


LISTED = {name: command.get_short_help_str(80) for name, command in main.commands.items()}
main.import_all()
COMMANDS = list(_commands(main))
NAMES = [" ".join(path) or "fieldmarks" for path, _ in COMMANDS]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_command_explains_itself(path: tuple[str, ...], command: click.Command, runner: CliRunner) -> None:
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []
    result = runner.invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    if not isinstance(command, click.Group):
        _, after_usage = result.stdout.split("\n", 1)
        assert f"fieldmarks {' '.join(path)}" in after_usage, "the help shows no example"


@pytest.mark.parametrize("path", [[], ["store"], ["prompts"], ["cache"]])
def test_a_group_lists_each_command_on_a_line_in_the_order_of_work(
    path: list[str], runner: CliRunner
) -> None:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    assert isinstance(command, click.Group)
    shown = runner.invoke(main, [*path, "--help"], terminal_width=80).stdout
    _, listed = shown.split("Commands:\n")
    lines = listed.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(command.commands)
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []


def test_each_line_of_the_list_is_the_commands_own() -> None:
    own = {name: command.get_short_help_str(80) for name, command in main.import_all().items()}
    assert own == LISTED


def test_version(runner: CliRunner) -> None:
    assert runner.invoke(main, ["--version"]).stdout == f"fieldmarks, version {__version__}\n"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["clasify"], "Did you mean 'classify'?"),
        (["lint"], "Did you mean `fieldmarks store lint`?"),
        (["store", "delete"], "Did you mean `fieldmarks store drop`?"),
        (["store", "delte"], "Did you mean `fieldmarks store drop`?"),
        (["store", "shared"], "Did you mean `fieldmarks store grep STORE --shared`?"),
        (["store", "lst"], "Did you mean 'list'?"),
    ],
)
def test_an_unknown_command_is_wrong_usage_and_gets_a_hint(
    runner: CliRunner, words: list[str], hint: str
) -> None:
    result = runner.invoke(main, words, prog_name="fieldmarks")
    last = result.stderr.splitlines()[-1]
    assert (result.exit_code, last) == (2, f"Error: No such command {words[-1]!r}. {hint}")


def test_hints_name_commands_that_exist_for_words_that_do_not() -> None:
    for group in (main, main.commands["store"]):
        assert isinstance(group, InOrder)
        assert group.hints
        assert group.hints.keys() & group.commands.keys() == set()
        for hint in group.hints.values():
            name, *rest = hint.split()
            inner = group.commands[name]
            assert not isinstance(inner, click.Group) or rest[0] in inner.commands
