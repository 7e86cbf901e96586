"""Search results as one HTML page: the query, and the images with their scores; or groups of duplicates.

    page = search_page(searcher.find("snow"), searcher.embeddings)
    write(Path("page.html"), page.html)

Every image links to its file. Images whose files cannot be read keep their place, and the page says why. A
page of MAX_IMAGES stays below 15 MB; any further images are only counted.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.results import Failure
from fieldmarks.paths import last_name
from fieldmarks.report.cards import small_copy
from fieldmarks.report.document import Imprint, document, fragment
from fieldmarks.report.numbers import signed
from fieldmarks.retrieval.duplicates import Duplicates
from fieldmarks.retrieval.searcher import SearchResult
from fieldmarks.retrieval.thumbnails import thumbnails
from fieldmarks.text import counted

MAX_IMAGES: Final = 1_000  # about 12 KB each
GROUP_SHOWN: Final = 12  # images per group of duplicates
MAX_FAILURES: Final = 200
SIDE: Final = 320  # pixels of the longer side
MANY: Final = 200  # images; with more, copies are smaller
SMALL_SIDE: Final = 240


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and how many of its images cannot be read."""

    html: str
    unread: int


@dataclass(frozen=True, slots=True)
class Tile:
    """An image as the page shows it; `image` is a copy's data URI, None if its file cannot be read."""

    name: str
    image: str | None
    link: str | None
    rank: int | None = None
    score: str = ""
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Images that belong together; `more` counts those that are not shown."""

    heading: str | None
    tiles: Sequence[Tile]
    more: int


@dataclass(frozen=True, slots=True)
class Section:
    """Groups below one heading; `more` counts the groups that are not shown."""

    heading: str
    note: str
    groups: Sequence[Group]
    more: int = 0


class _Images:
    """The images of a page: their copies, where their files are, and those that cannot be read."""

    def __init__(self, files: Mapping[str, Path], folder: str = "") -> None:
        self._files = files
        self._copies = thumbnails(files)
        self._side = SMALL_SIDE if len(files) > MANY else SIDE
        self.folder = folder

    @property
    def failures(self) -> list[Failure]:
        return [found for found in self._copies.values() if isinstance(found, Failure)]

    def tile(self, name: str, *, rank: int | None = None, score: str = "", label: str | None = None) -> Tile:
        found = self._copies[name]
        shown = name[len(self.folder) :].lstrip(os.sep) if self.folder else name
        if isinstance(found, Failure):
            return Tile(shown, None, None, rank, score, label)
        link = self._files[name].absolute().as_uri()
        return Tile(shown, small_copy(found, self._side), link, rank, score, label)


def search_page(
    result: SearchResult,
    embeddings: EmbeddingSet,
    *,
    like: Sequence[str | os.PathLike[str]] = (),
    show_all: bool = False,
    disagree: bool = False,
    facts: Mapping[str, str] | None = None,
    imprint: Imprint | None = None,
) -> Page:
    """Return the page of a search's results in a set.

    - `like` are the files of the query images, which are shown, too.
    - `show_all` and `disagree` say whether the search had these options; see `search`.
    - `facts` follow those of the set, by term: the store, the labels.
    """
    hits = result.hits[:MAX_IMAGES]
    folder = _common_folder([hit.image for hit in hits])
    found = _Images({hit.image: embeddings.file_of(hit.image) for hit in hits}, folder)
    wanted = _Images({os.fspath(file): Path(file) for file in like})
    tiles = [
        found.tile(hit.image, rank=hit.rank, score=signed(hit.score, 2), label=hit.label) for hit in hits
    ]
    sections = [Section("Images, best first", "", [Group(None, tiles, len(result) - len(hits))])]
    return _page(
        _heading(result, disagree),
        sections if hits else [],
        [found, wanted],
        _facts(embeddings, result.total, found.folder) | dict(facts or {}),
        imprint,
        wanted=[wanted.tile(os.fspath(file)) for file in like],
        result=result,
        show_all=show_all,
    )


def duplicates_page(
    groups: Sequence[Duplicates],
    embeddings: EmbeddingSet,
    total: int,
    near: float,
    imprint: Imprint | None = None,
) -> Page:
    """Return the page of a set's groups of duplicates; `total` counts its images, `near` is a cosine."""
    shown: list[Duplicates] = []
    room = MAX_IMAGES
    for group in groups:
        if (room := room - min(len(group.images), GROUP_SHOWN)) < 0:
            break
        shown.append(group)
    names = dict.fromkeys(name for group in shown for name in group.images[:GROUP_SHOWN])
    found = _Images({name: embeddings.file_of(name) for name in names}, _common_folder(names))
    kinds = {
        "exact": ("Exact duplicates", "Files with the same bytes."),
        "near": ("Near duplicates", f"Images whose cosine with the first of the group is {near:g} or more."),
    }
    sections = []
    for kind, (heading, note) in kinds.items():
        listed = [_group(number, group, found) for number, group in enumerate(shown, 1) if group.kind == kind]
        every = sum(group.kind == kind for group in groups)
        sections += [Section(heading, note, listed, every - len(listed))] if every else []
    repeats = sum(len(group.images) - 1 for group in groups)
    heading = f"{counted(repeats, 'duplicate')} among {counted(total, 'image')}"
    return _page(heading, sections, [found], _facts(embeddings, total, found.folder), imprint)


def _group(number: int, group: Duplicates, found: _Images) -> Group:
    alike = "" if group.kind == "exact" else f", cosine {group.similarity:.3f} or more"
    tiles = [found.tile(name) for name in group.images[:GROUP_SHOWN]]
    heading = f"Group {number}: {counted(len(group.images), 'image')}{alike}"
    return Group(heading, tiles, len(group.images) - len(tiles))


def _page(
    heading: str,
    sections: Sequence[Section],
    images: Sequence[_Images],
    facts: Mapping[str, str],
    imprint: Imprint | None,
    *,
    wanted: Sequence[Tile] = (),
    result: SearchResult | None = None,
    show_all: bool = False,
) -> Page:
    failures = [failure for part in images for failure in part.failures]
    body = fragment(
        "search.html.j2",
        result=result,
        show_all=show_all,
        wanted=wanted,
        sections=sections,
        failures=failures[:MAX_FAILURES],
        failed=len(failures),
    )
    html = document(heading, body, facts, imprint=imprint, styles=("card.css", "search.css"))
    return Page(html, len(failures))


def _heading(result: SearchResult, disagree: bool) -> str:
    total = counted(result.total, "image")
    if not result.matched:
        return f"None of {total} shows {result.query}{' and has another label' if disagree else ''}"
    show, have = ("shows", "has") if result.matched == 1 else ("show", "have")
    labelled = f" and {have} another label" if disagree else ""
    return f"{result.matched:,} of {total} {show} {result.query}{labelled}"


def _facts(embeddings: EmbeddingSet, total: int, folder: str) -> dict[str, str]:
    facts = {"Set": str(embeddings.path), "Images": f"{total:,}", "Model": last_name(embeddings.model or "")}
    return facts | {"Folder": folder}


def _common_folder(names: Iterable[str]) -> str:
    """Return the folder that all names begin with, or "" if there is none."""
    names = list(names)
    try:
        folder = os.path.commonpath([os.path.dirname(name) for name in names])  # noqa: PTH120
    except ValueError:  # no names, or both relative and absolute ones
        return ""
    return folder if all(name.startswith(f"{folder}{os.sep}") for name in names) else ""
