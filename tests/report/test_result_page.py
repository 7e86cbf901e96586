"""The page: whole in itself, escaped, within its bounds, and readable in a real browser."""

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.browser import Browser, Outline, contrast, document_width

from fieldmarks.classification.results import Failure, Mark, Prediction
from fieldmarks.errors import ReportError
from fieldmarks.report.cards import bar
from fieldmarks.report.document import HERE
from fieldmarks.report.result_page import MAX_FAILURES, MAX_IMAGES, ResultPage, provenance

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
        "Model some/clip Preset article Store c9c8dc44d2fe",
        "Class names alone give the same prediction for 0 of 1 images.",
        "tree frog 90.0% owl 10.0%",
        "Class name only: owl , 60.0% (differs)",
        "protruding eyes 25.5 a wide mouth 23.0",
        "big eyes 24.1 a hooked beak \u22123.2",
        "Deciding pair protruding eyes 25.5 against big eyes 24.1",
        "Unreadable files broken.png : empty",
    ):
        assert part in text


def test_nothing_from_outside_and_no_script(prediction: Prediction) -> None:
    outline = Outline(_page(prediction))
    assert {tag for tag, _ in outline.seen} & {"script", "link", "iframe", "object", "form"} == set()
    sources = [
        value
        for _, attributes in outline.seen
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert all(value and value.startswith(("data:image/jpeg;base64,", "#")) for value in sources)
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


def test_everything_is_escaped(hostile: Prediction, failure: Failure) -> None:
    text = _page(hostile, failure)
    outline = Outline(text)
    assert HOSTILE not in text
    assert {tag for tag, _ in outline.seen} & {"script"} == set()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert html.escape(HOSTILE) in text


def test_every_picture_has_a_text_beside(prediction: Prediction) -> None:
    outline = Outline(_page(prediction, replace(prediction, thumbnail=None)))
    (image,) = [attributes for tag, attributes in outline.seen if tag == "img"]
    assert image["alt"] == "one.png, classified as tree frog"
    (without,) = [attributes for _, attributes in outline.seen if attributes.get("role") == "img"]
    assert without["aria-label"] == "one.png, without an image"


def test_the_page_is_bounded(prediction: Prediction) -> None:
    many = [replace(prediction, thumbnail=None)] * (MAX_IMAGES + 7)
    text = _page(*many, *[Failure("a", "b")] * (MAX_FAILURES + 3))
    assert text.count("<article") == MAX_IMAGES
    assert (
        f"7 more images were classified and are counted above; the page shows the first {MAX_IMAGES}" in text
    )
    assert "and 3 more" in text
    assert f"{MAX_FAILURES + 3} images could not be read" in text


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


def test_bars() -> None:
    marks = [Mark("a", "x", 20.0), Mark("a", "y", 30.0), Mark("a", "z", 25.0)]
    assert [bar(mark, marks).length for mark in marks] == [8, 100, 54]
    assert bar(marks[0], marks[:1]).length == 100
    relative = [Mark("a", "x", 0, 2.0), Mark("a", "y", 0, -1.0)]
    assert [(drawn.start, drawn.length) for drawn in (bar(mark, relative) for mark in relative)] == [
        (50, 50),
        (25, 25),
    ]


def test_texts_have_contrast() -> None:
    css = (HERE / "page.css").read_text("utf-8")
    colours = dict(re.findall(r"--(\w+): (#\w{6});", css))
    texts = set(re.findall(r"[; {]color: var\(--(\w+)\)", css))
    assert texts == {"ink", "soft", "lead", "second", "other"}
    for text in texts:
        for ground in ("paper", "card"):
            assert contrast(colours[ground], colours[text]) >= 4.5, (text, ground)


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
def test_the_page_as_a_browser_draws_it(chromium: Browser, written: Path, tmp_path: Path, width: int) -> None:
    """The picture, the bars in both colours and the paper are on the screenshot; the styles were applied."""
    chromium(written, f"--window-size={width},1600", f"--screenshot={tmp_path / 'shot.png'}")
    with Image.open(tmp_path / "shot.png") as shot:
        assert shot.width == width
        pixels = np.asarray(shot.convert("RGB")).reshape(-1, 3)
    found = {(int(red), int(green), int(blue)) for red, green, blue in np.unique(pixels, axis=0)}
    for colour in ("faf8f2", "ffffff", "2b6a4d", "c58a3c", "edeae0"):
        assert tuple(bytes.fromhex(colour)) in found
    assert any(
        abs(red - 46) + abs(green - 139) + abs(blue - 87) < 8 for red, green, blue in found
    )  # seagreen


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500, 340])
def test_nothing_is_wider_than_the_screen(chromium: Browser, written: Path, width: int) -> None:
    assert document_width(chromium, written, width) <= width


@pytest.mark.slow
def test_the_policy_and_the_escaping_hold_in_a_browser(
    chromium: Browser, written: Path, tmp_path: Path
) -> None:
    """The page's own markup runs nothing, and a script smuggled into it is not run either."""
    smuggled = written.read_text("utf-8").replace(
        "</main>", "<script>document.title = 'owned'</script></main>"
    )
    (tmp_path / "smuggled.html").write_text(smuggled, "utf-8")
    for path in (written, tmp_path / "smuggled.html"):
        assert "<title>Field marks of 3 images</title>" in chromium(path, "--dump-dom")


@pytest.mark.slow
def test_the_page_prints(chromium: Browser, written: Path, tmp_path: Path) -> None:
    chromium(written, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
