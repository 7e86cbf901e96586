"""Search results as lines of a table, and as CSV; nothing is printed here."""

from collections.abc import Iterator, Sequence

from fieldmarks.retrieval.duplicates import Duplicates
from fieldmarks.retrieval.searcher import Hit, SearchResult
from fieldmarks.tables.writing import BOM, csv_row, csv_text
from fieldmarks.text import counted, printable

MINUS = "\u2212"
COLUMNS = ("rank", "image", "score", "label")
OF_GROUPS = ("group", "kind", "similarity", "image")


def table(hits: Sequence[Hit]) -> Iterator[str]:
    """Yield the lines of a table: rank, z-score, label if there are any, image."""
    if not hits:
        return
    digits = max(4, len(str(hits[-1].rank)))
    widest = max((len(printable(hit.label)) for hit in hits if hit.label), default=0)
    column = f"  {'label':{widest}}" if widest else ""
    yield f"{'rank':>{digits}}  {'score':>6}{column}  image"
    for hit in hits:
        label = f"  {printable(hit.label or ''):{widest}}" if widest else ""
        yield f"{hit.rank:>{digits}}  {signed(hit.score):>6}{label}  {printable(hit.image)}"


def csv_of(hits: Sequence[Hit]) -> str:
    """Return the hits as CSV, with a row for each; `label` is empty where no labels were given."""
    rows = ((hit.rank, hit.image, round(hit.score, 4), hit.label) for hit in hits)
    return csv_text([COLUMNS, *rows])


def signed(score: float) -> str:
    """Return a z-score as printed: "+2.31", "−0.40"."""
    return f"{score:+.2f}".replace("-", MINUS)


def closing(result: SearchResult, path: object, show_all: bool, disagree: bool) -> str:
    """Return the outcome of a search in one sentence."""
    found = f"{result.matched:,} of {counted(result.total, 'image')} in {path}"
    query = f"{result.query}{' and have another label' if disagree else ''}"
    if not result.total:
        return f"{path} has no images: add some with `fieldmarks embed … --out {path}`"
    if result.unmatched:
        texts = ", ".join(repr(text) for text in result.unmatched)
        advice = "their order says little" if show_all else "--all shows the nearest images anyway"
        return f"Nothing in {path} fits {texts} better than random words do; {advice}"
    if show_all:
        return f"{found} show {query}; the best {len(result):,} of all are listed"
    if not result.matched and disagree:
        return f"No image of {result.total:,} in {path} shows {result.query} and has another label"
    if not result.matched:
        return f"No image of {result.total:,} in {path} shows {query}; --all shows the nearest ones"
    shown = f"; the best {len(result):,} are listed, see --top" if len(result) < result.matched else ""
    return f"{found} show {query}{shown}"


def group_lines(number: int, group: Duplicates) -> Iterator[str]:
    """Yield the lines of a group of duplicates."""
    alike = "the same file" if group.kind == "exact" else f"cosine {group.similarity:.3f} or more"
    yield f"{number}. {counted(len(group.images), 'image')}, {alike}"
    yield from (f"   {printable(image)}" for image in group.images)


def group_heading() -> str:
    """Return the first line of CSV with duplicates."""
    return BOM + csv_row(OF_GROUPS)


def group_rows(number: int, group: Duplicates) -> str:
    """Return a group of duplicates as CSV, with a row for each of its images."""
    similarity = round(group.similarity, 4)
    return "".join(csv_row((number, group.kind, similarity, image)) for image in group.images)
