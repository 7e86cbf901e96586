"""`fieldmarks classify`: images in, labels with their reasons out."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import Aggregation, Preset, ResultFormat, words
from fieldmarks.cli import outputs, sorting
from fieldmarks.cli.configuration import is_given, prevailing
from fieldmarks.cli.console import images_line, shown
from fieldmarks.cli.files import OutputFile
from fieldmarks.cli.images import (
    OF_MODEL,
    check_new,
    check_page,
    decode_option,
    find_images,
    image_paths,
    label_options,
    model_options,
    page_options,
)

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.embedder import Embedded
    from fieldmarks.classification.embedding_set import EmbeddingSet
    from fieldmarks.classification.journal import Journal
    from fieldmarks.classification.result_folder import ResultFolder
    from fieldmarks.classification.results import Failure
    from fieldmarks.cli.images import Paths


OF_TEXTS = ("preset", "aggregate", "text", "concept", "with_name", "none", "use_weights", "baseline")


@click.command(short_help="Label images using a store, and explain why.")
@click.argument("images", nargs=-1)
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option(
    "--classifier",
    type=click.Path(path_type=Path),
    help="Saved classifier (.safetensors), instead of --store.",
)
@click.option(
    "--class",
    "names",
    multiple=True,
    metavar="NAME",
    help="With --store: choose among these of its classes only. Without: zero-shot with 'a photo of a NAME',"
    " or with --text (repeatable).",
)
@click.option(
    "--none",
    multiple=True,
    metavar="TEXT",
    help="What images that belong to none of the classes show, such as 'an empty meadow' (repeatable). If"
    " it fits best, the label is '(none of these)'.",
)
@click.option(
    "--image-embeddings",
    "embeddings",
    type=click.Path(path_type=Path),
    help="Precomputed embeddings instead of IMAGES: a folder written by `fieldmarks embed` or "
    "clip-retrieval, or an .npz file.",
)
@decode_option
@model_options
@click.option(
    "--preset",
    type=click.Choice(words(Preset)),
    default="article",
    show_default=True,
    help="article: bare descriptors, mean embedding. paper: '{class}, which has …', mean similarity; on "
    "ImageNet the paper adds a full stop: --text '{class}, {which}.'.",
)
@click.option(
    "--aggregate",
    type=click.Choice(words(Aggregation)),
    help="How a class's texts are pooled  [default: the preset's].",
)
@click.option(
    "--text",
    metavar="TEMPLATE",
    help="Template of the texts that CLIP reads, with {class}, {descriptor}, {article} (a or an), "
    "{which} (the paper's 'which has …', quirks included) and {concept}  [default: the "
    "preset's].",
)
@click.option("--concept", metavar="NOUN", help="Value of {concept}, as in 'a photo of a food: …'.")
@click.option("--with-name", is_flag=True, help="Add 'a photo of a {class}' to each class's texts.")
@click.option(
    "--use-weights",
    is_flag=True,
    help="Use the weights in the store, from `fieldmarks learn --write-weights`.",
)
@click.option("--baseline", is_flag=True, help="Also show the prediction from class names alone.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="How many classes to list per image  [default: 1, or N of --explain-top; 5 in jsonl and parquet].",
)
@label_options
@click.option(
    "--explain",
    is_flag=True,
    help="Show why each image got its label: the marks of the predicted class and of the runner-up.",
)
@click.option(
    "--relative",
    is_flag=True,
    help="Show marks as z-scores over this run (keeps embeddings in memory).",
)
@click.option(
    "--explain-top",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show the marks of the N best classes; --explain is --explain-top 2.",
)
@outputs.output_options
@click.option(
    "--resume",
    type=OutputFile(".jsonl"),
    metavar="OUT.jsonl",
    help="Append JSONL results, skipping images already in the file unless they failed or changed; rerun"
    " to continue.",
)
@click.option(
    "--report",
    type=OutputFile(".html"),
    help="Also write an HTML page with images and marks, least certain first (.html).",
)
@page_options
@click.option(
    "--save-classifier", type=OutputFile(".safetensors"), help="Also save the classifier (.safetensors)."
)
@sorting.sorting_options
@click.option(
    "--on",
    metavar="ray[=ADDRESS]",
    help="With --image-embeddings and a folder as -o: run on Ray, as `fieldmarks embed` does.",
)
@click.pass_context
def classify(
    context: click.Context,
    /,
    images: tuple[str, ...],
    store: str | None,
    classifier: Path | None,
    names: tuple[str, ...],
    form: ResultFormat | None,
    save_classifier: Path | None,
    **options: Any,
) -> None:
    """Classify IMAGES using the descriptors in a store.

    IMAGES are files, folders (searched recursively), globs, or - to read paths from stdin, one per line. A
    class with no descriptors falls back to the prompt 'a photo of a {class}', or with {class} and {which} in
    the text, as in preset paper, to '{class}, which has '. Underscores in class names are read as spaces.
    Probabilities are a softmax over the given classes, whatever the model: relative scores, not calibrated
    confidences. An image whose top probability is below --min-probability is "(unsure)", and one that --none
    fits best is "(none of these)", in every format. Unreadable images are named on stderr, and the exit
    code is then 3, or 1 if no image could be read.

    \b
    Examples:
      fieldmarks classify photos/ --store frogs.jsonl --explain
      fieldmarks classify photos/ --store frogs.jsonl -o frogs.csv
      fieldmarks classify photos/ --store frogs.jsonl --min-probability 0.6 --sort-into sorted
      fieldmarks classify photos/ --store frogs.jsonl --class "tree frog" --class "wood frog"
      fieldmarks classify photos/ --class owl --class newt --none "an empty forest"
      fieldmarks classify photos/ --store frogs.jsonl --report frogs.html --baseline
      fieldmarks classify photos/ --store frogs.jsonl --resume out.jsonl
      fieldmarks classify --image-embeddings photos.emb --store frogs.jsonl -o results
    """
    from fieldmarks.classification.classifier import EMBEDDED_BATCH
    from fieldmarks.classification.classifier_file import ClassifierFile
    from fieldmarks.classification.embedding_set import EmbeddingSet
    from fieldmarks.classification.results import reporting
    from fieldmarks.classification.sources import quiet_pillow

    store, classifier, names = prevailing(context, "store", "classifier", "names").values()
    names = names or ()
    _check_usage(images, store, classifier, names, options["embeddings"])
    resume, report = options["resume"], options["report"]
    for param in context.command.params:
        if classifier and param.name in OF_TEXTS[:-1] and is_given(param.name or ""):
            raise click.UsageError(f"{param.opts[0]} goes with --store: a saved classifier has its own texts")
    check_page(options)
    named = {"-o": options["output"], "--resume": resume, "--report": report}
    _check_outputs(named | {"--save-classifier": save_classifier}, (store, classifier))
    if not is_given("form") and (options["output"] or resume):
        form = None  # a default for stdout
    folder = outputs.folder_of(form, options | {"save_classifier": save_classifier})
    if options["on"] and not folder:
        raise click.UsageError("--on goes with --image-embeddings SET and -o FOLDER")
    file = None if folder else outputs.open_output(form, options)
    sorting.check(options, images)
    target = ClassifierFile(save_classifier) if save_classifier else None
    if options["force"] or not resume:  # with --resume, the same command continues
        written_to = {"-o": file and file.path, "--report": report, "--save-classifier": save_classifier}
        check_new(options["force"], written_to)
    embeddings = EmbeddingSet(options["embeddings"]) if options["embeddings"] else None
    results = _result_folder(folder, embeddings) if folder and embeddings else None
    made_with = embeddings.model if embeddings else None  # read before the work, as it may need an extra
    found = iter(()) if embeddings else find_images(images)
    with quiet_pillow(), _journal(resume) as journal:
        opened = _open(
            store,
            classifier,
            names,
            options
            | ({"baseline": True} if report and (store or classifier) else {})
            | ({} if classifier else {"clip": options["clip"] or made_with}),
        )
        if options["baseline"] and opened.head.baseline is None:
            raise click.UsageError("--baseline has no effect: the classifier was saved without --baseline")
        form = "parquet" if results else form
        output = outputs.Output(opened, form, options | {"store": store}, journal, file)
        if embeddings:
            opened.report_other_model(made_with)
        if journal:
            journal.start(opened.provenance(embeddings, output.shown))
        if target:
            opened.save_to(target)
        if results and embeddings:
            present = _classify_set(results, opened, embeddings, output, options["on"])
            output.conclude([save_classifier] if save_classifier else [], results.path, present)
            return
        batch = EMBEDDED_BATCH if embeddings else None
        try:
            with shown(sys.stderr, images_line, bar=bool(journal) or not sys.stdout.isatty()) as show:
                statistics = None
                if options["relative"]:  # which relates marks to all images, also to those that have results
                    rows, total = _rows(opened, embeddings, images, found, None, output)
                    every = list(reporting(rows, total, show))
                    statistics = opened.statistics(every)
                    rows = iter([row for row in every if journal is None or not journal.has(row)])
                else:
                    rows, total = _rows(opened, embeddings, images, found, journal, output)
                    rows = reporting(rows, total, show)
                output.deliver(opened.score(rows, **output.scored, statistics=statistics, batch=batch))
        finally:
            output.write_page()
        output.sort()
    written = [path for path in (report, save_classifier) if path]
    output.conclude(written, resume, journal.skipped if journal else 0)


def _result_folder(path: Path, embeddings: "EmbeddingSet") -> "ResultFolder":
    """Return the folder for a set's results. Raises ReportError, ImageError."""
    from fieldmarks.classification.result_folder import ResultFolder

    return ResultFolder(path, embeddings)


def _classify_set(
    folder: "ResultFolder",
    classifier: "Classifier",
    embeddings: "EmbeddingSet",
    output: outputs.Output,
    on: str | None,
) -> int:
    """Classify the shards of a set that have no results in the folder; return how many images had some."""
    from fieldmarks.classification.result_folder import Scoring
    from fieldmarks.classification.results import Failure, Progress
    from fieldmarks.scale import cluster
    from fieldmarks.scale.classification import classify_on_ray, classify_shards

    address = cluster.address_of(on) if on else None  # checked also where nothing is missing
    scoring = Scoring(output.scored, output.shortened)
    with folder:
        folder.start(classifier.provenance(embeddings, output.shown))
        shards = folder.missing()
        rows = sum(shard.rows for shard in shards)
        with shown(sys.stderr, images_line) as show, ExitStack() as stack:
            if on and shards:
                ray = stack.enter_context(cluster.connected(address))
                outcomes = classify_on_ray(ray, folder, shards, classifier, scoring)
            else:
                outcomes = classify_shards(folder, shards, classifier, scoring)
            done, failed, began = 0, 0, time.monotonic()
            for outcome in outcomes:
                output.add_shard(outcome)
                if not isinstance(outcome, Failure):
                    done += outcome.rows - len(outcome.failures)
                    failed += len(outcome.failures)
                show(Progress(done, failed, rows, time.monotonic() - began))
        folder.tidy()
    return folder.rows - rows


def _journal(path: Path | None) -> "AbstractContextManager[Journal | None]":
    """Open the journal of a run, or nothing where none is named. Raises ReportError."""
    if path is None:
        return nullcontext()
    from fieldmarks.classification.journal import Journal

    return Journal(path)


def _rows(
    classifier: "Classifier",
    embeddings: "EmbeddingSet | None",
    images: Sequence[str],
    found: "Paths",
    journal: "Journal | None",
    output: outputs.Output,
) -> "tuple[Iterator[Embedded | Failure], int | None]":
    """Return the embedded images, without those that have a result in the journal, and their number."""
    if embeddings is None:
        sorter = [output.sorter.outside] if output.sorter else []
        paths, total = image_paths(images, found, *sorter, *([journal.left] if journal else []))
        return classifier.embedder.images(paths, thumbnails=output.thumbnails), total
    if journal is None:
        return iter(embeddings), None
    from fieldmarks.classification.journal import with_version

    return (row for row in map(with_version, embeddings) if not journal.has(row)), None


def _check_outputs(named: Mapping[str, Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Raise an error for what could not be written at the end, UsageError for one file named twice."""
    options = [option for option, path in named.items() if path is not None]
    places = {os.path.realpath(path) for path in named.values() if path is not None}
    if len(places) < len(options):
        raise click.UsageError(f"{' and '.join(options)} name the same file; pass different ones")
    if (output := named["-o"]) and os.path.realpath(output) in {
        os.path.realpath(path or "") for path in inputs
    }:
        raise click.UsageError(f"-o {output} is what the classes come from: pass another file")
    if report := named["--report"]:
        from fieldmarks.report import document

        document.check(report)


def _open(
    store: str | None, classifier: Path | None, names: Sequence[str], options: Mapping[str, Any]
) -> "Classifier":
    """Open what the classes come from: the store, with the named ones of it; their names; or a classifier."""
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.store import Store

    model = {name: options[name] for name in OF_MODEL}
    if names or store:
        wording = {name: options[name] for name in OF_TEXTS}
        if store:
            return Classifier(Store(store), classes=names, **model, **wording)
        return Classifier(list(names), **model, **wording)
    if options["embeddings"]:
        model["clip"] = None  # nothing is embedded, so that no other model than the classifier's own is named
    return Classifier.load(classifier or "", **model)


def _check_usage(
    images: Sequence[str],
    store: str | None,
    classifier: Path | None,
    names: Sequence[str],
    embeddings: Path | None,
) -> None:
    if bool(store) == bool(classifier) and (store or not names):
        raise click.UsageError("give either --store or --classifier, or class names with --class")
    if classifier and names:
        raise click.UsageError(
            "--class goes with --store, or stands alone: a saved classifier has its own classes"
        )
    if bool(images) == (embeddings is not None):
        raise click.UsageError("give either IMAGES or --image-embeddings")
