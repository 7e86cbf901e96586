"""The root command: its subcommands, and how errors become exit codes."""

import os
import sys
from typing import Any

import click

from fieldmarks import __version__
from fieldmarks.errors import FieldmarksError

INTERRUPTED = 130  # 128 + SIGINT, what shells expect


class Root(click.Group):
    """A group whose errors are one line on stderr: exit 1 ours, 2 wrong usage, 130 interrupted."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            code = INTERRUPTED
        except BrokenPipeError:  # the reader of our output left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except OSError as error:  # stdout on a full disk; what we open ourselves raises our own errors
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"Error: the output cannot be written: {error.strerror or error}", err=True)
            code = 1
        except FieldmarksError as error:
            click.echo(f"Error: {error}", err=True)
            code = 1
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fieldmarks")
def main() -> None:
    """Tell classes apart by their visible marks: generate descriptors, curate them, classify with CLIP."""
