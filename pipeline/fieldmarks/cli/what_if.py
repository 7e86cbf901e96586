"""`fieldmarks what-if`: which predictions would change if a class had other descriptors."""

import sys
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import Aggregation, Preset, words
from fieldmarks.cli.configuration import prevailing
from fieldmarks.cli.console import emit, images_line, shown
from fieldmarks.cli.evaluate import FILE, data_options, text_options
from fieldmarks.cli.images import conclude_read, model_options
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.evaluation.what_if import WhatIf


FLIPS_SHOWN = 20


@click.command("what-if", short_help="Show what other descriptors of a class would change.")
@click.argument("name", metavar="CLASS")
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", help="Descriptor store (not modified).")
@click.option("--classifier", type=FILE, help="Saved classifier (.safetensors), instead of --store.")
@click.option("--add", metavar="TEXT", multiple=True, help="Descriptor to add to the class; repeatable.")
@click.option(
    "--drop", metavar="TEXT|NUMBER", multiple=True, help="Descriptor to remove from it; repeatable."
)
@data_options
@click.option(
    "--preset",
    type=click.Choice(words(Preset)),
    default="article",
    show_default=True,
    help="Wording of the descriptors.",
)
@text_options
@click.option("--concept", metavar="NOUN", help="Value of {concept} in --text.")
@click.option(
    "--aggregate",
    type=click.Choice(words(Aggregation)),
    help="How a class's texts are pooled  [default: the preset's].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@model_options
def what_if(name: str, dataset: str | None, **options: Any) -> None:
    """Show which predictions would change if CLASS had other descriptors.

    DATASET is as for `fieldmarks evaluate`. Nothing is written. With precomputed embeddings no model is
    needed, except to embed a new text. With a learned classifier, descriptors can only be dropped: the other
    weights of the class grow in proportion.

    \b
    Example:
      fieldmarks what-if "tree frog" photos/ --store frogs.jsonl --add "red eyes" --drop 2
    """
    from fieldmarks.evaluation.what_if import what_if as run
    from fieldmarks.store import Store

    if not (options["add"] or options["drop"]):
        raise click.UsageError("pass a change: --add TEXT or --drop TEXT|NUMBER")
    options |= prevailing(click.get_current_context(), "store", "classifier")
    as_json, named = options.pop("as_json"), options.pop("store")
    store = Store(named) if named else None
    with shown(sys.stderr, images_line) as progress:
        result = run(store, name, dataset, **options, progress=progress)
    emit(result.to_dict()) if as_json else _show(result)
    changed = f"{counted(len(result.flips), 'prediction')} would change"
    closing = f"Compared {counted(result.images, 'image')}: {changed}"
    conclude_read(result.failures, result.images, closing)


def _show(result: "WhatIf") -> None:
    """Print the changes, the accuracies and the first images whose prediction changes, newly wrong first."""
    for verb, texts in (("without", result.dropped), ("with", result.added)):
        for text in texts:
            click.echo(f"{printable(result.name)} {verb} {printable(text)!r}")
    accuracies = f"{100 * result.before:.2f}% before, {100 * result.after:.2f}% after"
    click.echo(f"accuracy: {accuracies}, on {counted(result.images, 'image')}")
    kinds = {"lost": "newly wrong", "gained": "newly right", "other": "wrong both times, answer changed"}
    for kind, title in kinds.items():
        flips = [flip for flip in result.flips if flip.kind == kind]
        click.echo(f"{title}: {len(flips):,}")
        for flip in flips[:FLIPS_SHOWN]:
            names = f"is {flip.label}: {flip.before} → {flip.after}"
            click.echo(f"  {printable(flip.image)}  {printable(names)}")
        if len(flips) > FLIPS_SHOWN:
            click.echo(f"  … {len(flips) - FLIPS_SHOWN:,} more")
