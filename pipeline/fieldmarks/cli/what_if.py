"""`fieldmarks what-if`: which pictures flip if a class had other descriptors."""

from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.classify import AGGREGATIONS, model_options, tell
from fieldmarks.cli.console import emit, open_store, say
from fieldmarks.cli.labelled import data_of, data_options, model_of
from fieldmarks.cli.output import exit_if_incomplete, say_failure
from fieldmarks.wording import counted, printable

if TYPE_CHECKING:
    from fieldmarks.evaluation.what_if import WhatIf

FLIPS_SHOWN = 20


@click.command("what-if")
@click.argument("name", metavar="CLASS")
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", required=True, help="The descriptor store; it is not changed.")
@click.option("--add", metavar="TEXT", multiple=True, help="A descriptor that the class would have.")
@click.option("--drop", metavar="TEXT|NUMBER", multiple=True, help="A descriptor that it would not have.")
@data_options
@click.option(
    "--preset",
    type=click.Choice(["article", "paper"]),
    default="article",
    show_default=True,
    help="How descriptors are worded.",
)
@click.option(
    "--aggregate", type=click.Choice(AGGREGATIONS), help="How a class's texts count  [default: the preset's]."
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
@model_options
def what_if(name: str, dataset: str | None, **options: Any) -> None:
    """Show which pictures flip if CLASS had other descriptors.

    DATASET is as for `fieldmarks evaluate`. Nothing is changed. With embeddings that are kept this takes no
    model; a text that CLIP has not read yet loads it once.

    \b
    Example:
      fieldmarks what-if "tree frog" photos/ --store frogs.jsonl --add "red eyes" --drop 2
    """
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.evaluation import subject
    from fieldmarks.evaluation.arms import Wanted
    from fieldmarks.evaluation.setup import Setup
    from fieldmarks.evaluation.what_if import changed
    from fieldmarks.evaluation.what_if import what_if as run

    if not (options["add"] or options["drop"]):
        raise click.UsageError("say what would change: --add TEXT or --drop TEXT")
    with quiet_pillow():
        opened = subject.of_store(open_store(options["store"]), model_of(options).embedder())
        after = changed(opened, name, options["add"], options["drop"])
        setup = Setup.open(data_of(dataset, options), opened)
        tell(setup.notices)
        pictures = setup.pictures(lambda progress: None)
        aggregates = (options["aggregate"],) if options["aggregate"] else ()
        way = Wanted(presets=(options["preset"],), aggregates=aggregates).ways()[0]
        found = run(opened, after, name, pictures, way)
    tell(setup.caveats(pictures))
    if not found.descriptors:
        say("Note: without any descriptor the class is read by the prompt of its name")
    for failure in pictures.failures:
        say_failure(failure)
    emit(found.to_dict()) if options["as_json"] else _show(found)
    failed = [failure.image for failure in pictures.failures]
    exit_if_incomplete(failed, len(failed), len(failed) + len(pictures.images))


def _show(found: "WhatIf") -> None:
    """Print the accuracies and the first pictures that flip, those that are lost first."""
    shares = f"{100 * found.before:.2f} % before, {100 * found.after:.2f} % after"
    click.echo(f"{shares}, of {counted(found.pictures, 'picture')}")
    kinds = {"lost": "right before, wrong after", "gained": "wrong before, right after"}
    kinds |= {"other": "wrong both times, with another answer"}
    for kind, words in kinds.items():
        flips = [one for one in found.flips if one.kind == kind]
        click.echo(f"{len(flips):,} {words}")
        for one in flips[:FLIPS_SHOWN]:
            names = f"is {one.label}: {one.before} → {one.after}"
            click.echo(f"  {printable(one.image)}  {printable(names)}")
        if len(flips) > FLIPS_SHOWN:
            click.echo(f"  … {len(flips) - FLIPS_SHOWN:,} more")
