"""Where the results of `fieldmarks classify` go, and in which format: stdout, a file, a journal."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import ResultFormat, words

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.journal import Journal
    from fieldmarks.classification.result_files import Detail, Result, ResultsFile

Command = Callable[..., None]
ROWS = ("csv", "label-studio")  # formats of one row for an image, with the best class and the runner-up


def output_options(command: Command) -> Command:
    """Add the options for the file and the format of results."""
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice(words(ResultFormat)),
            help="Output format  [default: that of FILE by its suffix, else table].",
        ),
        click.option("--force", is_flag=True, help="Overwrite FILE."),
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write the results to a file instead of stdout: .csv, .jsonl or .parquet, or .json with"
            " --format label-studio. It is written whole, at the end; for runs of hours, see --resume.",
        ),
    ):
        command = option(command)
    return command


def open_output(form: ResultFormat | None, options: Mapping[str, Any]) -> "ResultsFile | None":
    """Return the file to write to, if one is named. Raises UsageError for options that exclude each other."""
    output, resume = options["output"], options["resume"]
    if resume and output:
        raise click.UsageError("give either -o or --resume: both write the results")
    if resume and form not in (None, "jsonl"):
        raise click.UsageError(f"--resume writes JSONL: leave out --format {form}")
    if options["force"] and not output:
        raise click.UsageError("--force goes with -o FILE")
    if form == "parquet" and not output:
        raise click.UsageError("--format parquet is for files: name one with -o FILE.parquet")
    if options["dry_run"] and form and not output:
        raise click.UsageError("--dry-run prints what it would do: write the results to a file with -o")
    if not output:
        return None
    from fieldmarks.classification.result_files import ResultsFile

    return ResultsFile(output, form, force=options["force"])


def detail_of(form: str, options: Mapping[str, Any]) -> "Detail":
    """Return how much of each prediction a format shows. Raises UsageError for an option without effect."""
    from fieldmarks.classification.result_files import Detail

    if form in ROWS and options["top"]:
        raise click.UsageError(
            f"--top has no effect with {form}, which has two classes for each image: use jsonl or parquet"
        )
    if form == "label-studio" and options["baseline"] and not options["report"]:
        raise click.UsageError("--baseline has no effect with label-studio")
    asked = options["explain_top"] or (2 if options["explain"] or options["relative"] else 0)
    usual = {"table": options["explain_top"] or 1, "csv": 2, "label-studio": 2}.get(form, 5)
    return Detail(
        top=options["top"] or usual,
        explain_top=asked or int(form in (*ROWS, "parquet")),
        baseline=options["baseline"],
    )


def writer(
    form: ResultFormat,
    classifier: "Classifier",
    detail: "Detail",
    journal: "Journal | None" = None,
    file: "ResultsFile | None" = None,
) -> "Callable[[Iterable[Result]], None]":
    """Return what takes the results and writes each as it comes."""
    from fieldmarks.classification import result_files
    from fieldmarks.cli.render.results import table_rows, table_width

    model = _model_version(classifier)

    def to_journal(results: "Iterable[Result]") -> None:
        assert journal is not None
        for result in results:
            journal.append(result_files.journal_line(result))

    def to_file(results: "Iterable[Result]") -> None:
        assert file is not None
        file.write(results, baseline=detail.baseline, model=model)

    def to_stdout(results: "Iterable[Result]") -> None:
        for text in result_files.text_of(form, results, baseline=detail.baseline, model=model):
            click.echo(text, nl=False)

    def to_people(results: "Iterable[Result]") -> None:
        width = table_width(classifier.classes)
        for result in results:
            for line in table_rows(result, width):
                click.echo(line)

    if journal:
        return to_journal
    if file:
        return to_file
    return to_people if form == "table" else to_stdout


def to_nothing(results: "Iterable[Result]") -> None:
    """Take the results and write nothing."""
    for _ in results:
        pass


def _model_version(classifier: "Classifier") -> str:
    from fieldmarks import __version__

    model = classifier.head.metadata.get("model", "")
    return f"fieldmarks {__version__}, {Path(model).name if Path(model).is_absolute() else model}"
