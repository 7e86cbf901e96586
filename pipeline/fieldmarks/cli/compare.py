"""`fieldmarks compare`: compare saved evaluations, or recreate the page, table and charts of one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fieldmarks.cli.console import conclude
from fieldmarks.cli.files import OutputFile
from fieldmarks.cli.images import check_new, check_page, force_option, imprint, page_options, wrote
from fieldmarks.text import counted

if TYPE_CHECKING:
    from fieldmarks.evaluation.comparison import Comparison

FORMATS = ("table", "markdown", "csv", "latex")
FILE = click.Path(path_type=Path)


@click.command(short_help="Compare saved evaluations; write tables, pages, charts.")
@click.argument("runs", metavar="RUN.json...", nargs=-1, required=True, type=FILE)
@click.option("--output", "-o", type=FILE, metavar="FILE", help="Write the table: .md, .csv or .tex.")
@force_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Format of the table  [default: by suffix, else table].",
)
@click.option(
    "--report",
    type=OutputFile(".html"),
    help="Write an HTML page; for a single run, its evaluation page (.html).",
)
@page_options
@click.option("--save-plots", type=FILE, metavar="DIR", help="Save the charts as .svg, .png and .pdf.")
def compare(
    runs: tuple[Path, ...], output: Path | None, form: str | None, force: bool, **options: Any
) -> None:
    """Set saved evaluations side by side, each method with its lead over the first run.

    RUN.json is what `fieldmarks evaluate --json` or `Evaluation.save` wrote. Where runs have the same images,
    labels and classes, differences are paired image by image, with 95% confidence intervals; any other run is
    shown without a difference, and with the reason. Given a single run, recreates its page, table and charts;
    saved runs hold no copies of images. Needs the extra 'eval'.

    \b
    Examples:
      fieldmarks compare article.json paper.json
      fieldmarks compare article.json paper.json --report comparison.html -o comparison.tex
      fieldmarks compare run.json --report run.html --save-plots charts
    """
    from fieldmarks.evaluation.comparison import compare as side_by_side
    from fieldmarks.evaluation.results import Evaluation

    form = _format(output, form)
    _check(runs, output, force, options)
    comparison = side_by_side(list(zip(_names(runs), map(Evaluation.load, runs), strict=True)))
    content = _content(comparison, form)
    if output is None:
        click.echo(content, nl=False)
    else:
        _write(output, content)
    written = [output] if output else []
    if options["report"]:
        _write_page(comparison, options)
        written.append(options["report"])
    if options["save_plots"]:
        written.append(options["save_plots"])
        _save_plots(comparison, options["save_plots"])
    not_compared = f", {len(comparison.notes)} of them not compared" if comparison.notes else ""
    conclude(f"Read {counted(len(runs), 'run')}{not_compared}", *wrote(written))


def _format(output: Path | None, form: str | None) -> str:
    from fieldmarks.report.tables import SUFFIXES

    if form or output is None:
        return form or "table"
    if output.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"{output}: name a file that ends in {', '.join(SUFFIXES)}, or pass --format")
    return SUFFIXES[output.suffix.lower()]


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the runs' names: those of their files if these differ, else their paths."""
    names = [path.name for path in runs]
    return names if len(set(names)) == len(names) else [str(path) for path in runs]


def _check(runs: Sequence[Path], output: Path | None, force: bool, options: dict[str, Any]) -> None:
    """Raise an error, before reading runs, for what could not be written later or a file named twice."""
    from fieldmarks.errors import ReportError
    from fieldmarks.paths import unwritable
    from fieldmarks.report import chart_files, charts, comparison_page, document

    check_page(options)
    named = [*runs, *(path for path in (output, options["report"]) if path)]
    places = [os.path.realpath(path) for path in named]
    if twice := next(
        (path for path, place in zip(named, places, strict=True) if places.count(place) > 1), None
    ):
        raise click.UsageError(f"{twice} is named twice; pass different files")
    if output and (reason := unwritable(output)):
        raise ReportError(f"{output} {reason}")
    if options["report"]:
        document.check(options["report"])
    drawn: list[Path] = []
    if options["save_plots"]:
        names = charts.NAMES if len(runs) == 1 else (comparison_page.NAME,)
        drawn = chart_files.check(names, options["save_plots"])
    check_new(force, {"--output": output, "--report": options["report"], "--save-plots": drawn})


def _content(comparison: "Comparison", form: str) -> str:
    if form == "table":
        from fieldmarks.cli.render import comparison as lines_of
        from fieldmarks.cli.render import evaluation

        (run, *others) = comparison.runs
        lines = lines_of.lines(comparison) if others else evaluation.lines(run.evaluation)
        return "".join(f"{line}\n" for line in lines)
    from fieldmarks.report import tables

    return tables.WRITERS[form](comparison)


def _write(output: Path, content: str) -> None:
    from fieldmarks.report import document

    document.replace(output, content.encode())


def _write_page(comparison: "Comparison", options: dict[str, Any]) -> None:
    from fieldmarks.report import comparison_page, evaluation_page

    run, *others = comparison.runs
    if others:
        comparison_page.write_page(comparison, options["report"], imprint(options))
    else:
        evaluation_page.write_page(run.evaluation, options["report"], imprint(options))


def _save_plots(comparison: "Comparison", folder: Path) -> None:
    from fieldmarks.report import chart_files, charts, comparison_page

    (run, *others) = comparison.runs
    drawn = [comparison_page.chart(comparison)] if others else charts.charts(run.evaluation)
    chart_files.save(drawn, folder)
