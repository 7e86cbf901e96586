"""What a search found as a page: every image in its place, or the reason why not; all of it escaped."""

import base64
import io
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image
from tests.report.browser import Outline
from tests.report.conftest import HOSTILE

from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.report import search_page as module
from fieldmarks.report.document import Imprint
from fieldmarks.report.search_page import duplicates_page, search_page
from fieldmarks.retrieval.duplicates import Duplicates
from fieldmarks.retrieval.searcher import Hit, SearchResult


@pytest.fixture
def photos(tmp_path: Path) -> EmbeddingSet:
    """A set without a manifest, whose images are named by their whole paths."""
    for number, name in enumerate("abc"):
        folder = tmp_path / "photos" / f"{number} #?%41"
        folder.mkdir(parents=True)
        Image.new("RGB", (800, 400), (0, 80 * number, 0)).save(folder / f"{name}.png")
    return EmbeddingSet(tmp_path / "photos.emb")


def _found(photos: EmbeddingSet, *more: str, matched: int | None = None) -> SearchResult:
    names = [*map(str, sorted(photos.path.parent.glob("photos/*/*.png"))), *more]
    hits = tuple(Hit(rank, name, 3.0 - 2 * rank) for rank, name in enumerate(names, 1))
    return SearchResult("'snow'", hits, len(hits) if matched is None else matched, 1_000)


def _text(page: str) -> str:
    return " ".join(Outline(page).text.split())


def _of(page: str, tag: str, key: str) -> list[str]:
    return [
        attributes[key] or "" for name, attributes in Outline(page).seen if name == tag and key in attributes
    ]


def test_what_the_page_says(photos: EmbeddingSet) -> None:
    facts = {"Store": "frogs.jsonl", "Labels": ""}
    page = search_page(_found(photos), photos, facts=facts, imprint=Imprint("Winter", "A. Finch"))
    text = _text(page.html)
    assert page.unread == 0
    assert text.index("Winter") < text.index("3 of 1,000 images show 'snow'") < text.index("Author A. Finch")
    assert f"Set {photos.path} Images 1,000 Folder {photos.path.parent / 'photos'} Store frogs.jsonl" in text
    assert "Labels" not in text
    assert "1 +1.00 0 #?%41/a.png 2 \u22121.00 1 #?%41/b.png" in text
    assert "All images found are listed." in text


def test_each_image_is_a_small_copy_that_leads_to_its_file(photos: EmbeddingSet) -> None:
    found = _found(photos)
    page = search_page(found, photos).html
    sources, links = _of(page, "img", "src"), _of(page, "a", "href")[1:4]
    assert [unquote(urlsplit(link).path) for link in links] == [hit.image for hit in found]
    assert len(sources) == 3
    for number, source in enumerate(sources):
        kind, _, data = source.partition(",")
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (320, 160)
            assert abs(image.convert("RGB").getpixel((80, 80))[1] - 80 * number) < 12  # type: ignore[index]


def test_what_cannot_be_read_keeps_its_place_and_has_its_reason(photos: EmbeddingSet, tmp_path: Path) -> None:
    (tmp_path / "photos" / "text.png").write_text("no image")
    gone, broken = str(tmp_path / "photos" / "gone.png"), str(tmp_path / "photos" / "text.png")
    page = search_page(_found(photos, gone, broken, "a\0b", str(tmp_path)), photos)
    text = _text(page.html)
    assert page.unread == 4
    assert len(_of(page.html, "img", "src")) == 3
    assert text.count(" cannot be read 4 ") == 1  # its rank
    assert f"{gone} : cannot be read: No such file or directory" in text
    assert f"{broken} : not an image" in text
    assert f"{tmp_path} : a folder, not an image" in text


@pytest.mark.parametrize(
    ("result", "heading", "summary"),
    [
        (SearchResult("'x'", (), 0, 0), "None of 0 images shows 'x'", "The set has no images."),
        (SearchResult("'x'", (), 0, 9), "None of 9 images shows 'x'", "No image is above the cut-off; --all"),
        (
            SearchResult("'x'", (), 0, 9, ("x",)),
            "None of 9 images shows 'x'",
            "\u201c x \u201d fits these images no better than random words do, so nothing counts as found.",
        ),
        (
            SearchResult("'x' and 'y'", (Hit(1, "a", 1),), 0, 9, ("x", "y")),
            "None of 9 images shows 'x' and 'y'",
            "fit these images no better than random words do, so nothing counts as found. The images below",
        ),
        (
            SearchResult("'x'", (Hit(1, "a", 1),), 3, 9),
            "3 of 9 images show 'x'",
            "The best 1 of the 3 images found are listed.",
        ),
        (SearchResult("'x'", (Hit(1, "a", 1),), 1, 9), "1 of 9 images shows 'x'", "All images found"),
    ],
)
def test_every_outcome_is_told(
    photos: EmbeddingSet, result: SearchResult, heading: str, summary: str
) -> None:
    text = _text(search_page(result, photos).html)
    assert heading in text
    assert summary in text
    assert "repeats another" not in text
    assert ("Images, best first" in text) == bool(result.hits)


def test_options_of_the_search_are_told(photos: EmbeddingSet) -> None:
    every = _text(search_page(_found(photos, matched=1), photos, show_all=True).html)
    assert "1 image is above the cut-off. The best 3 are listed whether they are above it or not." in every
    other = _text(search_page(_found(photos), photos, disagree=True).html)
    assert "3 of 1,000 images show 'snow' and have another label" in other
    like = search_page(_found(photos), photos, like=[_found(photos).hits[0].image]).html
    assert "Looked for" in _text(like)
    assert len(_of(like, "img", "src")) == 4


def test_everything_is_escaped(photos: EmbeddingSet) -> None:
    hits = (Hit(1, HOSTILE, 1.0, HOSTILE), Hit(2, "javascript:alert(1)", 1.0), Hit(3, "//evil/a.png", 1.0))
    pages = [
        search_page(SearchResult(HOSTILE, hits, 3, 9, (HOSTILE,)), photos, facts={"Store": HOSTILE}).html,
        duplicates_page([Duplicates("exact", (HOSTILE, HOSTILE), 1.0)], photos, 9, 0.97).html,
    ]
    for page in pages:
        outline = Outline(page)
        assert [tag for tag, _ in outline.seen if tag in ("script", "img", "iframe")] == []
        assert "\u202e" not in outline.text
        assert {link for link in _of(page, "a", "href") if not link.startswith("#")} == set()


def test_groups_of_duplicates(photos: EmbeddingSet) -> None:
    a, b, c = (hit.image for hit in _found(photos))
    groups = [Duplicates("exact", (a, b), 1.0), Duplicates("near", (c, *[b] * 14), 0.981)]
    text = _text(duplicates_page(groups, photos, 1_000, 0.97).html)
    assert "15 duplicates among 1,000 images" in text
    assert "Exact duplicates Files with the same bytes. Group 1: 2 images" in text
    assert (
        "cosine with the first of the group is 0.97 or more. Group 2: 15 images, cosine 0.981 or more" in text
    )
    assert "and 3 more images, which the command lists" in text
    assert "No image in the set repeats another." in _text(duplicates_page([], photos, 9, 0.97).html)


def _copies(photo: Path, count: int) -> list[str]:
    paths = [photo.with_name(f"{number}-{photo.name}") for number in range(count)]
    for path in paths:
        path.hardlink_to(photo)
    return [str(path) for path in paths]


def _page_of(names: list[str], photos: EmbeddingSet) -> str:
    hits = tuple(Hit(rank, name, 1.0) for rank, name in enumerate(names, 1))
    return search_page(SearchResult("'x'", hits, len(hits), len(hits)), photos).html


@pytest.mark.slow
def test_a_page_is_bounded_and_counts_the_rest(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg")
    many, photos = _copies(tmp_path / "a.jpg", module.MAX_IMAGES + 5), EmbeddingSet(tmp_path / "set")
    page = _page_of(many, photos)
    assert page.count("<img") == module.MAX_IMAGES
    assert "and 5 more images, which the command lists" in _text(page)
    groups = [Duplicates("exact", tuple(many[at : at + 12]), 1.0) for at in range(0, 1_000, 12)]
    assert "and 1 more group, which the command lists" in _text(
        duplicates_page(groups, photos, 1_005, 0.97).html
    )


@pytest.mark.slow
def test_a_page_of_the_most_images_stays_below_40_megabytes(tmp_path: Path) -> None:
    Image.effect_noise((1600, 1200), 90).convert("RGB").save(tmp_path / "a.jpg")  # which compresses worst
    some = _copies(tmp_path / "a.jpg", module.MANY + 1)  # of more than MANY, copies are smaller
    assert len(_page_of(some, EmbeddingSet(tmp_path / "set"))) < 40 * 2**20 * len(some) / module.MAX_IMAGES
