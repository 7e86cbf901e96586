"""Where the results of `fieldmarks classify` go, and how a command ends that could not read every image."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.console import say
from fieldmarks.wording import counted, printable

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.results import Failure, Prediction
    from fieldmarks.report.journal import Journal
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
        from fieldmarks.report.lines import printer

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
            from fieldmarks.report import cards, page

            self._page = page.Page(classifier.classes, classifier.head.about)
            self._page.check(report)
            self.top, self.explain, self.thumbnails = max(top, cards.CLASSES_SHOWN), True, page.MAX_PICTURES

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
