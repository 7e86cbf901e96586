"""`fieldmarks evaluate`: does a store help on labelled pictures, is it more than chance, what helps.

`fieldmarks what-if`: which pictures flip if a class had other descriptors.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import Aggregation, words
from fieldmarks.cli.classify import exit_if_incomplete, model_options, say_failure, tell
from fieldmarks.cli.console import emit, say
from fieldmarks.cli.labelled import FILE, Several, command_line, data_of, data_options, model_of
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.data.check import Preflight
    from fieldmarks.evaluation.arms import Wanted
    from fieldmarks.evaluation.experiment import Data, Setup
    from fieldmarks.evaluation.results import Evaluation
    from fieldmarks.evaluation.what_if import WhatIf


ARMS = ("name", "photo", "templates", "concept", "descriptors", "sentences", "waffle", "swapped")
OF_FIGURES = {
    "ablate": "--ablate",
    "write_flags": "--write-flags",
    "as_json": "--json",
    "report": "--report",
    "save_plots": "--save-plots",
}
OF_OPTIONS = ("templates", "concept", "sentences")  # arms that an option of their name brings in


@click.command()
@click.argument("dataset", required=False)
@click.option("--store", metavar="FILE", help="The descriptor store.")
@click.option("--classifier", type=FILE, help="A saved classifier, instead of a store.")
@data_options
@click.option(
    "--arms",
    type=Several(ARMS),
    default="photo,descriptors,waffle,swapped",
    show_default=True,
    help=f"What is compared: {', '.join(ARMS)}.",
)
@click.option(
    "--preset",
    "presets",
    type=Several(["article", "paper"]),
    default="article",
    show_default=True,
    help="How descriptors are worded: article, paper or both. Controls follow the first.",
)
@click.option(
    "--aggregate",
    "aggregates",
    type=Several(words(Aggregation)),
    help="How a class's texts count: one or several of mean-embedding, mean-unit-embedding, mean-similarity,"
    " max-similarity  [default: the preset's].",
)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Draws of random words and of exchanged lists.",
)
@click.option("--templates", type=FILE, help="Templates of the arm templates, one a line with {class}.")
@click.option("--sentences", metavar="FILE", help="The store of the arm sentences.")
@click.option("--concept", metavar="NOUN", help="The noun of the arm concept: 'a photo of a NOUN: a …'.")
@click.option("--ablate", is_flag=True, help="Show what each descriptor brings, by leaving it out.")
@click.option("--write-flags", is_flag=True, help="With --ablate, keep what was measured in the store.")
@click.option(
    "--preflight",
    is_flag=True,
    help="Only show the data set; no model is loaded. Labels go to stdout: without --store all, one a line,"
    " a class list for `fieldmarks generate`; with it those near a class, an alias file.",
)
@click.option("--json", "as_json", metavar="FILE|-", help="Write all of it as JSON; - is stdout.")
@click.option("--report", type=FILE, help="Write a page with charts and examples, .html.")
@click.option("--save-plots", type=FILE, metavar="DIR", help="Write the charts as .svg and .png.")
@model_options
@click.pass_context
def evaluate(context: click.Context, /, dataset: str | None, **options: Any) -> None:
    """Measure a store on labelled pictures, beside plain prompts and beside chance.

    DATASET is a folder with a folder per class, a .csv or .jsonl manifest, .parquet or .arrow files, .tar
    files, or hf:NAME[:CONFIG]. Each arm is a way of classifying the same pictures: 'a photo of a {class}',
    the descriptors, random words in their place (waffle), the lists of other classes (swapped), and what
    --arms names more. Intervals are 95% confidence intervals. Needs the extra 'eval'. Images that cannot be
    read are named in the last lines, and the exit code is then 3.

    \b
    Examples:
      fieldmarks evaluate photos/ --store frogs.jsonl
      fieldmarks evaluate photos/ --store frogs.jsonl --ablate --report frogs.html
      fieldmarks evaluate hf:frgfm/imagenette:full_size --store imagenette --preset article,paper
      fieldmarks evaluate hf:flwrlabs/caltech101 --preflight > caltech.txt
    """
    from fieldmarks.classification.sources import quiet_pillow

    _check_usage(options)
    outputs = Outputs(options["as_json"], options["report"], options["save_plots"])
    data = data_of(dataset, options)
    with quiet_pillow():
        if not (options["store"] or options["classifier"]):
            _show_labels(data)
            return
        if not options["preflight"]:
            outputs.check()
        setup = _setup(data, options)
        _show_preflight(setup)
        if options["preflight"]:
            _print_aliases(setup)
            return
        done = _evaluated(setup, options, outputs, command_line(context))
        if options["write_flags"]:
            _write_flags(done, options["store"], options["presets"][0])
    failed = [failure.image for failure in done.failures]
    exit_if_incomplete(failed, len(failed), len(failed) + len(done.images))


def _check_usage(options: Mapping[str, Any]) -> None:
    subjects = bool(options["store"]) + (options["classifier"] is not None)
    if subjects > 1 or not (subjects or options["preflight"]):
        raise click.UsageError("name the classes by --store FILE or by --classifier FILE, one of the two")
    if options["classifier"] and (options["aggregates"] or options["presets"] != ("article",)):
        raise click.UsageError("--preset and --aggregate go with --store: a saved classifier has its own")
    for arm in OF_OPTIONS[1:]:
        if arm in options["arms"] and not options[arm]:
            raise click.UsageError(f"the arm {arm} needs --{arm}")
    figures = [option for name, option in OF_FIGURES.items() if options[name]]
    if options["preflight"] and figures:
        raise click.UsageError(f"--preflight computes no figures: leave out {', '.join(figures)}")
    if options["write_flags"] and not (options["ablate"] and options["store"]):
        raise click.UsageError("--write-flags needs --ablate and --store: it keeps what was measured there")


def _setup(data: "Data", options: Mapping[str, Any]) -> "Setup":
    """Open what is evaluated, and the labels of the pictures."""
    from fieldmarks.evaluation import candidate
    from fieldmarks.evaluation.experiment import Setup
    from fieldmarks.store import Store

    model = model_of(options)
    if options["store"]:
        store = Store(options["store"])
        if options["write_flags"]:
            store.check_writable()
        opened = candidate.of_store(store, model.embedder())
    else:
        opened = candidate.of_file(options["classifier"], model)
    return Setup.open(data, opened, strict=not options["preflight"])


def _show_preflight(setup: "Setup") -> None:
    """Show classes, pictures and equal pictures on stderr."""
    tell(setup.notices)
    _show_table(setup.preflight())


def _print_aliases(setup: "Setup") -> None:
    """Print an alias file for the labels that resemble a class, ready to be corrected."""
    from fieldmarks.data.labels import alias_file, near_names

    near = near_names(setup.matching)
    if near:
        say(f"{counted(len(near), 'label')} near a class: check these lines, then pass --aliases FILE.csv")
        click.echo(alias_file(near), nl=False)


def _show_labels(data: "Data") -> None:
    """Print the labels of the data set as a class list, and its pictures on stderr."""
    from fieldmarks.evaluation.experiment import by_its_labels

    found, notices = by_its_labels(data)
    tell(notices)
    _show_table(found)
    for name in sorted((*found.pictures, *found.without_pictures)):
        click.echo(name)


def _show_table(found: "Preflight") -> None:
    from fieldmarks.cli.render.evaluation import preflight

    tell(found.notices())
    for line in preflight(found):
        say(line)


def _evaluated(
    setup: "Setup", options: Mapping[str, Any], outputs: "Outputs", command: list[str]
) -> "Evaluation":
    """Run the arms and hand out what came of them."""
    from fieldmarks.cli.console import pictures_line, shown
    from fieldmarks.evaluation.evaluate import evaluate as run

    wanted = _wanted(options)
    more = {"command": command, "sentences": options["sentences"]}
    with shown(sys.stderr, pictures_line) as progress:
        done = run(
            setup,
            wanted,
            ablate=options["ablate"],
            thumbnails=options["report"] is not None,
            more=more,
            tell=progress,
        )
    for failure in done.failures:
        say_failure(failure)
    tell(done.notices[len(setup.notices) :])
    outputs.write(done)
    return done


def _wanted(options: Mapping[str, Any]) -> "Wanted":
    """Return what is to be compared. Raises EvaluationError, StoreError."""
    from fieldmarks.evaluation.arms import SHIPPED_TEMPLATES, Wanted, read_templates
    from fieldmarks.store import Store

    arms = (*options["arms"], *(arm for arm in OF_OPTIONS if options[arm] and arm not in options["arms"]))
    sentences = None
    if options["sentences"]:
        entries = Store(options["sentences"]).entries()
        sentences = {entry.name: entry.descriptors for entry in entries}
    return Wanted(
        arms=arms,
        presets=options["presets"],
        aggregates=options["aggregates"] or (),
        seeds=options["seeds"],
        templates=read_templates(options["templates"] or SHIPPED_TEMPLATES) if "templates" in arms else (),
        concept=options["concept"],
        sentences=sentences,
    )


def _write_flags(done: "Evaluation", path: str, preset: str) -> None:
    """Keep what the ablation measured in the store."""
    from fieldmarks.evaluation.summary import is_described
    from fieldmarks.store import Store
    from fieldmarks.store.descriptor_effects import DescriptorEffect, write_effects
    from fieldmarks.store.edits import Stamp

    measured: dict[str, list[DescriptorEffect]] = {}
    for one in done.effects:
        measured.setdefault(one.name, []).append(
            DescriptorEffect(one.descriptor, one.effect, one.margin, one.pictures)
        )
    arm = next(one for one in done.arms if is_described(one.name))  # which the ablation is of
    data = done.settings["data"]
    about = {
        "data": str(data.get("spec") or data.get("embeddings")),
        "model": str(done.settings["model"] or ""),
        "preset": f"{preset}, {arm.aggregate}",
        "pictures": len(done.images),
    }
    changed = write_effects(Store(path), measured, about, Stamp())
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
        """Raise ReportError for what could not be written at the end, UsageError for one file named twice."""
        from fieldmarks.report import evaluation_page

        if self.report and self.as_json and self.report.resolve() == Path(self.as_json).resolve():
            raise click.UsageError("--json and --report name the same file: name two")
        if self.as_json not in (None, "-"):
            evaluation_page.check_json(Path(self.as_json or ""))
        if self.report:
            evaluation_page.check(self.report)
        if self.plots:
            evaluation_page.check_plots(self.plots)

    def write(self, done: "Evaluation") -> None:
        """Print the figures and write the files that are asked for."""
        from fieldmarks.cli.render import evaluation
        from fieldmarks.report import evaluation_page

        if self.as_json == "-":
            click.echo(evaluation_page.encode_json(done), nl=False)
        else:
            for line in evaluation.lines(done):
                click.echo(line)
            if self.as_json:
                evaluation_page.write_json(done, Path(self.as_json))
        if self.report:
            evaluation_page.write_page(done, self.report)
        if self.plots:
            evaluation_page.save_plots(done, self.plots)


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
    "--aggregate",
    type=click.Choice(words(Aggregation)),
    help="How a class's texts count  [default: the preset's].",
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
    from fieldmarks.evaluation import candidate
    from fieldmarks.evaluation.arms import Wanted
    from fieldmarks.evaluation.experiment import Setup
    from fieldmarks.evaluation.what_if import changed
    from fieldmarks.evaluation.what_if import what_if as run
    from fieldmarks.store import Store

    if not (options["add"] or options["drop"]):
        raise click.UsageError("say what would change: --add TEXT or --drop TEXT")
    with quiet_pillow():
        opened = candidate.of_store(Store(options["store"]), model_of(options).embedder())
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
    for kind, wording in kinds.items():
        flips = [one for one in found.flips if one.kind == kind]
        click.echo(f"{len(flips):,} {wording}")
        for one in flips[:FLIPS_SHOWN]:
            names = f"is {one.label}: {one.before} → {one.after}"
            click.echo(f"  {printable(one.image)}  {printable(names)}")
        if len(flips) > FLIPS_SHOWN:
            click.echo(f"  … {len(flips) - FLIPS_SHOWN:,} more")
