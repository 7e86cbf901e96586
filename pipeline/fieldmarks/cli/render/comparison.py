"""Evaluations side by side as lines of at most 80 columns: the runs, then each arm in all of them."""

from collections.abc import Iterator
from typing import Final

from fieldmarks.cli.render.evaluation import estimate, named, row, signed_lead, wrapped
from fieldmarks.evaluation.comparison import Comparison
from fieldmarks.text import counted, printable

_ENDS: Final = (36, 56, 80)  # columns at which the cells of a row end


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield the runs by number, each arm's figures, and the conclusions."""
    runs = comparison.runs
    for number, run in enumerate(runs, 1):
        evaluation = run.evaluation
        extent = (counted(len(evaluation.images), "image"), counted(len(evaluation.classes), "class"))
        yield from wrapped(f"{number}  {run.name}: {', '.join(extent)}")
        for fact in run.facts.values():
            yield f"   {printable(fact)}"
    if comparison.difference:
        yield from wrapped(comparison.difference)
    yield ""
    yield "accuracy in %, 95% CI in brackets"
    for group in comparison.groups:
        yield ""
        yield from named(printable(group.arm), ["top-1", "mean per class", "vs 1, points"], _ENDS)
        for line in group.rows:
            lead = signed_lead(line.lead) if line.lead else ""
            cells = [estimate(line.arm.top1), estimate(line.arm.mean_per_class), lead]
            yield row(f"  {line.run + 1}", cells, _ENDS)
    if said := [*comparison.sentences(), *comparison.notes]:
        yield ""
        for sentence in said:
            yield from wrapped(sentence)
