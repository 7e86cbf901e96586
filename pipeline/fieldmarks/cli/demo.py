"""`fieldmarks demo`: the whole job, offline, in under a minute."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.console import emit, say

if TYPE_CHECKING:
    from rich.table import Table

    from fieldmarks.demo.run import DemoResult

BAR = 28  # columns of a full bar
CLOSING = """\
These are toy models on drawings: they show the mechanism, nothing else. For real photos,
with a real language model (here OpenAI's; any compatible endpoint or local model will do):

  export OPENAI_API_KEY=...
  fieldmarks generate --class "tree frog" --class bullfrog --store frogs.jsonl --model gpt-4.1-mini
  fieldmarks classify PHOTOS --store frogs.jsonl --clip openai/clip-vit-base-patch32 --explain
"""


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="fieldmarks-demo",
    show_default=True,
    help="Folder for the store and the pictures: a new one, or that of an earlier demo.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def demo(out: Path, as_json: bool) -> None:
    """Run both stages on invented creatures, with two small models that ship with fieldmarks.

    A language model describes twelve species, the descriptors land in a store, CLIP classifies 20 drawings
    of each species with them, and one prediction shows its marks. Nothing is downloaded.

    \b
    Example:
      fieldmarks demo --out creatures
    """
    from fieldmarks.demo.run import run_demo

    result = run_demo(out, say)
    if as_json:
        emit(result.to_dict())
    else:
        _show(result)


def _show(result: "DemoResult") -> None:
    from rich.console import Console

    from fieldmarks.cli.render.results import table_rows

    console = Console(highlight=False)
    console.print(
        f"\n[bold]1  Descriptors[/], as the language model wrote them ({result.store})", soft_wrap=True
    )
    console.print(_descriptors(result))
    console.print(f"[bold]2  {result.images} pictures classified[/] ({result.images_dir})", soft_wrap=True)
    console.print(_accuracies(result))
    console.print("\n[bold]3  Why[/] one picture, its runner-up, and the pair of marks that decided")
    click.echo("\n".join(table_rows(replace(result.shown, scores=result.shown.scores[:1]), width=0)))
    click.echo(f"\nStore     {result.store}\nPictures  {result.images_dir}\n\n{CLOSING}", nl=False)


def _grid() -> "Table":
    from rich.table import Table

    return Table.grid(padding=(0, 2, 0, 0), pad_edge=False)


def _descriptors(result: "DemoResult") -> "Table":
    table = _grid()
    for name, descriptors in list(result.descriptors.items())[:3]:
        table.add_row(f"   [cyan]{name}[/]", ", ".join(descriptors))
    table.add_row(
        "   …",
        f"and {len(result.descriptors) - 3} more, {result.descriptor_recall:.1%} of all traits named\n",
    )
    return table


def _accuracies(result: "DemoResult") -> "Table":
    table = _grid()
    for arm, share in (
        ("by the class name alone", result.accuracy_name),
        ("by its descriptors", result.accuracy_descriptors),
    ):
        table.add_row(f"   {arm}", f"{share:6.1%}", "█" * round(share * BAR))
    table.add_row("   [dim]by chance[/]", f"[dim]{1 / len(result.descriptors):6.1%}[/]", "")
    return table
