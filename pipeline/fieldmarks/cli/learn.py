"""`fieldmarks learn`: weights of descriptors from a few labelled images, written as a classifier file."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import Preset, words
from fieldmarks.cli.configuration import prevailing
from fieldmarks.cli.evaluate import FILE, OF_DATA, data_options, text_options
from fieldmarks.cli.files import OutputFile
from fieldmarks.cli.images import (
    OF_MODEL,
    check_new,
    conclude_read,
    decode_option,
    force_option,
    model_options,
)
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.learning.strength import Steps

PASSED = (
    "store",
    "classifier",
    "shots",
    "seed",
    "strength",
    "shared",
    "descriptors",
    "write_weights",
    "preset",
    "text",
    "with_name",
    "concept",
)


def out_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the classifier file that is written."""
    return click.option(
        "-o",
        "--out",
        type=OutputFile(".safetensors"),
        required=True,
        help="Classifier file to write (.safetensors).",
    )(force_option(command))


def check_out(out: Path, force: bool) -> None:
    """Raise, before the work, where a classifier file could not be written: ModelError, StoreError."""
    from fieldmarks.classification.classifier_file import ClassifierFile

    ClassifierFile(out)
    check_new(force, {"--out": out})


@click.command(short_help="Learn weights of descriptors from a few labelled images.")
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option("--classifier", type=FILE, help="Saved classifier (.safetensors), instead of --store.")
@out_option
@click.option(
    "--shots",
    type=click.IntRange(1),
    metavar="K",
    help="Learn from K images per class, drawn at random  [default: all].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for the draw and the folds.")
@click.option(
    "--strength",
    type=float,
    metavar="L",
    help="Strength of the pull towards equal weights; inf keeps them  [default: chosen by cross-validation].",
)
@click.option(
    "--shared",
    is_flag=True,
    help="Let each class weight the descriptors of all classes, for or against it.",
)
@click.option(
    "--descriptors",
    type=click.IntRange(1),
    metavar="N",
    help="Keep the N descriptors of each class that matter most, and show the accuracy expected with N and "
    "with each larger number.",
)
@click.option(
    "--write-weights",
    is_flag=True,
    help="Also keep the weights in the store, for `fieldmarks classify --use-weights`.",
)
@data_options
@click.option(
    "--preset",
    type=click.Choice(words(Preset)),
    default="article",
    show_default=True,
    help="Wording of the descriptors; texts are pooled as mean-similarity, each with its weight.",
)
@text_options
@click.option("--concept", metavar="NOUN", help="Value of {concept} in --text.")
@decode_option
@model_options
@click.pass_context
def learn(context: click.Context, /, dataset: str | None, out: Path, force: bool, **options: Any) -> None:
    """Learn how much each descriptor counts from labelled images in DATASET: a few per class are enough.

    DATASET is as for `fieldmarks evaluate`, and the resulting file works wherever a saved classifier does,
    without the store or the images. Weights are pulled towards equal ones; how strongly is chosen by
    cross-validation on those images; where the gain is not clear, equal weights are kept. Every class needs
    images; with one each, nothing can be validated. Needs the extra 'eval'.

    \b
    Examples:
      fieldmarks learn photos/ --store frogs.jsonl -o frogs.safetensors
      fieldmarks learn photos/ --store frogs.jsonl --shots 16 -o frogs.safetensors
      fieldmarks classify new/ --classifier frogs.safetensors --explain
    """
    from fieldmarks.classification.results import Progress
    from fieldmarks.cli.console import images_line, shown
    from fieldmarks.learning.learn import learn as run

    options |= prevailing(context, "store", "classifier")
    check_out(out, force)

    def wording(progress: "Progress | Steps") -> str:
        if isinstance(progress, Progress):
            return images_line(progress)
        return f"{progress.done:,} of {progress.total:,} fits of cross-validation"

    with shown(sys.stderr, wording) as progress:
        learned = run(
            dataset, **{key: options[key] for key in (*PASSED, *OF_DATA, *OF_MODEL)}, progress=progress
        )
    learned.save(out)
    if expected := learned.to_dict().get("descriptors"):
        click.echo("    descriptors per class  expected accuracy, %")
        for count, share in expected.items():
            click.echo(f"{count:>25}  {100 * share:>20.1f}")
    closing = f"Learned from {counted(learned.images, 'image')}: {'; '.join(learned.notes)}"
    conclude_read(learned.failures, learned.read, closing, f"Wrote {out}")
