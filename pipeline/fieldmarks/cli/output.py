"""Where the results of `fieldmarks classify` go: to stdout or a journal, and on a page."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fieldmarks.classification.classifier import Classifier
    from fieldmarks.classification.results import Failure, Prediction
    from fieldmarks.report.journal import Journal
    from fieldmarks.report.page import Page


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

        form = "jsonl" if journal else form
        top = options["top"] or (5 if form == "jsonl" else 1)
        marks = bool(options["explain"] or options["relative"])
        self._printing = printer(
            form, classifier.classes, top=top, explain=marks, baseline=options["baseline"] or not report
        )
        self._write: Callable[[str], None] = journal.append if journal else click.echo
        self._page: Page | None = None
        self._report = report
        self.top, self.explain, self.thumbnails = top, marks, 0  # what a result must hold
        if report:
            from fieldmarks.report import cards, page

            self._page = page.Page(classifier.classes, classifier.head.about)
            self._page.check(report)
            self.top, self.explain, self.thumbnails = max(top, cards.CLASSES_SHOWN), True, page.MAX_PICTURES

    def deliver(self, results: "Iterable[Prediction | Failure]") -> int:
        """Print each result and return how many were not read; the page is written in any case."""
        failures = 0
        try:
            for line in self._printing.header:
                self._write(line)
            for result in results:
                failures += self._take(result)
        finally:
            if self._page and self._report:
                self._page.write(self._report)
        return failures

    def _take(self, result: "Prediction | Failure") -> bool:
        from fieldmarks.classification.results import Failure
        from fieldmarks.cli.console import say
        from fieldmarks.wording import printable

        failed = isinstance(result, Failure)
        if isinstance(result, Failure):
            say(f"Error: {printable(result.image)}: {printable(result.error)}")
        for line in self._printing.rows(result):
            self._write(line)
        if self._page:
            self._page.add(result)
        return failed
