"""The root command: its subcommands, and how errors become exit codes."""

import contextlib
import errno
import os
import sys
from typing import Any, Final

import click

from fieldmarks import __version__
from fieldmarks.cli import process
from fieldmarks.errors import FieldmarksError

# An OSError with one of these and no file name is of stdout: files that we open raise errors of ours.
_OUTPUT_FAILED: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE}
_LONGEST: Final = 500  # characters of a stranger's error


class Root(click.Group):
    """A group whose errors are one line on stderr and an exit code, never a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a process: as `main`, with signals and standard streams set up for it."""
        process.prepare()
        code = process.INTERRUPTED
        try:
            self.main(*args, **kwargs)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
        except KeyboardInterrupt as error:  # a second signal, while the first was being reported
            code = process.exit_code(error)
        process.settle(code)
        sys.exit(code)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line and exit with its code."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here its failure is an error message
        except click.Abort as error:
            cause = error.__cause__
            code = _unexpected(cause) if isinstance(cause, EOFError) else _interrupted(error)
        except KeyboardInterrupt as error:
            code = _interrupted(error)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except FieldmarksError as error:
            code = _failed(str(error))
        except OSError as error:
            code = _output_failed(error) if _is_of_output(error) else _unexpected(error)
        except BaseExceptionGroup as error:
            interrupted = error.subgroup(KeyboardInterrupt)
            code = _unexpected(error) if interrupted is None else _interrupted(interrupted.exceptions[0])
        except SystemExit:
            raise
        except BaseException as error:
            code = _unexpected(error)
        sys.exit(code if isinstance(code, int) else 0)


def _interrupted(error: BaseException) -> int:
    code = process.exit_code(error)
    click.echo("Terminated." if code == process.TERMINATED else "Interrupted.", err=True)
    return code


def _failed(message: str) -> int:
    from fieldmarks.wording import printable

    click.echo(f"Error: {printable(message)}", err=True)  # one line, whatever the file or server put into it
    return 1


def _unexpected(error: BaseException) -> int:
    """Report what should not have happened in one line, with the traceback where it is asked for."""
    if os.environ.get("FIELDMARKS_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error that cannot say what it is
        text = ""
    name = type(error).__name__
    what = f"{name}: {text[:_LONGEST]}" if text else name
    return _failed(f"unexpected error ({what}); please report it. FIELDMARKS_DEBUG=1 shows the traceback")


def _is_of_output(error: OSError) -> bool:
    return error.filename is None and error.errno in _OUTPUT_FAILED


def _output_failed(error: OSError) -> int:
    """Report a stdout that cannot be written, but not one whose reader left, as `head` does."""
    with contextlib.suppress(OSError, ValueError):  # nothing is to be tried again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:
        _failed(f"the output cannot be written: {error.strerror}")
    return 1


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    Exit codes:
      0    everything was done
      1    failed
      2    wrong usage, or a confirmation is needed and there is no terminal
      3    done, except for the inputs that the last lines name
      130  interrupted (Ctrl-C); what was finished is kept
      143  terminated (SIGTERM); what was finished is kept""",
)
@click.version_option(__version__, prog_name="fieldmarks")
def main() -> None:
    """Tell classes apart by their visible marks: generate descriptors, curate them, classify with CLIP."""
