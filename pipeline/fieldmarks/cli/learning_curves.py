"""`fieldmarks evaluate --shots`: learning curves in the terminal, as JSON, as a page and as a chart."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fieldmarks.cli.console import images_line, shown
from fieldmarks.cli.images import check_new, conclude_read, imprint, wrote
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.classification.results import Progress
    from fieldmarks.learning.strength import Steps

DRAWS: Final = 10
OF_ARMS: Final = (
    *("arms", "aggregates", "seeds", "templates", "sentences", "ablate", "write_flags", "preflight"),
    *("unknown", "predictions"),
)


class Counts(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A comma-separated list of positive numbers."""

    name = "k,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the distinct numbers in order, or fail as click does."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        for word in words:
            if not (word.isascii() and word.isdigit() and len(word) < 9 and int(word)):
                self.fail(f"{word!r} is not a number of images from 1 on, as in 1,2,4", param, ctx)
        return tuple(sorted({int(word) for word in words}))


def check_curves(options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option about arms, or a second preset: learning curves have neither."""
    idle = [name.replace("aggregates", "aggregate") for name in OF_ARMS if options[name]]
    if idle:
        raise click.UsageError(
            f"--shots measures learning curves alone: leave out --{idle[0].replace('_', '-')}"
        )
    if len(options["presets"]) > 1:
        raise click.UsageError("--shots takes one --preset")


def measure_curves(
    dataset: str | None, passed: Mapping[str, Any], options: Mapping[str, Any], command: Sequence[str]
) -> None:
    """Measure learning curves, print them, and write what --json, --report and --save-plots name."""
    from fieldmarks.classification.results import Progress
    from fieldmarks.cli.render import curves
    from fieldmarks.learning.curves import check_file, learning_curves
    from fieldmarks.report import chart_files, curves_chart, curves_page

    as_json, draws, plots = options["as_json"], options["draws"] or DRAWS, options["save_plots"]
    report = options["report"]
    file = None if as_json in (None, "-") else Path(as_json)
    if report:
        curves_page.check(report)
    if file:
        check_file(file)
    drawn = chart_files.check([curves_chart.NAME], plots) if plots else None
    check_new(options["force"], {"--json": file, "--report": report, "--save-plots": drawn})

    def wording(progress: "Progress | Steps") -> str:
        if isinstance(progress, Progress):
            return images_line(progress)
        return f"{progress.done:,} of {counted(progress.total, 'draw')} measured"

    with shown(sys.stderr, wording) as progress:
        result = learning_curves(
            dataset, **passed, shots=options["shots"], draws=draws, command=command, progress=progress
        )
    if as_json == "-":
        click.echo(result.encoded(), nl=False)
    else:
        for line in curves.lines(result):
            click.echo(line)
        if as_json:
            result.save(as_json)
    if report:
        curves_page.write_page(result, report, imprint(options))
    if plots:
        chart_files.save([curves_chart.chart(result)], plots)
    closing = f"Measured {counted(len(result.curves), 'learning curve')} over {counted(draws, 'draw')}"
    files = [path for path in (as_json, report, plots) if path not in (None, "-")]
    total = result.tested + max(result.shots) * len(result.classes)
    conclude_read(result.failures, total, closing, *wrote(files))
