"""The root command: imports and runs a command, and turns errors and signals into exit codes.

Standard streams that are closed, full or not Unicode cannot break a command. SIGINT and SIGTERM both unwind
it, so that temporary files are removed and what is finished stays. Commands that install their own signal
handlers for a while, as `generate` does, restore these afterwards. Once the exit code is decided, another
signal ends the process at once, without a message.
"""

import atexit
import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from fieldmarks import __version__
from fieldmarks.cli.console import InOrder, record, say, start_clock, start_logging
from fieldmarks.errors import FieldmarksError, UsageError
from fieldmarks.hub import own_process
from fieldmarks.paths import CONFIGURATION

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


INTERRUPTED: Final = 130  # 128 + SIGINT, what shells expect
TERMINATED: Final = 143  # 128 + SIGTERM
FAULT: Final = "fieldmarks.fault"  # a key of click's shared `meta`: the configuration's error, for `doctor`
ENVIRONMENT: Final = {"clip": "FIELDMARKS_CLIP", "store": "FIELDMARKS_STORE", "model": "FIELDMARKS_MODEL"}

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds like Ctrl-C."""


def prepare() -> None:
    """Make the standard streams safe and turn SIGINT and SIGTERM into exceptions. Call in the main thread."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be Unicode, nor a terminal UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = _Stderr(os.fdopen(2, "wb", closefd=False), "utf-8", "backslashreplace")
    elif isinstance(sys.stderr, io.TextIOWrapper) and not isinstance(sys.stderr, _Stderr):
        encoding = sys.stderr.encoding
        sys.stderr = _Stderr(sys.stderr.buffer, encoding, "backslashreplace", line_buffering=True)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, _terminate)):
        if signal.getsignal(number) != signal.SIG_IGN:  # whoever started us may want that
            signal.signal(number, handler)
    sys.unraisablehook = _unraisable
    own_process()
    atexit.register(_ignore_signals)  # registered first, it runs last


def settle(code: int) -> None:
    """From now on, end the process at once with `code` on a signal."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        os._exit(code)

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of an interruption: 143 if SIGTERM is its cause, else 130."""
    while error is not None and not isinstance(error, Terminated):
        error = error.__cause__ or error.__context__
    return INTERRUPTED if error is None else TERMINATED


def _ignore_signals() -> None:
    """Keep the exit code at shutdown, when the interpreter removes signal handlers but not SIG_IGN."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _Stderr(io.TextIOWrapper):
    """A stderr that drops what it cannot write: a full disk under a log must not stop the work."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _unraisable(unraisable: "UnraisableHookArgs") -> None:
    """Resend, a moment later, a signal that arrived where exceptions are dropped, as in a finalizer."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        number = signal.SIGTERM if isinstance(unraisable.exc_value, Terminated) else signal.SIGINT
        threading.Timer(0.01, os.kill, [os.getpid(), number]).start()
    else:
        sys.__unraisablehook__(unraisable)


def _open_closed_streams() -> None:
    """Reopen closed standard streams, whose numbers the next opened file, such as a store, would get.

    Writing to a stdout that was closed still fails, as it must; messages to a closed stderr are dropped.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # gets the lowest free number: fd
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)


# An OSError with one of these and no file name is about stdout: files that we open raise our own errors.
_OUTPUT_FAILED: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE}
_LONGEST: Final = 500  # characters of an untrusted error message


class Root(InOrder):
    """A group that reports errors as one line on stderr and an exit code, never a traceback.

    `short_helps` has each command's name and its line of help. A command is imported when it is called, from
    the module of this package with its name, so listing the commands imports none.
    """

    def __init__(self, *args: Any, short_helps: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, short_help in (short_helps or {}).items():
            self.add_command(click.Command(name, short_help=short_help))
        self._listed = set(short_helps or {})  # and not imported yet

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name of the command in the arguments, the imported command, and its own arguments."""
        name, command, rest = super().resolve_command(context, args)
        return name, command and self._imported(name or ""), rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; in the library's errors, replace keywords with the options that were typed."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            command = self.commands.get(ctx.invoked_subcommand or "")
            raise UsageError(_of_option(str(error), command)) from error

    def import_all(self) -> Mapping[str, click.Command]:
        """Return all commands, imported."""
        return {name: self._imported(name) for name in self.commands}

    def _imported(self, name: str) -> click.Command:
        if name in self._listed:
            place = name.replace("-", "_")
            command = getattr(import_module(f"fieldmarks.cli.{place}"), place)
            self.commands[name] = with_environment(command)
            self._listed.remove(name)
        return self.commands[name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a process: like `main`, with signals and standard streams set up for it."""
        prepare()
        code = INTERRUPTED
        try:
            self.main(*args, **kwargs)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
        except KeyboardInterrupt as error:  # a second signal, while the first was being reported
            code = exit_code(error)
        settle(code)
        sys.exit(code)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line and exit with its code."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # a failure here becomes an error message
        except click.Abort as error:
            cause = error.__cause__
            code = _unexpected(cause) if isinstance(cause, EOFError) else _interrupted(error)
        except KeyboardInterrupt as error:
            code = _interrupted(error)
        except click.ClickException as error:
            shown = error
            if isinstance(error, click.NoSuchOption) and (usage := _before_the_command(error)):
                shown = click.UsageError(usage, error.ctx)
            shown.show()
            record(f"Error: {shown.format_message()}")
            code = shown.exit_code
        except FieldmarksError as error:
            code = _failed(str(error))
            code = 2 if isinstance(error, UsageError) else code
        except OSError as error:
            of_output = error.filename is None and error.errno in _OUTPUT_FAILED
            code = _output_failed(error) if of_output else _unexpected(error)
        except BaseExceptionGroup as error:
            interrupted = error.subgroup(KeyboardInterrupt)
            code = _unexpected(error) if interrupted is None else _interrupted(interrupted.exceptions[0])
        except SystemExit:
            raise
        except BaseException as error:
            code = _unexpected(error)
        sys.exit(code if isinstance(code, int) else 0)


def with_environment(command: click.Command) -> click.Command:
    """Let a command's options take their default from ENVIRONMENT's variables, and say so in its help."""
    for option in command.params:
        if isinstance(option, click.Option) and option.name in ENVIRONMENT:
            option.envvar, option.show_envvar = ENVIRONMENT[option.name], True
    return command


def _of_option(message: str, command: click.Command | None) -> str:
    """Return a message with the option in place of the library's keyword that it begins with."""
    keyword = re.match(r"([a-z_]+)(?=: | needs | goes with )", message)
    for param in command.params if command and keyword else ():
        if isinstance(param, click.Option) and keyword and param.name == keyword[0]:
            return f"{max(param.opts, key=len)}{message[keyword.end() :]}"
    return message


def _before_the_command(error: click.NoSuchOption) -> str | None:
    """Return what to say about an option of the root command given after a subcommand, or None."""
    option = next((option for option in main.params if error.option_name in option.opts), None)
    if option is None or error.ctx is None or error.ctx.parent is None:
        return None
    command = error.ctx.command_path.removeprefix(f"{error.ctx.find_root().command_path} ")
    value = f" {option.metavar}" if option.metavar else ""
    return f"{error.option_name} goes before the command: fieldmarks {error.option_name}{value} {command} …"


def _interrupted(error: BaseException) -> int:
    code = exit_code(error)
    say("Terminated." if code == TERMINATED else "Interrupted.")
    return code


def _failed(message: str) -> int:
    say(f"Error: {message}")
    return 1


def _unexpected(error: BaseException) -> int:
    """Report an unexpected error in one line, with the traceback if requested."""
    if os.environ.get("FIELDMARKS_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error whose message fails itself
        text = ""
    name = type(error).__name__
    what = f"{name}: {text[:_LONGEST]}" if text else name
    return _failed(f"unexpected error ({what}); please report it. FIELDMARKS_DEBUG=1 shows the traceback")


def _output_failed(error: OSError) -> int:
    """Report that stdout cannot be written, unless its reader has left, as `head` does."""
    with contextlib.suppress(OSError, ValueError):  # Python must not try again when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:
        _failed(f"the output cannot be written: {error.strerror}")
    return 1


# In the order of the workflow, as `fieldmarks --help` lists them.
_COMMANDS: Final = {
    "demo": "Try everything offline, in a minute.",
    "doctor": "Check the installation, an endpoint or a model.",
    "prompts": "Show the prompts for language models.",
    "generate": "Have a language model describe classes, and fill a store.",
    "store": "Read, correct, check and exchange descriptor stores.",
    "classify": "Label images using a store, and explain why.",
    "unsort": "Undo `classify --sort-into`.",
    "learn": "Learn weights of descriptors from a few labelled images.",
    "calibrate": 'Teach a classifier when to say "none of these".',
    "evaluate": "Measure accuracy on labelled images, with controls.",
    "compare": "Compare saved evaluations; write tables, pages, charts.",
    "what-if": "Show what other descriptors of a class would change.",
    "embed": "Write embeddings of images, to search or classify later.",
    "search": "Find images in a set by what they show.",
    "serve": "Classify images over HTTP, with a web page.",
    "cache": "Show or clear what is kept for later runs.",
}


@click.group(
    cls=Root,
    short_helps=_COMMANDS,
    hints={
        **{verb: f"store {verb}" for verb in ("list", "show", "lint", "review", "edit", "import", "export")},
        "predict": "classify",
        "train": "learn",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    Exit codes:
      0    everything was done
      1    failed
      2    wrong usage, or a confirmation is needed and there is no terminal
      3    done, except for the inputs that lines with Error: name
      130  interrupted (Ctrl-C); what was finished is kept
      143  terminated (SIGTERM); what was finished is kept

    \b
    Environment:
      FIELDMARKS_STORE, FIELDMARKS_CLIP, FIELDMARKS_MODEL
                       defaults of --store, --clip and --model
      FIELDMARKS_CACHE folder for embeddings, converted models and settings
      OPENAI_API_KEY, OPENAI_BASE_URL
                       the endpoint's key and URL
      HF_HUB_OFFLINE   1: download nothing, use models that are in the cache

    fieldmarks.toml in the working folder sets defaults too; see
    docs/configuration.md.""",
)
@click.version_option(__version__, prog_name="fieldmarks")
@click.option("-v", "--verbose", is_flag=True, help="Show debug messages too.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors and the closing line only.")
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append all messages, with their time, to this file.",
)
def main(verbose: bool, quiet: bool, log_file: Path | None) -> None:
    """Tell classes apart by their visible marks: generate descriptors, curate them, classify with CLIP."""
    if verbose and quiet:
        raise click.UsageError("give either --verbose or --quiet")
    start_clock()
    start_logging(verbose - quiet, log_file)
    if os.path.lexists(CONFIGURATION):
        from fieldmarks.cli.configuration import use_file

        context = click.get_current_context()
        assert isinstance(context.command, Root)
        try:
            use_file(context, context.command.import_all())
        except UsageError as error:
            if context.invoked_subcommand != "doctor":
                raise
            context.meta[FAULT] = str(error)  # doctor reports it
