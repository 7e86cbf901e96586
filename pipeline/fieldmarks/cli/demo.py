"""`fieldmarks demo`: the whole pipeline, offline, in under a minute."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.console import emit

if TYPE_CHECKING:
    from rich.table import Table

    from fieldmarks.demo.run import DemoResult

BAR = 28  # columns of a full bar
CLOSING = """\
These are toy models and drawings: they show the mechanism and nothing else. For real photos and
a real language model (here OpenAI's; any compatible endpoint or local model works too):

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
    help="Folder for the store, the images and the models: a new one, or that of an earlier demo.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def demo(out: Path, as_json: bool) -> None:
    """Run the whole pipeline offline, on invented creatures.

    A small language model describes twelve species, its descriptors go to a store, a small CLIP classifies
    20 drawings of each species with them, and one prediction is shown with its marks. Both models ship with
    fieldmarks; nothing is downloaded.

    \b
    Example:
      fieldmarks demo --out creatures
    """
    from fieldmarks.demo.run import run_demo

    result = run_demo(out)
    if as_json:
        emit(result.to_dict())
    else:
        _show(result)


def _show(result: "DemoResult") -> None:
    from rich.console import Console

    from fieldmarks.cli.render.results import table_rows

    console = Console(highlight=False)
    console.print(f"\n[bold]1  Descriptors[/] from the language model ({result.store})", soft_wrap=True)
    console.print(_descriptors(result))
    console.print(f"[bold]2  Accuracy[/] on {result.images} images ({result.images_dir})", soft_wrap=True)
    console.print(_accuracies(result))
    console.print("\n[bold]3  Reasons[/] for one prediction: the marks of its class and of the runner-up;")
    console.print("   of the marks closest in meaning, the pair in which the class leads most decided")
    click.echo("\n".join(table_rows(replace(result.shown, scores=result.shown.scores[:1]), width=0)))
    click.echo(f"\nStore   {result.store}\nImages  {result.images_dir}\n\n{CLOSING}", nl=False)


def _grid() -> "Table":
    from rich.table import Table

    return Table.grid(padding=(0, 2, 0, 0), pad_edge=False)


def _descriptors(result: "DemoResult") -> "Table":
    table = _grid()
    for name, descriptors in list(result.descriptors.items())[:3]:
        table.add_row(f"   [cyan]{name}[/]", ", ".join(descriptors))
    table.add_row(
        "   …",
        f"and {len(result.descriptors) - 3} more; they name {result.descriptor_recall:.1%} of all traits\n",
    )
    return table


def _accuracies(result: "DemoResult") -> "Table":
    table = _grid()
    for arm, share in (
        ("class name only", result.accuracy_name),
        ("descriptors", result.accuracy_descriptors),
    ):
        table.add_row(f"   {arm}", f"{share:6.1%}", "█" * round(share * BAR))
    table.add_row("   [dim]chance[/]", f"[dim]{1 / len(result.descriptors):6.1%}[/]", "")
    return table
