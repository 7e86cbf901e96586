"""`fieldmarks classify`: images in, labels with their reasons out."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from fieldmarks.choices import Aggregation, Device, DType, Engine, Preset, words
from fieldmarks.cli.configuration import prevailing
from fieldmarks.cli.console import conclude, images_line, say, shown
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.embedder import Embedded
    from fieldmarks.classification.embedding_set import EmbeddingSet
    from fieldmarks.classification.journal import Journal
    from fieldmarks.classification.results import Failure, Prediction
    from fieldmarks.evaluation.predictions import Progress
    from fieldmarks.report.page import Page

Result = TypeVar("Result")

INCOMPLETE = 3  # the exit code of a run that did all but what its last lines name
NAMED = 20  # images in the last lines
COUNTED = 100_000  # images that are counted before the work
GIVEN = ParameterSource.COMMANDLINE


def say_failure(failure: "Failure") -> None:
    """Print on stderr why an image could not be read."""
    say(f"Error: {printable(failure.image)}: {printable(failure.error)}")


def conclude_images(failed: Sequence[str], failures: int, total: int, *closing: str) -> None:
    """Name the images that failed, of which `failed` are the first, and print the closing line.

    If any failed, it says so, and the command ends with INCOMPLETE.
    """
    if not failures:
        conclude(*closing)
        return
    say(f"{failures:,} of {counted(total, 'image')} failed:")
    for image in failed[:NAMED]:
        say(f"  {printable(image)}")
    if failures > NAMED:
        say(f"  … {failures - NAMED:,} more, named above")
    conclude(*closing, f"{counted(failures, 'image')} failed")
    click.get_current_context().exit(INCOMPLETE)


def image_paths(
    images: Sequence[str], journal: "Journal | None" = None
) -> "tuple[Iterator[str | Failure], int | None]":
    """Return the paths of the images, without those that have a result in the journal, and their number.

    Of paths that come from stdin, or of very many, the number is None.
    """
    from fieldmarks.classification.sources import STDIN, find

    found: Iterator[str | Failure] = find(images, sys.stdin)
    paths = journal.left(found) if journal else found
    if STDIN in images:
        return paths, None
    first = list(islice(paths, COUNTED + 1))
    return chain(first, paths), len(first) if len(first) <= COUNTED else None


def watched(
    results: "Iterable[Result]", show: "Callable[[Progress], None]", total: int | None
) -> "Iterator[Result]":
    """Yield results of images, and show how many there were."""
    from fieldmarks.classification.results import Failure
    from fieldmarks.evaluation.predictions import Progress

    began, done, failed = time.monotonic(), 0, 0
    for result in results:
        failed += isinstance(result, Failure)
        done += not isinstance(result, Failure)
        show(Progress(done, failed, total, time.monotonic() - began))
        yield result


class Output:
    """Prints results as they come; `deliver` does a whole run."""

    def __init__(
        self,
        classifier: "Classifier",
        form: str,
        options: dict[str, Any],
        journal: "Journal | None",
        report: Path | None,
    ) -> None:
        """Raises ReportError if the page could not be written at the end."""
        from fieldmarks.cli.render import results

        form = "journal" if journal else form
        top = options["top"] or (5 if form in ("jsonl", "journal") else 1)
        marks = bool(options["explain"] or options["relative"])
        self._header = results.header(form)
        self._lines = results.printer(
            form,
            classifier.classes,
            top=top,
            explain=marks,
            baseline=options["baseline"] or not report,
            columns=shutil.get_terminal_size().columns if sys.stdout.isatty() else None,
        )
        self._write: Callable[[str], None] = journal.append if journal else click.echo
        self._page: Page | None = None
        self._report = report
        self._failed: list[str] = []  # the first NAMED
        self._failures = self._unsure = self._total = 0
        self.scored = {"top": top, "explain": marks, "min_probability": options["min_probability"]}
        self.thumbnails = 0
        self.shown = {"top": top, "explain": marks, "relative": options["relative"]}  # what a result shows
        self.shown |= {"min_probability": options["min_probability"], "baseline": options["baseline"]}
        if report:
            from fieldmarks.report import page

            self._page = page.Page(classifier.classes, classifier.head.metadata)
            page.check(report)
            self.scored |= {"top": max(top, page.CLASSES_SHOWN), "explain": True}
            self.thumbnails = page.MAX_IMAGES

    def deliver(self, results: "Iterable[Prediction | Failure]") -> None:
        """Print each result as it comes; the page is written in any case."""
        try:
            for line in self._header:
                self._write(line)
            for result in results:
                self._take(result)
        finally:
            if self._page and self._report:
                self._page.write(self._report)

    def conclude(self, skipped: int, written: Sequence[Path]) -> None:
        """Name the images that failed, and say what was done, skipped and written."""
        done = f"Classified {counted(self._total - self._failures, 'image')}"
        done += f", {self._unsure:,} unsure" if self._unsure else ""
        done += f"; skipped {skipped:,} with a result" if skipped else ""
        files = [f"Wrote {' and '.join(map(str, written))}"] if written else []
        conclude_images(self._failed, self._failures, self._total, done, *files)

    def _take(self, result: "Prediction | Failure") -> None:
        from fieldmarks.classification.results import Failure

        self._total += 1
        if isinstance(result, Failure):
            say_failure(result)
            self._failures += 1
            self._failed += [result.image] if len(self._failed) < NAMED else []
        else:
            self._unsure += result.label is None
        for line in self._lines(result):
            self._write(line)
        if self._page:
            self._page.add(result)


Command = Callable[..., None]
OF_MODEL = ("clip", "device", "dtype", "engine", "batch", "cache")
OF_TEXTS = ("preset", "aggregate", "text", "concept", "with_name", "baseline")


def model_options(command: Command) -> Command:
    """Add the options for the CLIP model, its engine, device and precision."""
    for option in (
        click.option(
            "--cache/--no-cache",
            default=True,
            help="Cache embeddings for later runs; converted models are always cached.",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1, 4096),
            help="Images per forward pass  [default: 32 on a CPU, 128 elsewhere].",
        ),
        click.option(
            "--dtype",
            type=click.Choice(words(DType)),
            default="auto",
            help="Numeric precision; auto: half precision where the processor supports it natively, else "
            "float32. With float32, JPEGs are decoded at full size.",
        ),
        click.option(
            "--engine",
            type=click.Choice(words(Engine)),
            default="auto",
            help="Inference backend; auto: OpenVINO on a CPU if it is installed and its results match "
            "torch's.",
        ),
        click.option(
            "--device",
            type=click.Choice(words(Device)),
            default="auto",
            help="Device  [default: the fastest available].",
        ),
        click.option(
            "--clip",
            metavar="MODEL",
            help="CLIP-like model: a folder or a Hugging Face id  [default: openai/clip-vit-base-patch32].",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("images", nargs=-1)
@click.option("--store", metavar="FILE", help="Descriptor store: a file, or the name of a shipped one.")
@click.option(
    "--classifier",
    type=click.Path(path_type=Path),
    help="Saved classifier (.safetensors), instead of --store.",
)
@click.option(
    "--image-embeddings",
    "embeddings",
    type=click.Path(path_type=Path),
    help="Precomputed embeddings instead of IMAGES: a folder written by `fieldmarks embed` or "
    "clip-retrieval, or an .npz file.",
)
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
@click.option("--baseline", is_flag=True, help="Also show the prediction from class names alone.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="How many classes to list per image  [default: 1; 5 in jsonl].",
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=0.0,
    help='Report "unsure" if the top probability is below this.',
)
@click.option("--explain", is_flag=True, help="Show the marks of the predicted class and of the runner-up.")
@click.option(
    "--relative",
    is_flag=True,
    help="Show marks as z-scores over this run (keeps embeddings in memory).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="OUT.jsonl",
    help="Append JSONL results, skipping images already in the file unless they failed or changed; rerun"
    " to continue.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Also write an HTML page with images and marks (.html)."
)
@click.option(
    "--save-classifier", type=click.Path(path_type=Path), help="Also save the classifier (.safetensors)."
)
@click.pass_context
def classify(
    context: click.Context,
    /,
    images: tuple[str, ...],
    store: str | None,
    classifier: Path | None,
    form: str,
    resume: Path | None,
    report: Path | None,
    save_classifier: Path | None,
    **options: Any,
) -> None:
    """Classify IMAGES by the descriptors of a store.

    IMAGES are files, folders (searched recursively), globs, or - to read paths from stdin, one per line. A
    class with no descriptors falls back to the prompt 'a photo of a {class}', or with {class} and {which}
    in the text, as in preset paper, to '{class}, which has '. Underscores of class names are read as
    blanks. Probabilities are a softmax over the given classes, whatever the model: relative scores, not
    calibrated confidences. Unreadable images are listed at the end, and the exit code is then 3.

    \b
    Examples:
      fieldmarks classify photos/ --store frogs.jsonl --explain
      fieldmarks classify photos/ --store frogs.jsonl --report frogs.html --baseline
      fieldmarks classify photos/ --store frogs.jsonl --resume out.jsonl
    """
    from fieldmarks.classification.classifier import EMBEDDED_BATCH
    from fieldmarks.classification.classifier_file import ClassifierFile
    from fieldmarks.classification.embedding_set import EmbeddingSet
    from fieldmarks.classification.sources import quiet_pillow

    store, classifier = prevailing(context, "store", "classifier").values()
    _check_usage(images, store, classifier, options["embeddings"])
    for param in context.command.params:
        if classifier and param.name in OF_TEXTS[:-1] and context.get_parameter_source(param.name) is GIVEN:
            raise click.UsageError(f"{param.opts[0]} goes with --store: a saved classifier has its own texts")
    if resume and context.get_parameter_source("form") is GIVEN and form != "jsonl":
        raise click.UsageError(f"--resume writes JSONL: leave out --format {form}")
    _check_outputs(resume, report, save_classifier)
    target = ClassifierFile(save_classifier) if save_classifier else None
    embeddings = EmbeddingSet(options["embeddings"]) if options["embeddings"] else None
    with quiet_pillow(), _journal(resume) as journal:
        opened = _open(store, classifier, options | ({"baseline": True} if report else {}))
        if options["baseline"] and opened.head.baseline is None:
            raise click.UsageError("--baseline has no effect: the classifier was saved without --baseline")
        output = Output(opened, form, options, journal, report)
        if embeddings:
            opened.report_other_model(embeddings.model)
        if journal:
            journal.start(opened.provenance(embeddings, output.shown))
        if target:
            opened.save_to(target)
        batch = EMBEDDED_BATCH if embeddings else None
        with shown(sys.stderr, images_line, bar=bool(journal) or not sys.stdout.isatty()) as show:
            statistics = None
            if options["relative"]:  # which relates marks to all images, also to those that have results
                rows, total = _rows(opened, embeddings, images, None, output.thumbnails)
                every = list(watched(rows, show, total))
                statistics = opened.statistics(every)
                rows = iter([row for row in every if journal is None or not journal.has(row)])
            else:
                rows, total = _rows(opened, embeddings, images, journal, output.thumbnails)
                rows = watched(rows, show, total)
            output.deliver(opened.score(rows, **output.scored, statistics=statistics, batch=batch))
    written = [path for path in (resume, report, save_classifier) if path]
    output.conclude(journal.skipped if journal else 0, written)


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
    journal: "Journal | None",
    thumbnails: int,
) -> "tuple[Iterator[Embedded | Failure], int | None]":
    """Return the embedded images, without those that have a result in the journal, and their number."""
    if embeddings is None:
        paths, total = image_paths(images, journal)
        return classifier.embedder.images(paths, thumbnails=thumbnails), total
    if journal is None:
        return iter(embeddings), None
    from fieldmarks.classification.journal import with_version

    return (row for row in map(with_version, embeddings) if not journal.has(row)), None


def _check_outputs(resume: Path | None, report: Path | None, save_classifier: Path | None) -> None:
    """Raise an error for what could not be written at the end, UsageError for one file named twice."""
    named = {"--resume": resume, "--report": report, "--save-classifier": save_classifier}
    options = [option for option, path in named.items() if path is not None]
    places = {os.path.realpath(path) for path in named.values() if path is not None}
    if len(places) < len(options):
        raise click.UsageError(f"{' and '.join(options)} name the same file; pass different ones")
    if report:
        from fieldmarks.report import page

        page.check(report)


def _open(store: str | None, classifier: Path | None, options: Mapping[str, Any]) -> "Classifier":
    """Open what the classes come from: the store, else the saved classifier."""
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.store import Store

    model = {name: options[name] for name in OF_MODEL}
    if store:
        return Classifier(Store(store), **model, **{name: options[name] for name in OF_TEXTS})
    return Classifier.load(classifier or "", **model)


def _check_usage(
    images: Sequence[str], store: str | None, classifier: Path | None, embeddings: Path | None
) -> None:
    if bool(store) == (classifier is not None):
        raise click.UsageError("give either --store or --classifier")
    if bool(images) == (embeddings is not None):
        raise click.UsageError("give either IMAGES or --image-embeddings")
