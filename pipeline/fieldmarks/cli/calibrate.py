"""`fieldmarks calibrate`: temperature, thresholds that reject and sets of labels, in a classifier file."""

import sys
from pathlib import Path
from typing import Any

import click

from fieldmarks.choices import Aggregation, Preset, words
from fieldmarks.cli.configuration import is_given, prevailing
from fieldmarks.cli.evaluate import FILE, OF_DATA, data_options, text_options
from fieldmarks.cli.images import OF_MODEL, Share, conclude_read, decode_option, model_options
from fieldmarks.cli.learn import check_out, out_option
from fieldmarks.text import counted

PASSED = (
    *("store", "classifier", "false_rejections", "coverage", "unlabelled"),
    *("preset", "aggregate", "text", "with_name", "concept"),
)
OF_LABELS = ("false_rejections", "coverage", "split", "aliases", "allow_missing", "limit", "streaming")


@click.command(short_help='Teach a classifier when to say "none of these".')
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option("--classifier", type=FILE, help="Saved classifier (.safetensors), instead of --store.")
@out_option
@click.option(
    "--false-rejections",
    type=Share(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    metavar="R",
    help="Share of a class's own images that `classify --abstain` may wrongly reject.",
)
@click.option(
    "--coverage",
    type=Share(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    metavar="C",
    help="Share of images whose set of labels, from `classify --sets`, has to contain the true one.",
)
@click.option(
    "--unlabelled",
    metavar="DIR",
    help="Images without labels, instead of DATASET: sets one threshold, the score that random words reach "
    "on few of them. Weaker, as it does not bound false rejections.",
)
@data_options
@click.option(
    "--preset",
    type=click.Choice(words(Preset)),
    default="article",
    show_default=True,
    help="Wording of the descriptors.",
)
@click.option(
    "--aggregate",
    type=click.Choice(words(Aggregation)),
    help="How a class's texts are pooled  [default: the preset's].",
)
@text_options
@click.option("--concept", metavar="NOUN", help="Value of {concept} in --text.")
@decode_option
@model_options
@click.pass_context
def calibrate(context: click.Context, /, dataset: str | None, out: Path, force: bool, **options: Any) -> None:
    """Teach a classifier when to say "none of these", from labelled images of DATASET.

    DATASET is as for `fieldmarks evaluate`: images of the kind that will be classified; images that weights
    were learned from are left out. The file gets a temperature that calibrates the probabilities, a minimum
    score for each class, and the threshold for label sets. Classes with fewer than 20 images share one
    threshold. Needs the extra 'eval'.

    \b
    Examples:
      fieldmarks calibrate photos/ --store frogs.jsonl -o frogs.safetensors
      fieldmarks calibrate photos/ --classifier learned.safetensors -o frogs.safetensors
      fieldmarks calibrate --unlabelled photos/ --store frogs.jsonl -o frogs.safetensors
      fieldmarks classify new/ --classifier frogs.safetensors --abstain --sets
    """
    from fieldmarks.cli.console import images_line, shown
    from fieldmarks.learning.calibrate import calibrate as run

    options |= prevailing(context, "store", "classifier")
    if options["unlabelled"] and (idle := [name for name in OF_LABELS if is_given(name)]):
        raise click.UsageError(f"--{idle[0].replace('_', '-')} has no effect with --unlabelled: leave it out")
    check_out(out, force)
    with shown(sys.stderr, images_line) as progress:
        done = run(
            dataset, **{key: options[key] for key in (*PASSED, *OF_DATA, *OF_MODEL)}, progress=progress
        )
    done.save(out)
    closing = f"Calibrated on {counted(done.images, 'image')}: {'; '.join(done.notes)}"
    conclude_read(done.failures, done.images, closing, f"Wrote {out}")
