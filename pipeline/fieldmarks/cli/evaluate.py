"""`fieldmarks evaluate`: does a store help on labelled images, by more than chance, and what in it helps.

The options that name labelled images and word the descriptors are those of `fieldmarks what-if` too.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fieldmarks.choices import Aggregation, ArmName, Preset, words
from fieldmarks.cli.configuration import command_line, prevailing
from fieldmarks.cli.console import conclude, say
from fieldmarks.cli.files import OutputFile
from fieldmarks.cli.images import (
    OF_MODEL,
    check_new,
    check_page,
    conclude_images,
    decode_option,
    force_option,
    imprint,
    model_options,
    page_options,
    say_failure,
    wrote,
)
from fieldmarks.cli.learning_curves import Counts, check_curves, measure_curves
from fieldmarks.errors import EvaluationError
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.data.check import Preflight
    from fieldmarks.evaluation.results import Evaluation


logger = logging.getLogger(__name__)

Command = Callable[..., None]
FILE = click.Path(path_type=Path)
OF_DATA = (
    *("embeddings", "split", "image_column", "label_column", "limit", "streaming", "aliases"),
    "allow_missing",
)
ARMS = words(ArmName)
AGGREGATIONS = words(Aggregation)
DEFAULT_ARMS = "photo,descriptors,waffle,swapped"
OF_FIGURES = {
    "ablate": "--ablate",
    "write_flags": "--write-flags",
    "unknown": "--unknown",
    "as_json": "--json",
    "predictions": "--predictions",
    "report": "--report",
    "save_plots": "--save-plots",
    "force": "--force",
}
PASSED = (
    *("classifier", "arms", "text", "with_name", "concept", "templates", "seeds", "ablate", "unknown"),
    *OF_DATA,
)


class Several(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A comma-separated list of choices."""

    name = "a,b"

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = choices

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the distinct choices, or fail as click does."""
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))
        for word in words:
            if word not in self._choices:
                self.fail(f"{word!r} is not one of {', '.join(self._choices)}", param, ctx)
        return words


def data_options(command: Command) -> Command:
    """Add the options that select images, and say how their labels are read."""
    for option in reversed(
        (
            click.option(
                "--image-embeddings",
                "embeddings",
                type=FILE,
                help="Precomputed image embeddings: a folder written by `fieldmarks embed`, or an .npz file. "
                "Without DATASET, labels come from the file itself or from folder names.",
            ),
            click.option(
                "--split", help="Split to use  [default: test, else validation, else the only one]."
            ),
            click.option("--image-column", metavar="NAME", help="Image column  [default: by type]."),
            click.option("--label-column", metavar="NAME", help="Label column  [default: by type]."),
            click.option(
                "--limit",
                type=click.IntRange(1),
                help="Use at most N images, spread evenly over the data set.",
                metavar="N",
            ),
            click.option(
                "--streaming",
                is_flag=True,
                help="Stream a data set from the Hugging Face Hub instead of downloading it.",
            ),
            click.option(
                "--aliases",
                type=FILE,
                help="Maps labels to classes: a table with the columns label and class (CSV, TSV, JSON "
                "lines), or a JSON or YAML map {label: class}.",
            ),
            click.option(
                "--allow-missing",
                is_flag=True,
                help="Leave out images whose label has no class.",
            ),
        )
    ):
        command = option(command)
    return command


def text_options(command: Command) -> Command:
    """Add the options that word the descriptors, as `classify` has them."""
    for option in reversed(
        (
            click.option(
                "--text",
                metavar="TEMPLATE",
                help="Template of the descriptors' texts, as for `fieldmarks classify --text`  [default: the "
                "preset's; the paper's for ImageNet is '{class}, {which}.'].",
            ),
            click.option(
                "--with-name", is_flag=True, help="Add 'a photo of a {class}' to each class's texts."
            ),
        )
    ):
        command = option(command)
    return command


@click.command(short_help="Measure accuracy on labelled images, with controls.")
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option("--classifier", type=FILE, help="Saved classifier (.safetensors), instead of --store.")
@data_options
@click.option(
    "--arms",
    type=Several(ARMS),
    help=f"Arms to compare, from {', '.join(ARMS)}  [default: {DEFAULT_ARMS}].",
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
    help=f"How class texts are pooled: one or more of {', '.join(AGGREGATIONS)}  [default: the preset's].",
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
    "--unknown",
    metavar="DIR",
    help="Images that belong to none of the classes: also measure how well they are separated from the"
    " others. With --image-embeddings, embeddings too.",
)
@click.option(
    "--preflight",
    is_flag=True,
    help="Only inspect the data set, without loading a model. Printed to stdout: without --store, "
    "all labels, one per line, as a class list for `fieldmarks generate`; with --store, "
    "labels that almost match a class, as an alias file.",
)
@click.option(
    "--shots",
    type=Counts(),
    metavar="K,…",
    help="Measure learning curves instead of arms: what `fieldmarks learn` reaches with K images per "
    "class, for one or several K, as in 1,2,4,8,16.",
)
@click.option(
    "--draws",
    type=click.IntRange(2, 1000),
    metavar="N",
    help="With --shots: number of random draws of training images  [default: 10].",
)
@click.option(
    "--json",
    "as_json",
    type=OutputFile(".json", path_type=str),
    metavar="FILE|-",
    help="Write the whole evaluation as JSON (.json); - for stdout.",
)
@click.option(
    "--predictions",
    type=OutputFile(".parquet"),
    help="Write what each arm predicts for each image as a table (.parquet). The JSON, in the same folder,"
    " then refers to it, which keeps it small for millions of images.",
)
@click.option(
    "--report", type=OutputFile(".html"), help="Write an HTML page with charts and examples (.html)."
)
@page_options
@click.option("--save-plots", type=FILE, metavar="DIR", help="Save the charts as .svg, .png and .pdf.")
@force_option
@decode_option
@model_options
@click.pass_context
def evaluate(context: click.Context, /, dataset: str | None, **options: Any) -> None:
    """Measure a store's accuracy on labelled images, compared with plain prompts and random controls.

    DATASET is a folder with one folder per class, a .csv or .jsonl manifest, .parquet or .arrow files, .tar
    files, or hf:NAME[:CONFIG]. Each arm is a way of classifying the same images: 'a photo of a {class}',
    the descriptors, 30 random texts that are the same for every class (waffle, as in WaffleCLIP),
    descriptors shuffled between classes (swapped), and any others that --arms names; random-words has as
    many random texts as a class has descriptors. A class with no descriptors is read as in `fieldmarks
    classify`. Intervals are 95% confidence intervals, which cover the truth in 92 to 97% of simulations;
    intervals and p count repeated images once. Needs the extra 'eval'. Unreadable images are named on
    stderr, and the exit code is then 3.

    For a classifier that `fieldmarks calibrate` has written, confidence is measured too: how far it is from
    accuracy, the error among the most confident images, how often label sets contain the true label, and how
    often the answer is "none of these". Where a store gives classes a parent, correct answers are counted on
    both levels, and so is what `fieldmarks classify --back-off` would answer.

    With --shots, only learning curves are measured: accuracy against the number of training images per class,
    as means over draws, always on images that were not used for training, compared with weights on names and
    on random words, and with what the images give without descriptors.

    \b
    Examples:
      fieldmarks evaluate photos/ --store frogs.jsonl
      fieldmarks evaluate photos/ --store frogs.jsonl --ablate --report frogs.html
      fieldmarks evaluate photos/ --store frogs.jsonl --shots 1,2,4,8,16
      fieldmarks evaluate hf:frgfm/imagenette:full_size --store imagenette --preset article,paper
      fieldmarks evaluate hf:flwrlabs/caltech101 --preflight > caltech.txt
    """
    from fieldmarks.cli.console import images_line, shown
    from fieldmarks.evaluation.evaluate import evaluate as run
    from fieldmarks.store import Store

    options |= prevailing(context, "store", "classifier")
    _check_usage(options)
    check_page(options)
    if options["classifier"] and context.get_parameter_source("presets") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--preset goes with --store: a saved classifier has its own texts")
    if options["preflight"]:
        _preflight(dataset, options)
        return
    if options["shots"]:
        names = ("store", "classifier", "text", "with_name", "concept", *OF_DATA, *OF_MODEL)
        passed = {name: options[name] for name in names} | {"preset": options["presets"][0]}
        measure_curves(dataset, passed, options, command_line(context))
        return
    outputs = (options["as_json"], options["predictions"], options["report"], options["save_plots"])
    _check_outputs(*outputs, force=options["force"])
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
    _show_counts(_preflight_of(result))
    _write(result, *outputs, options)
    if options["write_flags"]:
        _write_flags(result, options["store"], options["presets"][0])
    closing = f"Evaluated {counted(len(result.arms), 'arm')} on {counted(len(result.images), 'image')}"
    files = [path for path in outputs if path not in (None, "-")]
    conclude_images(len(result.failures), len(result.images), closing, *wrote(files))


def _check_usage(options: Mapping[str, Any]) -> None:
    candidates = bool(options["store"]) + (options["classifier"] is not None)
    if candidates > 1 or not (candidates or options["preflight"]):
        raise click.UsageError("give either --store or --classifier")
    figures = [option for name, option in OF_FIGURES.items() if options[name]]
    if options["draws"] and not options["shots"]:
        raise click.UsageError("--draws goes with --shots")
    if options["shots"]:
        check_curves(options)
    if options["preflight"] and figures:
        raise click.UsageError(f"--preflight computes no figures: leave out {', '.join(figures)}")
    if options["write_flags"] and not (options["ablate"] and options["store"]):
        raise click.UsageError("--write-flags needs --ablate and --store: it saves what was measured there")


def _preflight(dataset: str | None, options: dict[str, Any]) -> None:
    """Show the data set on stderr, and print a class list or, with classes at hand, an alias file."""
    from fieldmarks.classification.sources import quiet_pillow
    from fieldmarks.data.labels import alias_file, near_names
    from fieldmarks.evaluation.evaluate import dataset_spec, open_candidate
    from fieldmarks.evaluation.experiment import Experiment, survey
    from fieldmarks.store import Store

    spec = dataset_spec(dataset, **{key: options[key] for key in OF_DATA})
    with quiet_pillow():
        if not (options["store"] or options["classifier"]):
            found, notices = survey(spec)
            _say_notes(notices)
            _show_table(found)
            for name in sorted((*found.images, *found.without_images)):
                click.echo(name)
            conclude(f"Inspected {_images(found)}; no model was loaded")
            return
        store = Store(options["store"]) if options["store"] else None
        model = {key: options[key] for key in OF_MODEL}
        candidate = open_candidate(store, options["classifier"], embeddings=spec.embeddings, **model)
        experiment, preflight = Experiment.open(spec, candidate, strict=False).preflight()
    _say_notes(experiment.notices)
    _show_table(preflight)
    near = near_names(experiment.matching) if experiment.matching else {}
    if near:
        say(f"{counted(len(near), 'label')} near a class: check these lines, then pass --aliases FILE.csv")
        click.echo(alias_file(near), nl=False)
    conclude(f"Inspected {_images(preflight)}; no model was loaded")


def _images(preflight: "Preflight") -> str:
    return counted(sum(preflight.images.values()), "image")


def _say_notes(notices: Sequence[str]) -> None:
    for notice in notices:
        logger.warning(notice)


def _show_table(preflight: "Preflight") -> None:
    """Show classes and their images on stderr: what --preflight is asked for."""
    from fieldmarks.cli.render import evaluation

    _say_notes(preflight.notices())
    for line in evaluation.preflight(preflight):
        say(line)


def _show_counts(preflight: "Preflight") -> None:
    """Say in one line how many images the classes have; each class's with -v."""
    from fieldmarks.cli.render import evaluation

    _say_notes(preflight.notices())
    *classes, _ = evaluation.preflight(preflight)
    for line in classes:
        logger.debug(line)
    logger.info(evaluation.extent(preflight))


def _preflight_of(result: "Evaluation") -> "Preflight":
    """Return the number of images of each class of an evaluation, whose notices were shown."""
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
    say(f"{counted(len(changed), 'class')} {have} measured effects: {see}")


def _check_outputs(
    as_json: str | None, predictions: Path | None, report: Path | None, plots: Path | None, *, force: bool
) -> None:
    """Raise for what could not be written at the end; UsageError for one file named twice."""
    from fieldmarks.evaluation.results import check_file
    from fieldmarks.report import chart_files, charts, evaluation_page

    if report and as_json and report.resolve() == Path(as_json).resolve():
        raise click.UsageError("--json and --report name the same file: pass two")
    file = None if as_json in (None, "-") else Path(as_json or "")
    if file:
        check_file(file)
    if report:
        evaluation_page.check(report)
    if predictions:
        from fieldmarks.evaluation.prediction_files import packages
        from fieldmarks.paths import unwritable

        packages("--predictions")
        if file and file.resolve().parent != predictions.resolve().parent:
            raise click.UsageError("--json refers to --predictions by its name: put both into one folder")
        if reason := unwritable(predictions):
            raise EvaluationError(f"{predictions} {reason}")
    drawn = chart_files.check(charts.NAMES, plots) if plots else None
    check_new(
        force, {"--json": file, "--predictions": predictions, "--report": report, "--save-plots": drawn}
    )


def _write(
    result: "Evaluation",
    as_json: str | None,
    predictions: Path | None,
    report: Path | None,
    plots: Path | None,
    options: Mapping[str, Any],
) -> None:
    """Print the figures and write the files that are asked for; JSON on stdout, "-", stands alone."""
    from fieldmarks.cli.render import evaluation
    from fieldmarks.report import chart_files, charts, evaluation_page

    if predictions:
        result.save_predictions(predictions, force=options["force"])
    name = predictions.name if predictions else None
    if as_json == "-":
        click.echo(result.encoded(name), nl=False)
    else:
        for line in evaluation.lines(result):
            click.echo(line)
        if as_json:
            result.save(as_json, predictions=name)
    if report:
        evaluation_page.write_page(result, report, imprint(options))
    if plots:
        chart_files.save(charts.charts(result), plots)
