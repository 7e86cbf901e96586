"""Where the results of `fieldmarks classify` go, and in which format: stdout, a file, a journal."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.choices import ResultFormat, words
from fieldmarks.cli.configuration import is_given
from fieldmarks.cli.console import counting, say, shown
from fieldmarks.cli.images import conclude_images, force_option, imprint, say_failure, wrote
from fieldmarks.cli.sorting import Sorter
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.journal import Journal
    from fieldmarks.classification.result_files import Result, ResultsFile
    from fieldmarks.classification.result_folder import ShardResults
    from fieldmarks.classification.results import Failure
    from fieldmarks.report.result_page import ResultPage

Command = Callable[..., None]
NOT_IN_FOLDERS = ("resume", "report", "sort_into", "relative")
ROWS = ("csv", "label-studio")  # formats with one row per image, for the best class and the runner-up


def output_options(command: Command) -> Command:
    """Add the options for the file and the format of results."""
    for option in (
        click.option(
            "--format",
            "form",
            type=click.Choice(words(ResultFormat)),
            help="Output format  [default: that of FILE by its suffix, else table].",
        ),
        force_option,
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write the results to a file instead of stdout: .csv (for Excel), .jsonl or .parquet, or"
            " .json with --format label-studio. It is written whole, at the end; for runs of hours, see"
            " --resume. With --image-embeddings SET, a name without a suffix is a folder that gets a .parquet"
            " file for each shard of SET; rerun to continue.",
        ),
    ):
        command = option(command)
    return command


def open_output(form: ResultFormat | None, options: Mapping[str, Any]) -> "ResultsFile | None":
    """Return the file to write to, if one is named. Raises UsageError for mutually exclusive options."""
    output, resume = options["output"], options["resume"]
    if resume and output:
        raise click.UsageError("give either -o or --resume: both write the results")
    if resume and form not in (None, "jsonl"):
        raise click.UsageError(f"--resume writes JSONL: leave out --format {form}")
    if form == "parquet" and not output:
        raise click.UsageError("--format parquet is for files: name one with -o FILE.parquet")
    if options["dry_run"] and form and not output:
        raise click.UsageError("--dry-run prints what it would do: write the results to a file with -o")
    if not output:
        return None
    from fieldmarks.classification.result_files import ResultsFile

    return ResultsFile(output, form, force=options["force"])


def folder_of(form: ResultFormat | None, options: Mapping[str, Any]) -> Path | None:
    """Return the folder of results that -o names. Raises UsageError for options that do not go with it."""
    output: Path | None = options["output"]
    if output is None or options["embeddings"] is None or (output.suffix and not output.is_dir()):
        return None
    idle = [f"--{name.replace('_', '-')}" for name in NOT_IN_FOLDERS if options[name]]
    idle += ["--force"] if options["force"] and not options["save_classifier"] else []
    idle += [f"--format {form}"] if form not in (None, "parquet") else []
    if idle:
        raise click.UsageError(f"-o {output} is a folder of .parquet files: leave out {', '.join(idle)}")
    return output


def detail_of(form: str, options: Mapping[str, Any]) -> tuple[int, int, bool]:
    """Return how many classes and how many marks a format shows, and whether it has a baseline.

    Raises UsageError for an option without effect.
    """
    if form in ROWS and options["top"] and is_given("top"):
        raise click.UsageError(
            f"--top has no effect with {form}, which has two classes for each image: use jsonl or parquet"
        )
    if form == "label-studio" and options["baseline"] and not options["report"] and is_given("baseline"):
        raise click.UsageError("--baseline has no effect with label-studio")
    asked = options["explain_top"] or (2 if options["explain"] or options["relative"] else 0)
    usual = {"table": options["explain_top"] or 1, "csv": 2, "label-studio": 2}.get(form, 5)
    top = usual if form in ROWS else options["top"] or usual
    return top, asked or int(form in (*ROWS, "parquet")), options["baseline"]


def writer(
    form: ResultFormat,
    classifier: "Classifier",
    baseline: bool,
    journal: "Journal | None" = None,
    file: "ResultsFile | None" = None,
) -> "Callable[[Iterable[Result]], None]":
    """Return a function that takes the results and writes each as it arrives."""
    from fieldmarks.classification import result_files
    from fieldmarks.classification.results import Failure
    from fieldmarks.cli.render.results import table_rows, table_width

    model = _model_version(classifier)
    baseline = baseline and classifier.head.baseline is not None

    def to_journal(results: "Iterable[Result]") -> None:
        assert journal is not None
        for result in results:
            if isinstance(result, Failure) and journal.has_error(result):
                continue  # retried without success: nightly runs must not make the file grow
            journal.append(result_files.journal_line(result))

    def to_file(results: "Iterable[Result]") -> None:
        assert file is not None
        file.write(results, baseline=baseline, model=model)

    def to_stdout(results: "Iterable[Result]") -> None:
        for text in result_files.text_of(form, results, baseline=baseline, model=model):
            click.echo(text, nl=False)

    def to_people(results: "Iterable[Result]") -> None:
        width = table_width(classifier.classes)
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for result in results:
            for line in table_rows(result, width, columns):
                click.echo(line)

    if journal:
        return to_journal
    if file:
        return to_file
    return to_people if form == "table" else to_stdout


def to_nothing(results: "Iterable[Result]") -> None:
    """Consume the results without writing anything."""
    for _ in results:
        pass


def _model_version(classifier: "Classifier") -> str:
    from fieldmarks import __version__

    model = classifier.head.metadata.get("model", "")
    return f"fieldmarks {__version__}, {Path(model).name if Path(model).is_absolute() else model}"


class Output:
    """Writes results as they arrive; `deliver` handles a whole run."""

    def __init__(
        self,
        classifier: "Classifier",
        form: ResultFormat | None,
        options: Mapping[str, Any],
        journal: "Journal | None",
        file: "ResultsFile | None",
    ) -> None:
        """Raises ReportError for a page or folder that could not be written at the end, or UsageError."""
        from fieldmarks.classification.results import shortened

        form = file.form if file else form or "table"
        top, explained, baseline = detail_of("journal" if journal else form, options)
        self.shortened = partial(shortened, top=top, explain_top=explained, baseline=baseline)
        self._write = writer(form, classifier, baseline, journal, file)
        self._file, self._journal = file, journal
        self._has_begun = False
        self._page: ResultPage | None = None
        self._report: Path | None = options["report"]
        self.sorter: Sorter | None = None
        self._failures = self._unreadable = self._total = 0
        self._without_label: Counter[str] = Counter()
        self.thumbnails = 0
        self.shown = {"top": top, "explain": explained > 0, "relative": options["relative"]}
        self.shown |= {"explain_top": explained} if options["explain_top"] else {}
        self.shown |= {"min_probability": options["min_probability"], "baseline": options["baseline"]}
        self.shown |= {key: True for key in ("abstain", "sets", "back_off") if options[key]}
        if self._report:
            from fieldmarks.report import cards, document, result_page

            facts = result_page.provenance(classifier.head.metadata, options["store"])
            self._page = result_page.ResultPage(
                classifier.classes,
                facts,
                imprint(options),
                is_calibrated=classifier.head.temperature is not None,
            )
            document.check(self._report)
            top, explained = max(top, cards.CLASSES_SHOWN), max(explained, 2)
            self.thumbnails = result_page.MAX_IMAGES
        if options["sort_into"]:
            from fieldmarks.classification.sorting import SortedFolder

            self.sorter = Sorter(
                SortedFolder(options["sort_into"], (*classifier.classes, *classifier.head.parents.values())),
                options,
            )
            top, explained = max(top, 2), max(explained, 1)
            if options["dry_run"] and not file:
                self._write = to_nothing
        self.scored = {
            "top": top,
            "explain_top": explained or None,
            "min_probability": options["min_probability"],
            "abstain": options["abstain"],
            "sets": options["sets"],
            "back_off": options["back_off"],
        }

    def deliver(self, results: "Iterable[Result]") -> None:
        """Write each result as it arrives."""
        self._has_begun = True
        try:
            self._write(map(self.shortened, self._noted(results)))
        except KeyboardInterrupt:
            if self._journal:
                say(f"{self._journal.path} has the results so far; the same command continues")
            elif self._file and self._file.written:
                say(f"Wrote the {counted(self._file.written, 'result')} so far to {self._file.path}")
            raise

    def add_shard(self, results: "ShardResults | Failure") -> None:
        """Count the results of a shard that are in their folder, and name those that failed."""
        from fieldmarks.classification.results import Failure

        failures = [results] if isinstance(results, Failure) else results.failures
        for failure in failures:
            say_failure(failure)
        self._failures += len(failures)
        if not isinstance(results, Failure):
            self._unreadable += len(failures)
            self._total += results.rows
            self._without_label.update(results.abstained)

    def write_page(self) -> None:
        """Write the page, if there is one, with the results so far."""
        if self._page and self._report and self._has_begun:
            from fieldmarks.classification.results import reporting

            total = self._page.shown
            with shown(sys.stderr, counting("on the page")) as show:
                self._page.write(self._report, lambda images: reporting(images, total, show))

    def sort(self) -> None:
        """Sort the images into folders, if that was asked for."""
        if self.sorter:
            self.sorter.sort()
            self._failures += len(self.sorter.failures)

    def conclude(self, written: Sequence[Path], results: Path | None = None, skipped: int = 0) -> None:
        """Print what was done, skipped and written, and how many images failed.

        `results` is what a rerun adds to, and `skipped` how many images had a result in it before this run.
        """
        files = [path for path in (self._file and self._file.path, results) if path]
        if skipped and not self._total and not self._failures:
            done = f"Nothing left to classify: {results} has the results of {counted(skipped, 'image')}"
            files = []
        else:
            done = f"Classified {counted(self._total - self._unreadable, 'image')}"
            done += "".join(f", {number:,} {why}" for why, number in self._without_label.items())
            done += f"; skipped {skipped:,} with a result" if skipped else ""
        files += written
        sentences = wrote(files)
        sentences += [self.sorter.summary()] if self.sorter else []
        conclude_images(self._failures, self._total - self._unreadable + skipped, done, *sentences)

    def _noted(self, results: "Iterable[Result]") -> "Iterator[Result]":
        from fieldmarks.classification.results import Failure

        for result in results:
            self._total += 1
            if isinstance(result, Failure):
                say_failure(result)
                self._failures += 1
                self._unreadable += 1
            elif result.abstained:
                self._without_label[result.abstained] += 1
            if self._page:
                self._page.add(result)
            if self.sorter:
                self.sorter.add(result)
            yield result
