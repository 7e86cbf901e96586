"""The page: whole in itself, escaped, within its bounds, and readable in a real browser."""

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tests.report.browser import DevTools, Outline

from fieldmarks.classification.results import (
    NONE_OF_THESE,
    UNSURE,
    Explanation,
    Failure,
    Mark,
    Prediction,
    Score,
)
from fieldmarks.errors import ReportError
from fieldmarks.evaluation.comparison import facts_of
from fieldmarks.report import evaluation_page
from fieldmarks.report.cards import bar
from fieldmarks.report.document import Imprint
from fieldmarks.report.result_page import MAX_CARDS, MAX_FAILURES, MAX_IMAGES, ResultPage, provenance

ABOUT = {"model": "some/clip", "preset": "article", "store_sha256": "c9c8dc44d2fe299c4bd4"}
HOSTILE = "<script>alert(1)</script>"


def _page(*results: Prediction | Failure) -> str:
    page = ResultPage(["tree frog", "owl"], provenance(ABOUT))
    for result in results:
        page.add(result)
    return page.html()


def test_what_the_page_says(prediction: Prediction) -> None:
    text = re.sub(r"[ \n]+", " ", Outline(_page(prediction, Failure("broken.png", "empty"))).text)
    for part in (
        "1 image, 2 classes, and the marks that decided",
        "Store c9c8dc44d2fe Model some/clip Preset article",
        "Class names alone give the same prediction for 0 of 1 images.",
        "tree frog 90.0% owl 10.0%",
        "Class name only: owl , 60.0% (differs)",
        "protruding eyes 25.5 a wide mouth 23.0",
        "big eyes 24.1 a hooked beak \u22123.2",
        "Deciding pair “ protruding eyes ” 25.5 against “ big eyes ” 24.1",
        "Unreadable files broken.png : empty",
    ):
        assert part in text


def test_title_author_and_date_stand_above() -> None:
    imprint = Imprint("Frogs & owls of May", "A. Finch", "1 June 2026")
    facts = provenance(ABOUT, "frogs.jsonl")
    text = re.sub(r"\s+", " ", Outline(ResultPage(["owl"], facts, imprint).html()).text)
    assert (
        "Frogs & owls of May 0 images, 1 class, and the marks that decided Author A. Finch Date 1 June 2026"
        " Store frogs.jsonl (c9c8dc44d2fe) Model some/clip Preset article"
    ) in text


def test_the_overview_shows_every_image_under_its_label_the_most_doubtful_first(
    prediction: Prediction,
) -> None:
    def of(name: str, label: str | None, share: float) -> Prediction:
        scores = (Score(label or "owl", share, 1.0), Score("newt", 1 - share, 0.0))
        return replace(prediction, image=name, label=label, scores=scores, baseline=None)

    page = _page(of("a", "owl", 0.9), of("b", "frog", 0.7), of("c", "owl", 0.6), of("d", None, 0.95))
    seen = Outline(page).seen
    groups = [attributes for _, attributes in seen if attributes.get("class") == "group"]
    assert [group["id"] for group in groups] == ["label-1", "label-2", "label-3"]
    links = [attributes["href"] for tag, attributes in seen if tag == "a"]
    assert links[1:4] == ["#label-1", "#label-2", "#label-3"]  # of the summary
    assert [link for link in links if link and "image" in link] == [
        *("#image-2", "#image-4"),  # owl: 0.6, then 0.9
        "#image-3",
        "#image-1",  # no label comes first of all
    ]
    cards = [attributes["data-label"] for tag, attributes in seen if tag == "article"]
    assert cards == ["3", "1", "2", "1"]


def test_the_reasons_for_no_label_are_told_apart(prediction: Prediction) -> None:
    unsure = replace(prediction, label=None)
    other = replace(unsure, scores=(Score(NONE_OF_THESE, 0.9, 1.0), Score("owl", 0.1, 0.0)))
    of_that_name = replace(prediction, label=UNSURE)  # a class that somebody gave this name
    page = _page(unsure, unsure, other, of_that_name)
    options = re.findall(r"<option value=\"\d+\">(.*?)</option>", page)
    assert options == ["(unsure) (2)", "(none of these) (1)", "(unsure) (1)"]
    titles = re.findall(r'<h3 class="title".*?>(<bdi>.*?</bdi>)</h3>', page)
    assert sorted(titles) == sorted(
        [
            *["<bdi><em>(unsure)</em></bdi>"] * 2,
            "<bdi><em>(none of these)</em></bdi>",
            "<bdi>(unsure)</bdi>",
        ]
    )
    notes = ("no class reaches the probability", "a text for everything else")
    assert [note in page for note in notes] == [True, True]
    assert [note in _page(prediction) for note in notes] == [False, False]


def test_nothing_from_outside_and_one_script(prediction: Prediction) -> None:
    page = _page(prediction)
    outline = Outline(page)
    assert {tag for tag, _ in outline.seen} & {"link", "iframe", "object", "form"} == set()
    sources = [
        value
        for _, attributes in outline.seen
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert all(value and value.startswith(("data:image/webp;base64,", "#")) for value in sources)
    assert not [
        name
        for _, attributes in outline.seen
        for name in attributes
        if name.startswith("on") or name == "style"
    ]
    (policy,) = [
        attributes["content"]
        for tag, attributes in outline.seen
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert [tag for tag, _ in outline.seen].count("script") == 1
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_everything_is_escaped(hostile: Prediction, failure: Failure) -> None:
    text = _page(hostile, failure)
    outline = Outline(text)
    assert HOSTILE not in text
    assert [tag for tag, _ in outline.seen].count("script") == 1  # the page's own
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert html.escape(HOSTILE) in text


def test_every_image_has_a_text_beside(prediction: Prediction) -> None:
    outline = Outline(_page(prediction, replace(prediction, thumbnail=None)))
    images = [attributes["alt"] for tag, attributes in outline.seen if tag == "img"]
    assert images == ["one.png", "one.png, classified as tree frog"]
    (without,) = [attributes for _, attributes in outline.seen if attributes.get("role") == "img"]
    assert without["aria-label"] == "one.png, without an image"


def test_the_page_is_bounded(prediction: Prediction) -> None:
    many = [replace(prediction, thumbnail=None)] * (MAX_IMAGES + 7)
    text = _page(*many, *[Failure("a", "b")] * (MAX_FAILURES + 3))
    assert text.count("<article") == MAX_CARDS
    assert text.count("<li data-label") == MAX_IMAGES
    assert "7 more images were classified and are counted above; the page shows the first 3,000." in text
    assert "The 500 least certain of 3,000 are shown with their marks." in text
    assert "and 3 more" in text
    assert f"{MAX_FAILURES + 3} images could not be read" in text


@pytest.mark.slow
def test_three_thousand_images_fit_in_fifteen_megabytes(prediction: Prediction) -> None:
    """Thumbnails of much detail, and as many marks as long stores have."""
    random = np.random.default_rng(0)
    thumbnails = [_scene(random) for _ in range(20)]
    assert 22_000 < sum(map(len, thumbnails)) / len(thumbnails) < 26_000  # those of 60 photos have 23 kB
    marks = tuple(Mark("tree frog", f"a mark of a length that is usual in stores, {n}", n) for n in range(8))
    explanation = Explanation(marks, marks, (marks[0], marks[1]))
    scores = tuple(Score(f"class {number}", 0.2, 1.0) for number in range(5))
    thumbnail = cycle(thumbnails)

    def size(images: int) -> int:
        page = ResultPage(["tree frog", "owl"], provenance(ABOUT))
        for number in range(images):
            page.add(
                replace(
                    prediction,
                    image=f"photos/2026/may/IMG_{number:05}.jpg",
                    scores=scores,
                    explanation=explanation,
                    thumbnail=next(thumbnail),
                )
            )
        return len(page.html().encode())

    # Beyond those with a card, each image adds as much as another one does.
    first, more = size(MAX_CARDS), size(MAX_CARDS + len(thumbnails))
    assert first < more
    assert first + (MAX_IMAGES - MAX_CARDS) / len(thumbnails) * (more - first) < 15_000_000


def _scene(random: np.random.Generator) -> bytes:
    """Return a thumbnail about as large as one of a photo: shapes of all sizes and a little noise."""
    image = Image.new("RGB", (384, 288), tuple(random.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for size in (160, 80, 40, 20, 10):
        for _ in range(700 // size):
            x, y = random.integers(-size, 384, 2).tolist()
            draw.ellipse((x, y, x + size, y + size), fill=tuple(random.integers(0, 255, 3).tolist()))
    noisy = np.asarray(image, np.float64) + random.normal(0, 4, (288, 384, 3))
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=82)
    return file.getvalue()


def test_a_display_of_progress_sees_each_image_of_the_page(prediction: Prediction) -> None:
    page = ResultPage(["tree frog", "owl"], provenance(ABOUT))
    for number in range(30):
        page.add(replace(prediction, image=f"{number}.jpg"))
    seen: list[str] = []

    def watch(images: Sequence[Prediction]) -> Iterator[Prediction]:
        for image in images:
            seen.append(image.image)
            yield image

    assert page.html(watch) == page.html()
    assert len(seen) == len(set(seen)) == page.shown == 30


def test_nothing_was_classified() -> None:
    assert "0 images, 2 classes" in _page()


def test_a_report_is_replaced_and_nothing_else_is(prediction: Prediction, tmp_path: Path) -> None:
    page = ResultPage(["tree frog"], provenance(ABOUT))
    page.write(tmp_path / "a.html")
    page.add(prediction)
    page.write(tmp_path / "a.html")
    assert "1 image, 1 class," in (tmp_path / "a.html").read_text("utf-8")
    (tmp_path / "diary.html").write_text("<p>mine")
    for path, message in {
        "diary.html": "already exists and is not a fieldmarks report",
        ".": "already exists and cannot be replaced .it is a folder",
        "/dev/zero": "already exists and cannot be replaced .it is not a regular file",
        "no/a": "cannot",
    }.items():
        with pytest.raises(ReportError, match=message):
            page.write(tmp_path / path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "diary.html"]


def test_a_page_says_whether_its_percentages_are_calibrated(prediction: Prediction) -> None:
    page = ResultPage(["tree frog"], provenance(ABOUT), is_calibrated=True)
    page.add(prediction)
    assert "calibrated on labelled images" in page.html()
    assert "not calibrated" not in page.html()
    assert "not calibrated confidences" in _page(prediction)


def test_a_rejected_class_does_not_lend_its_share_to_the_label(prediction: Prediction) -> None:
    rejected = replace(prediction, label=None, reason="too low", labels=("owl",), thumbnail=None)
    text = Outline(_page(rejected)).text
    assert " ".join(text.split()).count("90.0%") == 1  # beside the class, on its card
    assert "Would be one of:" in text


def test_a_shared_page_names_no_folder() -> None:
    assert provenance({"model": "/home/ada/models/clip"})["Model"] == "clip"
    assert provenance({"model": "org/clip"})["Model"] == "org/clip"
    assert facts_of({"model": "/home/ada/models/clip"})["Model"] == "clip"
    assert evaluation_page.settings({"model": "/home/ada/models/clip"}) == [("Run", [("model", "clip")])]


def test_where_zero_is_drawn() -> None:
    marks = (Mark("tree frog", "a tail", 3.0), Mark("tree frog", "fins", -1.0))
    explained = Explanation(marks, (), None)
    found = Prediction("a.png", "tree frog", (Score("tree frog", 1.0, 2.0),), explanation=explained)
    assert _page(found).count('<path d="M25.0 0V8"/>') == 2
    above = replace(found, explanation=Explanation(marks[:1], (), None))
    assert "<path" not in _page(above)


def _bars(*marks: Mark) -> list[tuple[float, float, float | None]]:
    return [(drawn.start, drawn.length, drawn.zero) for drawn in (bar(mark, marks) for mark in marks)]


def test_bars_begin_at_zero() -> None:
    assert _bars(Mark("a", "x", 20.0), Mark("a", "y", 40.0), Mark("a", "z", 10.0)) == [
        (0, 50, None),
        (0, 100, None),
        (0, 25, None),
    ]
    assert _bars(Mark("a", "x", 3.0), Mark("a", "y", -1.0)) == [(25, 75, 25), (0, 25, 25)]
    assert _bars(Mark("a", "x", 0, 2.0), Mark("a", "y", 0, -2.0)) == [(50, 50, 50), (0, 50, 50)]
    assert _bars(Mark("a", "x", -4.0), Mark("a", "y", -2.0)) == [(0, 100, 100), (50, 50, 100)]
    assert _bars(Mark("a", "x", 0.0)) == [(0, 0, None)]
    assert _bars(
        Mark("a", "x", 9, weight=1, contribution=1.0), Mark("b", "y", 9, weight=0, contribution=0.0)
    ) == [
        (0, 100, None),
        (0, 0, None),
    ]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1))
def test_lengths_of_bars_are_in_proportion_to_their_numbers(logits: list[float]) -> None:
    drawn = _bars(*(Mark("a", "x", logit) for logit in logits))
    unit = max(0.0, *logits) - min(0.0, *logits)
    for logit, (start, length, zero) in zip(logits, drawn, strict=True):
        assert length * unit == pytest.approx(100 * abs(logit), abs=1e-6)
        assert (start if logit >= 0 else start + length) == pytest.approx(zero or 0, abs=1e-9)
        assert -1e-9 <= start <= start + length <= 100 + 1e-9


@pytest.fixture
def written(prediction: Prediction, hostile: Prediction, failure: Failure, tmp_path: Path) -> Path:
    """A page as a file."""
    page = ResultPage(["tree frog", "owl"], provenance(ABOUT))
    long = replace(prediction, image="a" * 300 + ".png", label="b" * 200)
    for result in (prediction, hostile, long, failure):
        page.add(result)
    page.write(tmp_path / "page.html")
    return tmp_path / "page.html"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_as_a_browser_draws_it(devtools: DevTools, written: Path, width: int) -> None:
    """The picture, the bars in both colours and the paper are on the screenshot; the styles were applied."""
    found = devtools.open(written, width).colours()
    assert {"faf8f2", "ffffff", "2b6a4d", "c58a3c", "edeae0"} <= found
    seagreen = bytes.fromhex("2e8b57")
    differences = (map(abs, map(int.__sub__, bytes.fromhex(colour), seagreen)) for colour in found)
    assert min(map(sum, differences)) < 8


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500, 340])
def test_nothing_is_wider_than_the_screen(devtools: DevTools, written: Path, width: int) -> None:
    assert devtools.open(written, width).width() <= width


@pytest.mark.slow
def test_the_policy_and_the_escaping_hold_in_a_browser(
    devtools: DevTools, written: Path, tmp_path: Path
) -> None:
    """The page's own markup runs nothing, and a script smuggled into it is not run either."""
    smuggled = written.read_text("utf-8").replace(
        "</main>", "<script>document.title = 'owned'</script></main>"
    )
    (tmp_path / "smuggled.html").write_text(smuggled, "utf-8")
    for path in (written, tmp_path / "smuggled.html"):
        title = devtools.open(path).evaluate("document.title")
        assert title == "3 images, 2 classes, and the marks that decided"


@pytest.mark.slow
def test_the_page_prints(devtools: DevTools, written: Path) -> None:
    assert devtools.open(written).pdf().startswith(b"%PDF-")


@pytest.fixture
def filtered(prediction: Prediction, tmp_path: Path) -> Path:
    """A page of five images of two labels, of one of which the class name alone says the same."""
    page = ResultPage(["tree frog", "owl"], provenance(ABOUT))
    same = replace(prediction, baseline=Score("tree frog", 0.6, 21.5))
    owls = replace(prediction, label="owl", scores=prediction.scores[::-1], baseline=Score("newt", 0.6, 21.5))
    for number, result in enumerate((prediction, same, prediction, owls, owls)):
        page.add(replace(result, image=f"{number}.png"))
    page.write(tmp_path / "page.html")
    return tmp_path / "page.html"


SHOWN = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).length"
CHOOSE = "{0}.value = '{1}'; {0}.dispatchEvent(new Event('change'))"


@pytest.mark.slow
def test_images_are_filtered_by_label_and_by_agreement(devtools: DevTools, filtered: Path) -> None:
    page = devtools.open(filtered)
    label, agreement = (f"document.getElementById('by-{name}')" for name in ("label", "agreement"))

    def shown() -> tuple[int, int, int, str]:
        counts = (page.evaluate(SHOWN.format(css)) for css in (".thumbs li", "article", ".group"))
        images, cards, groups = counts
        return images, cards, groups, page.evaluate("document.getElementById('count').textContent")

    assert shown() == (5, 5, 2, "5 of 5 images")
    page.evaluate(CHOOSE.format(label, "1"))
    assert shown() == (3, 3, 1, "3 of 5 images")
    page.evaluate(CHOOSE.format(agreement, "yes"))
    assert shown() == (1, 1, 1, "1 of 5 images")
    page.evaluate("document.getElementById('all').click()")
    assert shown() == (5, 5, 2, "5 of 5 images")
    page.evaluate(CHOOSE.format(agreement, "no"))
    assert shown() == (4, 4, 2, "4 of 5 images")
    page.evaluate(CHOOSE.format(label, "2"))
    page.evaluate("location.hash = '#label-1'")  # a link to what the filter hides shows it
    page.evaluate("new Promise(done => setTimeout(done, 50))")
    assert shown() == (5, 5, 2, "5 of 5 images")


@pytest.mark.slow
def test_the_page_works_without_its_script(devtools: DevTools, filtered: Path) -> None:
    page = devtools.open(filtered, scripts=False)
    assert page.evaluate(SHOWN.format("article")) == 5
    assert page.evaluate(SHOWN.format(".thumbs a")) == 5
    assert page.evaluate(SHOWN.format("#filters")) == 0
