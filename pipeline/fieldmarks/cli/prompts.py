"""`fieldmarks prompts`: the built-in prompt templates, and how each reads for a class."""

import sys

import click

from fieldmarks.cli.console import InOrder, conclude


@click.group(cls=InOrder, short_help="Show the prompts for language models.")
def prompts() -> None:
    """Show the prompts that are sent to the language model."""


@prompts.command("list")
def list_() -> None:
    """List the built-in prompts.

    \b
    Example:
      fieldmarks prompts list
    """
    from fieldmarks.generation.prompt import Prompt, shipped_names, turns
    from fieldmarks.text import counted

    for name in shipped_names():
        prompt = Prompt.load(name)
        question = turns(prompt.text)[-2][1]
        click.echo(f"{name:14}{prompt.style:11}{question}")
    conclude(f"Listed {counted(len(shipped_names()), 'prompt')}")


@prompts.command()
@click.argument("prompt", metavar="NAME|FILE")
@click.option(
    "--class", "name", metavar="NAME", help="Class to render the prompt for (default: print the template)."
)
@click.option("--concept", metavar="TEXT", help="Value of {concept}: what the classes are.")
@click.option("--other", metavar="NAME", help="Value of {other}: the class to distinguish it from.")
def show(prompt: str, name: str | None, concept: str | None, other: str | None) -> None:
    """Print a prompt exactly as it is sent, followed by a newline.

    On a terminal, control characters are escaped.

    \b
    Example:
      fieldmarks prompts show differential --class leopard --other jaguar
    """
    from fieldmarks.generation.prompt import Prompt
    from fieldmarks.records import class_name
    from fieldmarks.text import printable

    template = Prompt.load(prompt)
    text = template.text
    if name is not None:
        text = template.render(class_name(name), concept=concept, other=other)
    if sys.stdout.isatty():  # the file may be untrusted
        text = "\n".join(map(printable, text.split("\n")))
    click.echo(text)
    conclude(f"Showed the prompt {printable(prompt)}" + (f" for {printable(name)}" if name else ""))
