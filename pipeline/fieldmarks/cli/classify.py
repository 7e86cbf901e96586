"""Where the results of `fieldmarks classify` go, and how a command ends that could not read every image.

`fieldmarks classify`: pictures in, labels with their reasons out.

`fieldmarks embed`: pictures in, a folder of embeddings out.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fieldmarks.cli.console import say
from fieldmarks.text import counted, printable

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.journal import Journal
    from fieldmarks.classification.results import Failure, Prediction
    from fieldmarks.report.page import Page


INCOMPLETE = 3  # the exit code of a run that did all but what its last lines name
NAMED = 20  # images in the last lines


def say_failure(failure: "Failure") -> None:
    """Print on stderr why an image could not be read."""
    say(f"Error: {printable(failure.image)}: {printable(failure.error)}")


def exit_if_incomplete(failed: Sequence[str], failures: int, total: int) -> None:
    """Name the images that failed, of which `failed` are the first, and end the command with INCOMPLETE.

    Return if there are none.
    """
    if not failures:
        return
    say(f"{failures:,} of {counted(total, 'image')} failed:")
    for image in failed[:NAMED]:
        say(f"  {printable(image)}")
    if failures > NAMED:
        say(f"  … {failures - NAMED:,} more, named above")
    click.get_current_context().exit(INCOMPLETE)


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
        from fieldmarks.cli.render.results import printer

        form = "journal" if journal else form
        top = options["top"] or (5 if form in ("jsonl", "journal") else 1)
        marks = bool(options["explain"] or options["relative"])
        self._printing = printer(
            form, classifier.classes, top=top, explain=marks, baseline=options["baseline"] or not report
        )
        self._write: Callable[[str], None] = journal.append if journal else click.echo
        self._page: Page | None = None
        self._report = report
        self._failed: list[str] = []  # the first NAMED
        self._failures = self._total = 0
        self.top, self.explain, self.thumbnails = top, marks, 0  # what a result must hold
        self.shown = {"top": top, "explain": marks, "relative": options["relative"]}  # and what it shows
        self.shown |= {"min_probability": options["min_probability"], "baseline": options["baseline"]}
        if report:
            from fieldmarks.report import page

            self._page = page.Page(classifier.classes, classifier.head.about)
            page.check(report)
            self.top, self.explain, self.thumbnails = max(top, page.CLASSES_SHOWN), True, page.MAX_IMAGES

    def deliver(self, results: "Iterable[Prediction | Failure]") -> None:
        """Print each result as it comes; the page is written in any case."""
        try:
            for line in self._printing.header:
                self._write(line)
            for result in results:
                self._take(result)
        finally:
            if self._page and self._report:
                self._page.write(self._report)

    def exit_if_incomplete(self) -> None:
        """Name the images that failed and end the command, if there are any."""
        exit_if_incomplete(self._failed, self._failures, self._total)

    def _take(self, result: "Prediction | Failure") -> None:
        from fieldmarks.classification.results import Failure

        self._total += 1
        if isinstance(result, Failure):
            say_failure(result)
            self._failures += 1
            self._failed += [result.image] if len(self._failed) < NAMED else []
        for line in self._printing.rows(result):
            self._write(line)
        if self._page:
            self._page.add(result)


AGGREGATIONS = ("mean-embedding", "mean-unit-embedding", "mean-similarity", "max-similarity")

Command = Callable[..., None]


def model_options(command: Command) -> Command:
    """Add the options that say which model computes, and how."""
    for option in (
        click.option(
            "--cache/--no-cache",
            default=True,
            help="Keep embeddings for later runs, or do not; converted models are kept.",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1, 4096),
            help="Pictures a forward pass  [default: 32 on a CPU, 128 elsewhere].",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
            default="auto",
            help="Numbers to compute in; auto: half precision where it is native, else float32.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["auto", "torch", "openvino"]),
            default="auto",
            help="What computes; auto: OpenVINO on a CPU where it is installed and gives what torch gives.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda", "mps"]),
            default="auto",
            help="Where to compute  [default: the fastest there is].",
        ),
        click.option(
            "--clip",
            metavar="MODEL",
            help="A CLIP-like model: a folder or a hub id  [default: openai/clip-vit-base-patch32].",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("images", nargs=-1)
@click.option("--store", metavar="FILE", help="The descriptor store that names the classes.")
@click.option("--classifier", type=click.Path(path_type=Path), help="A saved classifier, instead of a store.")
@click.option(
    "--image-embeddings",
    "embeddings",
    type=click.Path(path_type=Path),
    help="Embeddings instead of IMAGES: a folder of `fieldmarks embed` or clip-retrieval, or an .npz.",
)
@click.option("--allow-url", is_flag=True, help="Fetch IMAGES that are http or https addresses.")
@model_options
@click.option(
    "--preset",
    type=click.Choice(["article", "paper"]),
    default="article",
    show_default=True,
    help="article: bare descriptors, mean embedding. paper: '{class}, which has …', mean similarity.",
)
@click.option(
    "--aggregate", type=click.Choice(AGGREGATIONS), help="How a class's texts count  [default: the preset's]."
)
@click.option(
    "--text",
    metavar="TEMPLATE",
    help="What CLIP reads, of {class}, {descriptor}, {article} (a or an), {which} (the paper's"
    " 'which has …', with its quirks) and {concept}  [default: the preset's].",
)
@click.option("--concept", metavar="NOUN", help="What {concept} stands for, as in 'a photo of a food: …'.")
@click.option("--with-name", is_flag=True, help="Add 'a photo of a {class}' to each class's texts.")
@click.option("--baseline", is_flag=True, help="Show beside it what the class names alone answer.")
@click.option(
    "--top", type=click.IntRange(min=1), help="Classes to show of a picture  [default: 1; 5 in jsonl]."
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Give no label below this share among the classes.",
)
@click.option("--explain", is_flag=True, help="Show the marks of the predicted class and of the runner-up.")
@click.option(
    "--relative",
    is_flag=True,
    help="Explain in deviations from each mark's mean over the run; holds its embeddings in memory.",
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
    "--report", type=click.Path(path_type=Path), help="Also write a page with pictures and marks, .html."
)
@click.option(
    "--save-classifier", type=click.Path(path_type=Path), help="Also write the classifier, .safetensors."
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

    IMAGES are files, folders (searched at any depth), globs, or - for paths on stdin, one a line.
    A class without descriptors is read by 'a photo of a {class}'. Probabilities are a softmax over the
    given classes, with every model: shares among these, not chances of being right. Images that cannot be
    read are named in the last lines, and the exit code is then 3.

    \b
    Examples:
      fieldmarks classify photos/ --store frogs.jsonl --explain
      fieldmarks classify photos/ --store frogs.jsonl --report frogs.html --baseline
      fieldmarks classify photos/ --store frogs.jsonl --resume out.jsonl
    """
    from fieldmarks.classification.classifier import Pictures, Showing, notices, settings
    from fieldmarks.classification.classifier import classify as classified
    from fieldmarks.classification.journal import Journal
    from fieldmarks.classification.sources import quiet_pillow

    _check_usage(images, store, classifier, options["embeddings"])
    if resume and context.get_parameter_source("form") is not ParameterSource.DEFAULT and form != "jsonl":
        raise click.UsageError(f"--resume writes JSONL: leave out --format {form}")
    _check_outputs(resume, report, save_classifier)
    with quiet_pillow(), Journal(resume) if resume else nullcontext() as journal:
        opened = _open(store, classifier, options | ({"baseline": True} if report else {}))
        done = journal.done if journal else None
        pictures = Pictures(inputs=images, stdin=sys.stdin, done=done, **_part(options, Pictures))
        output = Output(opened, form, options, journal, report)
        if journal:
            journal.start(settings(opened, classifier, pictures, output.shown))
        if save_classifier:
            opened.save(save_classifier)
        showing = Showing(**_part(options | {"top": output.top, "explain": output.explain}, Showing))
        told = notices(opened, pictures)
        tell(told)
        results = classified(opened, pictures, showing, thumbnails=output.thumbnails)
        output.deliver(results)
        tell([one for one in notices(opened, pictures) if one not in told])
    output.exit_if_incomplete()


def _check_outputs(resume: Path | None, report: Path | None, save_classifier: Path | None) -> None:
    """Raise an error for what could not be written at the end, UsageError for one file named twice."""
    from fieldmarks.classification.classifier_file import check_place
    from fieldmarks.report import page

    named = {"--resume": resume, "--report": report, "--save-classifier": save_classifier}
    options = [option for option, path in named.items() if path is not None]
    places = {os.path.realpath(path) for path in named.values() if path is not None}
    if len(places) < len(options):
        raise click.UsageError(f"{' and '.join(options)} name the same file; name different ones")
    if report:
        page.check(report)
    if save_classifier:
        check_place(save_classifier)


def _open(store: str | None, classifier: Path | None, options: Mapping[str, Any]) -> "Classifier":
    """Open what the classes come from: the store, else the saved classifier."""
    from fieldmarks.classification.classifier import Model, Options, open_classifier
    from fieldmarks.cli.console import open_store, say

    model = Model(**_part(options, Model), tell=say)
    wording = Options(**{key: options[key] for key in Options.__annotations__})  # type: ignore[typeddict-item]
    return open_classifier(open_store(store) if store else Path(classifier or ""), model, wording)


def tell(notices: Sequence[str]) -> None:
    """Print notices on stderr."""
    from fieldmarks.cli.console import say

    for notice in notices:
        say(f"Note: {notice}")


def _check_usage(
    images: Sequence[str], store: str | None, classifier: Path | None, embeddings: Path | None
) -> None:
    if bool(store) == (classifier is not None):
        raise click.UsageError("name the classes by --store FILE or by --classifier FILE, one of the two")
    if bool(images) == (embeddings is not None):
        raise click.UsageError("name IMAGES or --image-embeddings, one of the two")


def _part(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return those of the options that are fields of a dataclass."""
    return {one.name: options[one.name] for one in fields(kind) if one.name in options}


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A new folder for the embeddings."
)
@click.option("--allow-url", is_flag=True, help="Fetch IMAGES that are http or https addresses.")
@model_options
def embed(images: tuple[str, ...], out: Path, allow_url: bool, **options: Any) -> None:
    """Write the embeddings of IMAGES in the layout of clip-retrieval: img_emb/*.npy, metadata/*.parquet.

    IMAGES are files, folders (searched at any depth), globs, or - for paths on stdin, one a line.
    The vectors are float32 of unit length. Needs the extra 'embed' (pyarrow). Images that cannot be read are
    named in the last lines, and the exit code is then 3.

    \b
    Example:
      fieldmarks embed photos/ --out photos-embedded
      fieldmarks classify --image-embeddings photos-embedded --store frogs.jsonl
    """
    from fieldmarks.classification import classifier, embedding_set
    from fieldmarks.classification.results import Failure
    from fieldmarks.classification.sources import quiet_pillow

    embedding_set.check_place(out)
    pictures = classifier.Pictures(inputs=images, stdin=sys.stdin, allow_url=allow_url)
    embedder = classifier.Model(**options, tell=say).embedder()
    written, failed = 0, list[str]()
    with quiet_pillow():
        for result in embedding_set.write(pictures.embedded(embedder), out, embedder.encoder.about):
            if isinstance(result, Failure):
                say_failure(result)
                failed.append(result.image)
            written += not isinstance(result, Failure)
    left_out = pictures.contents.notice()
    tell([*embedder.notices, *([left_out] if left_out else [])])
    say(f"Wrote {counted(written, 'embedding')} to {out}")
    exit_if_incomplete(failed, len(failed), written + len(failed))
