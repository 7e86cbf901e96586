"""`fieldmarks demo`: the whole pipeline, offline, in under a minute."""

import shutil
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fieldmarks.cli.console import conclude, emit
from fieldmarks.text import folded

if TYPE_CHECKING:
    from fieldmarks.demo.run import DemoResult

WIDEST = 100  # columns of the texts
SPECIES_SHOWN = 3
INDENT = "   "
OWN_PHOTOS = """\
These are toy models and drawings: they show how it works, not how well. For your photos, with a store that \
ships (this downloads a real CLIP once, about 600 MB):"""
OWN_CLASSES = """\
For classes of your own, with a real language model (here OpenAI's; any compatible endpoint or a local model \
works too):"""
GENERATE = (
    "export OPENAI_API_KEY=...",
    'fieldmarks generate --class "tree frog" \\',
    "    --class bullfrog --store frogs.jsonl \\",
    "    --model gpt-4.1-mini",
    "fieldmarks classify PHOTOS --store frogs.jsonl --explain",
)


@click.command(short_help="Try everything offline, in a minute.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="fieldmarks-demo",
    show_default=True,
    help="Folder for the store, the images, the models and the page: a new one, or that of an earlier demo.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def demo(out: Path, as_json: bool) -> None:
    """Run the whole pipeline offline, on invented creatures.

    A small language model describes twelve species, its descriptors go to a store, a small CLIP classifies
    20 drawings of each species with them, one prediction is shown with its marks, and a page shows them all.
    Both models ship with fieldmarks; nothing is downloaded.

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
    conclude(
        f"Described {len(result.descriptors)} species and classified {result.images} drawings",
        f"Open {result.page} in a browser to see each with its reasons.",
    )


def _show(result: "DemoResult") -> None:
    from fieldmarks.cli.render.results import table_rows

    width = min(shutil.get_terminal_size().columns, WIDEST)
    _heading("1  Descriptors that the language model wrote", result.store, width)
    _descriptors(result, width)
    _heading("2  Drawings that CLIP classifies correctly", result.images_dir, width)
    _accuracies(result, width)
    _heading("3  Reasons for one prediction", None, width)
    _paragraph(
        "Each mark is a descriptor with its score on the drawing: the similarity of text and image, scaled "
        "by the model (a logit). Compared are the marks of the predicted class and of the runner-up; of the "
        'pairs that are closest in meaning, "decided" names the one in which the prediction leads most.',
        width,
    )
    shown = replace(result.shown, scores=result.shown.scores[:1])
    click.echo()
    click.echo("\n".join(table_rows(shown, 0, columns=width)))
    _heading("4  Now your own", None, width)
    _paragraph(OWN_PHOTOS, width)
    click.echo()
    _commands("fieldmarks classify PHOTOS --store imagenet --explain")
    _paragraph(OWN_CLASSES, width)
    click.echo()
    _commands(*GENERATE)
    click.echo(f"Store   {result.store}\nImages  {result.images_dir}\nPage    {result.page}")


def _heading(title: str, path: Path | None, width: int) -> None:
    title = click.style(title, bold=True)
    click.echo(f"\n{title}" + ("" if path is None else f"\n{INDENT}in {path}"))
    click.echo()


def _commands(*lines: str) -> None:
    click.echo("".join(f"{INDENT} {line}\n" for line in lines))


def _paragraph(text: str, width: int) -> None:
    click.echo(textwrap.fill(text, width - 1, initial_indent=INDENT, subsequent_indent=INDENT))


def _descriptors(result: "DemoResult", width: int) -> None:
    names = list(result.descriptors)[:SPECIES_SHOWN]
    longest = max(map(len, names))
    for name in names:
        first, *further = folded(", ".join(result.descriptors[name]), width - longest - len(INDENT) - 3)
        click.echo(f"{INDENT}{click.style(name, fg='cyan')}{'':{longest - len(name)}}  {first}")
        for line in further:
            click.echo(f"{INDENT}{'':{longest}}  {line.strip()}")
    click.echo(f"{INDENT}… and {len(result.descriptors) - SPECIES_SHOWN} more species\n")
    _paragraph(
        f"All lists together name {result.descriptor_recall:.1%} of the creatures' true traits.", width
    )


def _accuracies(result: "DemoResult", width: int) -> None:
    chance = 1 / len(result.descriptors)
    rows = (
        ("by class name", result.accuracy_name, "yellow"),
        ("by descriptors", result.accuracy_descriptors, "green"),
        ("by guessing", chance, None),
    )
    longest = max(len(label) for label, _, _ in rows)
    full = max(10, min(40, width - longest - 15))  # columns of 100%
    for label, share, colour in rows:
        bar = "█" * round(share * full)
        click.echo(f"{INDENT}{label:<{longest}}  {share:6.1%}  {click.style(bar, fg=colour)}")
    scale = f"{'0':<{full - 4}}100%"
    click.echo(f"{INDENT}{'':{longest + 10}}{scale}\n")
    change = click.style(f"{result.accuracy_name:.1%} → {result.accuracy_descriptors:.1%}", bold=True)
    click.echo(f"{INDENT}{change} of {result.images} drawings, by descriptors alone.\n")
    _paragraph(
        "The names are invented, so no model can know what they look like: by name alone CLIP has to guess. "
        "That is by design. It shows what descriptors can do where names say nothing; with real classes, "
        "whose names CLIP knows, they gain far less.",
        width,
    )
