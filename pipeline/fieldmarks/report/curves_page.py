"""Learning curves as one HTML page: a summary, the chart, the figures, the settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldmarks.evaluation.comparison import facts_of
from fieldmarks.learning.curves import LearningCurves
from fieldmarks.report import curves_chart, document
from fieldmarks.report.chart_style import needed
from fieldmarks.report.document import Imprint, data_uri, fragment
from fieldmarks.report.evaluation_page import MAX_FAILURES, command_of, settings
from fieldmarks.report.numbers import share
from fieldmarks.text import counted


def write_page(curves: LearningCurves, path: Path, imprint: Imprint | None = None) -> None:
    """Write the page. Raises ReportError if matplotlib is not installed, and as `check` does."""
    check(path)
    document.write(path, html(curves, imprint))


def check(path: Path) -> None:
    """Raise ReportError if `write_page` would: it replaces an earlier report, but no other file."""
    needed("matplotlib")
    document.check(path)


def html(curves: LearningCurves, imprint: Imprint | None = None) -> str:
    """Return the page. Raises ReportError if matplotlib is not installed."""
    chart = curves_chart.chart(curves)
    first, *further = curves.summary
    rows = [
        (
            curve,
            [
                (share(mean), f"{share(low)}–{share(high)}")
                for mean, low, high in zip(curve.mean, curve.low, curve.high, strict=True)
            ],
        )
        for curve in curves.curves
    ]
    body = fragment(
        "curves.html.j2",
        curves=curves,
        verdict=first,
        further=further,
        chart={"image": data_uri("image/svg+xml", chart.svg()), "title": chart.title, "words": chart.words},
        rows=rows,
        command=command_of(curves.settings),
        settings=settings(curves.settings),
        failures=curves.failures[:MAX_FAILURES],
        failed=len(curves.failures),
    )
    heading = (
        f"Learning curves of {counted(len(curves.classes), 'class')}, {counted(curves.draws, 'draw')} on"
        f" {counted(curves.tested, 'image')}"
    )
    return document.document(
        heading, body, _facts(curves.settings), imprint=imprint, styles=("evaluation.css",)
    )


def _facts(plain: Mapping[str, Any]) -> dict[str, str]:
    data = plain.get("data")
    return facts_of({**plain, "data": {"spec": data} if isinstance(data, str) else data})
