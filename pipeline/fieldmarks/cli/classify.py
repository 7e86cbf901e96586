"""`fieldmarks classify`: pictures in, labels with their reasons out."""

import sys

import click


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--store", required=True, metavar="FILE", help="The descriptor store that names the classes.")
@click.option(
    "--clip",
    metavar="MODEL",
    help="A CLIP-like model: a folder or a hub id  [default: openai/clip-vit-base-patch32].",
)
@click.option(
    "--preset",
    type=click.Choice(["article", "paper"]),
    default="article",
    show_default=True,
    help="article: bare descriptors, mean embedding. paper: '{class}, which has …', mean similarity.",
)
@click.option("--baseline", is_flag=True, help="Show beside it what the class names alone answer.")
@click.option(
    "--top", type=click.IntRange(min=1), help="Classes to show of a picture  [default: 1; 5 in JSON lines]."
)
@click.option("--explain", is_flag=True, help="Show the marks of the predicted class and of the runner-up.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="How results are printed.",
)
def classify(
    images: tuple[str, ...],
    store: str,
    clip: str | None,
    preset: str,
    baseline: bool,
    top: int | None,
    explain: bool,
    form: str,
) -> None:
    """Classify IMAGES by the descriptors of a store.

    IMAGES are files, folders (searched at any depth), globs, or - for paths on stdin, one a line.

    \b
    Example:
      fieldmarks classify photos/ --store frogs.jsonl --explain
    """
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.encoder import DEFAULT_CLIP
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import find
    from fieldmarks.cli.console import open_store, quiet_libraries, say
    from fieldmarks.report.lines import printer

    failed = 0
    with quiet_libraries():
        classifier = Classifier.from_store(
            open_store(store), clip=clip or DEFAULT_CLIP, preset=preset, baseline=baseline
        )
        for notice in classifier.embedder.encoder.notices:
            say(f"Note: {notice}")
        printing = printer(form, classifier.classes)
        for header in printing.header:
            click.echo(header)
        shown = top or (5 if form == "jsonl" else 1)
        for result in classifier.stream(find(images, sys.stdin), top=shown, explain=explain):
            if isinstance(result, Failure):
                failed += 1
                say(f"Error: {result.image}: {result.error}")
            for row in printing.rows(result):
                click.echo(row)
    if failed:
        click.get_current_context().exit(1)
