"""Defaults for options from a project's `fieldmarks.toml`, and which of several values takes precedence.

An option on the command line comes first, then the environment (see `root`), then the file, then the built-in
default, all through click's own mechanisms (`envvar`, `default_map`). The file is read only from the working
folder:

    store = "birds.jsonl"                       # for every command that has --store
    clip = "openai/clip-vit-large-patch14"

    [classify]                                  # for one command
    top = 3
    explain = true

A file may come with a stranger's folder, so it can set only what a command reads and shows (SETTABLE):
nothing that sends a key elsewhere, spends more, writes, overwrites or answers a question. The files that it
names must be in its folder, and what it sets is shown before the command starts.
"""

import logging
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from fieldmarks.choices import nearest
from fieldmarks.errors import UsageError
from fieldmarks.paths import CONFIGURATION, read_text, shipped_store

CACHE: Final = "FIELDMARKS_CACHE"  # read in `paths`: there is no option for it
SETTABLE: Final = frozenset(
    {
        *("clip", "device", "dtype", "engine", "batch", "cache"),
        *("store", "preset", "aggregate", "text", "concept", "with-name", "baseline"),
        *("top", "min-probability", "explain", "explain-top", "relative", "format"),
        *("model", "local", "prompt", "temperature", "seed", "mode"),
        *("concurrency", "rpm", "tpm", "timeout", "max-wait"),
        *("arms", "seeds", "split", "image-column", "label-column", "streaming"),
    }
)
_FILES: Final = {"store", "prompt"}  # options that name a file to read or write
_MOST: Final = 65_536  # bytes
_WEAKER: Final = (ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)  # than the command line

logger = logging.getLogger(__name__)


def use_file(context: click.Context, commands: Mapping[str, click.Command]) -> None:
    """Set the defaults of the root command's subcommands from the file, and log them.

    Raises UsageError for a file that cannot be read, and for a key or value that cannot be used.
    """
    path = Path(CONFIGURATION)
    values = parse(read_text(path, _MOST, UsageError), commands)
    context.default_map = {name: dict(own.values()) for name, own in values.items()}
    own = values.get(context.invoked_subcommand or "", {})
    logger.debug("%s: reads defaults from %s", context.invoked_subcommand, path.resolve())
    if own:
        shown = (f"--{key} {shlex.quote(str(value))}" for key, (_, value) in own.items())
        logger.info("Defaults from %s: %s", CONFIGURATION, ", ".join(shown))


# For each command: its keys, with the parameter's name and the value as click expects it.
Values = dict[str, dict[str, tuple[str, Any]]]


def parse(text: str, commands: Mapping[str, click.Command]) -> Values:
    """Return what a file sets for each command. Raises UsageError."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        raise UsageError(f"{CONFIGURATION} cannot be read as TOML: {reason}") from error
    options = {name: dict(_settable(command)) for name, command in commands.items()}
    values: Values = {name: {} for name in commands}
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    for key, value in document.items():
        if key not in tables:
            having = [name for name in options if key in options[name]]
            if not having:
                _refuse(
                    CONFIGURATION, key, commands.values(), {key for own in options.values() for key in own}
                )
            for name in having:
                values[name][key] = _value(CONFIGURATION, key, value, options[name][key], commands[name])
    for name, table in tables.items():
        known = [command for command, own in options.items() if own]
        if name not in known:
            raise UsageError(
                f"{CONFIGURATION}: [{name}] is not a command with settings{nearest(name, known)}"
            )
        where = f"{CONFIGURATION}, [{name}]"
        for key, value in table.items():
            if key not in options[name]:
                _refuse(where, key, [commands[name]], options[name])
            values[name][key] = _value(where, key, value, options[name][key], commands[name])
    return values


def is_given(option: str) -> bool:
    """Return whether an option was passed on the command line of the current command."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def prevailing(context: click.Context, *names: str) -> dict[str, Any]:
    """Return the values of mutually exclusive options, with None for those that a stronger one overrides.

    A default from the environment or the file gives way to an alternative on the command line, and one from
    the file to one from the environment; if two are equally strong, both stay, for the command to refuse.
    """
    values = {name: context.params[name] for name in names}
    sources = {name: context.get_parameter_source(name) for name, value in values.items() if value}
    strengths = {name: _WEAKER.index(source) if source in _WEAKER else -1 for name, source in sources.items()}
    strongest = min(strengths.values(), default=-1)
    return {name: value if strengths.get(name, -1) == strongest else None for name, value in values.items()}


def _settable(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """Yield the options of a command that the file can set, by their names without dashes."""
    for option in command.params:
        if isinstance(option, click.Option):
            key = _key(option)
            if key in SETTABLE and not option.multiple:
                yield key, option


def _key(option: click.Option) -> str:
    return max(option.opts, key=len).removeprefix("--")


def _refuse(where: str, key: str, commands: Any, known: Any) -> None:
    """Raise UsageError for a key that is unknown, or an option that the file must not set."""
    options = {_key(option) for command in commands for option in command.params if _is_option(option)}
    if key in options:
        raise UsageError(
            f"{where}: {key!r} cannot be set in a file, which may come with somebody else's folder: pass "
            f"--{key} on the command line"
        )
    remedy = nearest(key, known) or f": expected one of {', '.join(sorted(known))}"
    raise UsageError(f"{where}: unknown key {key!r:.80}{remedy}")


def _is_option(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option)


def _value(where: str, key: str, value: Any, option: click.Option, command: click.Command) -> tuple[str, Any]:
    """Return a parameter's name and its value as click expects it. Raises UsageError if click refuses it."""
    where = f"{where}: {key}"
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: expected true or false, found {value!r:.80}")
    elif isinstance(value, list) and option.type.name == "a,b":
        value = ",".join(map(str, value))
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where}: expected a text or a number, found {value!r:.80}")
    else:
        value = str(value)
    if key in _FILES and not _is_inside(value):
        raise UsageError(
            f"{where}: {value!r:.80} is outside the folder of {CONFIGURATION}: pass --{key} instead"
        )
    try:
        option.type_cast_value(click.Context(command, info_name=command.name), value)
    except click.BadParameter as error:
        expected = _expected(option.type)
        raise UsageError(
            f"{where}: expected {expected}, found {value!r:.80}" if expected else f"{where}: {error.message}"
        ) from error
    return option.name or "", value


def _expected(kind: click.ParamType) -> str | None:  # type: ignore[type-arg]  # generic since click 8.4
    """Return in words which numbers an option accepts; None if it accepts anything else."""
    whole = isinstance(kind, click.types.IntParamType)
    if not (whole or isinstance(kind, click.types.FloatParamType)):
        return None
    noun = "a whole number" if whole else "a number"
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is not None:
        over = "above" if getattr(kind, "min_open", False) else "from"
        return (
            f"{noun} {over} {low:g}"
            + (" on" if high is None and over == "from" else "")
            + (f" to {high:g}" if high is not None else "")
        )
    return noun


def _is_inside(path: str) -> bool:
    """Return whether a file is in the working folder, following links; a shipped store counts as inside."""
    try:
        return bool(shipped_store(path)) or Path(path).resolve().is_relative_to(Path.cwd())
    except (OSError, ValueError, RuntimeError):
        return False
