"""`fieldmarks evaluate`: does a store help on labelled images, is it more than chance, what helps.

`fieldmarks what-if`: which predictions would change if a class had other descriptors.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import Aggregation, ArmName, Preset, words
from fieldmarks.cli.classify import exit_if_incomplete, model_options, say_failure
from fieldmarks.cli.console import emit, say
from fieldmarks.cli.labelled import (
    FILE,
    OF_DATA,
    OF_MODEL,
    Several,
    command_line,
    data_options,
    spec_of,
    text_options,
)
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.data.check import Preflight
    from fieldmarks.evaluation.results import Evaluation
    from fieldmarks.evaluation.what_if import WhatIf


logger = logging.getLogger(__name__)

ARMS = words(ArmName)
AGGREGATIONS = words(Aggregation)
DEFAULT_ARMS = "photo,descriptors,waffle,swapped"
OF_FIGURES = {
    "ablate": "--ablate",
    "write_flags": "--write-flags",
    "as_json": "--json",
    "report": "--report",
    "save_plots": "--save-plots",
}
PASSED = ("classifier", "arms", "text", "with_name", "concept", "templates", "seeds", "ablate", *OF_DATA)


@click.command()
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option("--classifier", type=FILE, help="Saved classifier (.safetensors), instead of --store.")
@data_options
@click.option(
    "--arms",
    type=Several(ARMS),
    help=f"What is compared, of {', '.join(ARMS)}  [default: {DEFAULT_ARMS}].",
)
@click.option(
    "--preset",
    "presets",
    type=Several(words(Preset)),
    default="article",
    show_default=True,
    help="Wording of the descriptors: article, paper or both; the controls use the first.",
)
@text_options
@click.option(
    "--aggregate",
    "aggregates",
    type=Several(AGGREGATIONS),
    help=f"How a class's texts count: one or several of {', '.join(AGGREGATIONS)}  [default: the preset's].",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    help="Number of random draws for the controls  [default: 5].",
)
@click.option(
    "--templates", type=FILE, help="File for the templates arm: one template per line, with {class}."
)
@click.option("--sentences", metavar="FILE", help="Store for the sentences arm.")
@click.option(
    "--concept",
    metavar="NOUN",
    help="Value of {concept} in --text; also adds the concept arm, 'a photo of a NOUN: a …'.",
)
@click.option("--ablate", is_flag=True, help="Measure each descriptor's contribution by leaving it out.")
@click.option(
    "--write-flags", is_flag=True, help="With --ablate: save each descriptor's effect in the store."
)
@click.option(
    "--preflight",
    is_flag=True,
    help="Only inspect the data set, without loading a model. Printed to stdout: without --store, "
    "all labels, one per line, as a class list for `fieldmarks generate`; with --store, "
    "labels that almost match a class, as an alias file.",
)
@click.option("--json", "as_json", metavar="FILE|-", help="Write the whole evaluation as JSON; - for stdout.")
@click.option("--report", type=FILE, help="Write an HTML page with charts and examples (.html).")
@click.option("--save-plots", type=FILE, metavar="DIR", help="Save the charts as .svg and .png.")
@model_options
@click.pass_context
def evaluate(context: click.Context, /, dataset: str | None, **options: Any) -> None:
    """Measure a store's accuracy on labelled images, compared with plain prompts and random controls.

    DATASET is a folder with one folder per class, a .csv or .jsonl manifest, .parquet or .arrow files, .tar
    files, or hf:NAME[:CONFIG]. Each arm is a way of classifying the same images: 'a photo of a {class}',
    the descriptors, random words in their place (waffle), descriptors shuffled between classes (swapped),
    and any others that --arms names. Intervals are 95% confidence intervals. Needs the extra 'eval'.
    Unreadable images are listed at the end, and the exit code is then 3.

    \b
    Examples:
      fieldmarks evaluate photos/ --store frogs.jsonl
      fieldmarks evaluate photos/ --store frogs.jsonl --ablate --report frogs.html
      fieldmarks evaluate hf:frgfm/imagenette:full_size --store imagenette --preset article,paper
      fieldmarks evaluate hf:flwrlabs/caltech101 --preflight > caltech.txt
    """
    from fieldmarks.cli.console import images_line, shown
    from fieldmarks.evaluation.evaluate import evaluate as run
    from fieldmarks.store import Store

    _check_usage(options)
    outputs = Outputs(options["as_json"], options["report"], options["save_plots"])
    if options["preflight"]:
        _preflight(dataset, options)
        return
    outputs.check()
    store = Store(options["store"]) if options["store"] else None
    if store is not None and options["write_flags"]:
        store.check_writable()
    with shown(sys.stderr, images_line) as progress:
        result = run(
            store,
            dataset,
            **{key: options[key] for key in (*PASSED, *OF_MODEL)},
            preset=options["presets"],
            aggregate=options["aggregates"],
            sentences=Store(options["sentences"]) if options["sentences"] else None,
            thumbnails=options["report"] is not None,
            command=command_line(context),
            progress=progress,
        )
    for failure in result.failures:
        say_failure(failure)
    _show_table(_preflight_of(result))
    outputs.write(result)
    if options["write_flags"]:
        _write_flags(result, options["store"], options["presets"][0])
    failed = [failure.image for failure in result.failures]
    exit_if_incomplete(failed, len(failed), len(failed) + len(result.images))


def _check_usage(options: Mapping[str, Any]) -> None:
    candidates = bool(options["store"]) + (options["classifier"] is not None)
    if candidates > 1 or not (candidates or options["preflight"]):
        raise click.UsageError("give either --store or --classifier")
    figures = [option for name, option in OF_FIGURES.items() if options[name]]
    if options["preflight"] and figures:
        raise click.UsageError(f"--preflight computes no figures: leave out {', '.join(figures)}")
    if options["write_flags"] and not (options["ablate"] and options["store"]):
        raise click.UsageError("--write-flags needs --ablate and --store: it saves what was measured there")


def _preflight(dataset: str | None, options: dict[str, Any]) -> None:
    """Show the data set on stderr, and print a class list or, with classes at hand, an alias file."""
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.data.labels import alias_file, near_names
    from fieldmarks.evaluation.evaluate import open_candidate
    from fieldmarks.evaluation.experiment import Experiment, survey
    from fieldmarks.store import Store

    spec = spec_of(dataset, options)
    with quiet_pillow():
        if not (options["store"] or options["classifier"]):
            found, notices = survey(spec)
            _say_notes(notices)
            _show_table(found)
            for name in sorted((*found.images, *found.without_images)):
                click.echo(name)
            return
        store = Store(options["store"]) if options["store"] else None
        candidate = open_candidate(store, options["classifier"], **{key: options[key] for key in OF_MODEL})
        experiment, preflight = Experiment.open(spec, candidate, strict=False).preflight()
    _say_notes(experiment.notices)
    _show_table(preflight)
    near = near_names(experiment.matching) if experiment.matching else {}
    if near:
        say(f"{counted(len(near), 'label')} near a class: check these lines, then pass --aliases FILE.csv")
        click.echo(alias_file(near), nl=False)


def _say_notes(notices: Sequence[str]) -> None:
    for notice in notices:
        logger.warning(notice)


def _show_table(preflight: "Preflight") -> None:
    """Show classes and their images on stderr."""
    from fieldmarks.cli.render import evaluation

    _say_notes(preflight.notices())
    for line in evaluation.preflight(preflight):
        say(line)


def _preflight_of(result: "Evaluation") -> "Preflight":
    """Return the number of images of each class of an evaluation, whose notices were told."""
    from fieldmarks.data.check import Preflight

    counts = dict(zip(result.classes, result.counts.tolist(), strict=True))
    return Preflight(
        {name: count for name, count in counts.items() if count},
        tuple(name for name, count in counts.items() if not count),
    )


def _write_flags(result: "Evaluation", path: str, preset: str) -> None:
    """Save what the ablation measured in the store."""
    from fieldmarks.store import Store
    from fieldmarks.store.descriptor_effects import DescriptorEffect, write_effects
    from fieldmarks.store.edits import Stamp

    measured: dict[str, list[DescriptorEffect]] = {}
    for effect in result.effects:
        measured.setdefault(effect.name, []).append(
            DescriptorEffect(effect.descriptor, effect.effect, effect.margin, effect.images)
        )
    data = result.settings["data"]
    metadata = {
        "data": str(data.get("spec") or data.get("embeddings")),
        "model": str(result.settings["model"] or ""),
        "preset": f"{preset}, {result.arm.aggregate}",
        "pictures": len(result.images),
    }
    changed = write_effects(Store(path), measured, metadata, Stamp())
    have = "has" if len(changed) == 1 else "have"
    see = f"see `fieldmarks store list {path} --sort effect`"
    say(f"{counted(len(changed), 'class')} {have} what was measured: {see}")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where an evaluation goes beside the table; `as_json` "-" is stdout, where it then stands alone."""

    as_json: str | None
    report: Path | None
    plots: Path | None

    def check(self) -> None:
        """Raise for what could not be written at the end; UsageError for one file named twice."""
        from fieldmarks.evaluation.results import check_file
        from fieldmarks.report import evaluation_page

        if self.report and self.as_json and self.report.resolve() == Path(self.as_json).resolve():
            raise click.UsageError("--json and --report name the same file: name two")
        if self.as_json not in (None, "-"):
            check_file(Path(self.as_json or ""))
        if self.report:
            evaluation_page.check(self.report)
        if self.plots:
            evaluation_page.check_plots(self.plots)

    def write(self, result: "Evaluation") -> None:
        """Print the figures and write the files that are asked for."""
        from fieldmarks.cli.render import evaluation
        from fieldmarks.report import evaluation_page

        if self.as_json == "-":
            click.echo(result.encoded(), nl=False)
        else:
            for line in evaluation.lines(result):
                click.echo(line)
            if self.as_json:
                result.save(self.as_json)
        if self.report:
            evaluation_page.write_page(result, self.report)
        if self.plots:
            evaluation_page.save_plots(result, self.plots)


FLIPS_SHOWN = 20


@click.command("what-if")
@click.argument("name", metavar="CLASS")
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", required=True, help="Descriptor store (not modified).")
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
    needed, except to embed a new text.

    \b
    Example:
      fieldmarks what-if "tree frog" photos/ --store frogs.jsonl --add "red eyes" --drop 2
    """
    from fieldmarks.evaluation.what_if import what_if as run
    from fieldmarks.store import Store

    if not (options["add"] or options["drop"]):
        raise click.UsageError("name a change: --add TEXT or --drop TEXT|NUMBER")
    as_json, store = options.pop("as_json"), Store(options.pop("store"))
    result = run(store, name, dataset, **options)
    for failure in result.failures:
        say_failure(failure)
    emit(result.to_dict()) if as_json else _show(result)
    failed = [failure.image for failure in result.failures]
    exit_if_incomplete(failed, len(failed), len(failed) + result.images)


def _show(result: "WhatIf") -> None:
    """Print what changes, the accuracies and the first images whose prediction changes, newly wrong first."""
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
