"""An evaluation's page: whole in itself, escaped, told in full, and readable in a real browser."""

import base64
import html
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.report.browser import DevTools, Outline
from tests.report.evaluations import BIRDS, evaluation, some_confidence

from fieldmarks.classification.results import Failure
from fieldmarks.errors import ReportError
from fieldmarks.evaluation.results import DescriptorEffect, Evaluation
from fieldmarks.report import charts, evaluation_page
from fieldmarks.report.evaluation_page import MAX_EXAMPLES, MAX_FAILURES, check, write_page

pytest.importorskip("matplotlib")
SCRIPT = "<script>document.title = 'owned'</script>"
NAMES = (
    *(
        f"</style>{SCRIPT}\u202e\"'&\x1b[31m",
        "]]></svg>$x$",
        "蛙 — 東京都の非常に長い名前の蛙です",
        "ضفدع الشجر",
    ),
    *("🐸", "a\ufffeb", "b" * 300, "q" + "\u0301" * 60, "{{ 7 * 7 }}", "great grey owl"),
)


@pytest.fixture(scope="module")
def small() -> Evaluation:
    """Three classes and few pictures, quickly drawn."""
    return evaluation(BIRDS[:3], 60, seeds=2)


@pytest.fixture(scope="module")
def hostile() -> Evaluation:
    """An evaluation in which every text is a stranger's."""
    made = evaluation(NAMES, 400, seeds=2)
    name = NAMES[0]
    return replace(
        made,
        settings={"command": ["fieldmarks", name], "data": {name: [name, {"a": name}]}, name: name},
        summary=(name, name),
        notices=(name,),
        failures=(Failure(name, name),),
        effects=(
            DescriptorEffect(name, name, 0.1, 0.1, 0.1, 3),
            DescriptorEffect(name, "z" * 200, -0.1, 0.1, 0.1, 3),
        ),
        arms=tuple(replace(arm, text=name, texts=(name,), aggregate=name) for arm in made.arms),
    )


@pytest.fixture(scope="module")
def many() -> Evaluation:
    """A thousand classes."""
    return evaluation([f"species {number} of warbler" for number in range(1000)], 4000)


@pytest.fixture(scope="module")
def pages(
    few: Evaluation, hostile: Evaluation, many: Evaluation, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The pages of the three, as files."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"few": few, "hostile": hostile, "many": many}
    for name, measured in made.items():
        write_page(measured, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


def _text(path: Path) -> str:
    return re.sub(r"\s+", " ", Outline(path.read_text("utf-8")).text)


@pytest.mark.slow
def test_what_the_page_says(few: Evaluation, pages: dict[str, Path]) -> None:
    text = _text(pages["few"])
    photo, descriptors, *_ = few.arms
    difference = descriptors.difference
    assert difference
    for part in (
        "Evaluation of 2,000 images in 10 classes",
        "1 image could not be read",
        *few.summary,
        *few.notices,
        f"photo {100 * photo.top1.value:.1f} {100 * photo.top1.low:.1f}–{100 * photo.top1.high:.1f} – –",
        f"+{100 * difference.value:.1f} +{100 * difference.low:.1f} to +{100 * difference.high:.1f} 0.031",
        "waffle {class}, which has {random words} mean-embedding, 5 draws",
        "With descriptors instead of photo , ",
        "fieldmarks evaluate photos --store birds.jsonl --ablate --report page.html",
        "revision 3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        "Unreadable files photos/broken.jpg : cannot identify image file",
        "Help most",
        "McNemar’s p looks at",
        "True class indigo bunting",
    ):
        assert part in text, part


@pytest.mark.slow
def test_figures_of_the_table_are_the_evaluations(few: Evaluation, pages: dict[str, Path]) -> None:
    text = _text(pages["few"])
    for arm in few.arms:
        assert arm.top5
        for figure in (arm.top1, arm.mean_per_class, arm.top5):
            assert f"{100 * figure.value:.1f} {100 * figure.low:.1f}–{100 * figure.high:.1f}" in text


@pytest.mark.slow
def test_nothing_from_outside_and_no_script(pages: dict[str, Path]) -> None:
    for path in pages.values():
        outline = Outline(path.read_text("utf-8"))
        assert {tag for tag, _ in outline.seen} & {"script", "link", "iframe", "object", "form"} == set()
        attributes = [(name, value) for _, some in outline.seen for name, value in some.items()]
        for name, value in attributes:
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href", "srcset"):
                assert value
                assert value.startswith(("data:image/jpeg;base64,", "data:image/svg+xml;base64,", "#"))
        (policy,) = [attributes["content"] for _, attributes in outline.seen if "http-equiv" in attributes]
        assert policy is not None
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy


@pytest.mark.slow
def test_every_link_leads_somewhere_and_every_id_is_one(pages: dict[str, Path]) -> None:
    for path in pages.values():
        seen = Outline(path.read_text("utf-8")).seen
        ids = [attributes["id"] for _, attributes in seen if "id" in attributes]
        assert len(ids) == len(set(ids))
        wanted = {(attributes.get("href") or "").removeprefix("#") for tag, attributes in seen if tag == "a"}
        wanted |= {
            attributes["aria-labelledby"] or "" for _, attributes in seen if "aria-labelledby" in attributes
        }
        assert wanted <= set(ids)


@pytest.mark.slow
def test_everything_is_escaped(pages: dict[str, Path]) -> None:
    text = pages["hostile"].read_text("utf-8")
    assert SCRIPT not in text
    assert html.escape(SCRIPT).replace("&#x27;", "&#39;") in text
    assert not set("\x1b\u202e") & set(text)
    assert "49" not in re.findall(r"<bdi>(\d+)</bdi>", text)


@pytest.mark.slow
def test_the_charts_are_drawings_without_scripts(pages: dict[str, Path]) -> None:
    for path in pages.values():
        seen = Outline(path.read_text("utf-8")).seen
        charts = [
            value for _, attributes in seen for value in attributes.values() if value and "svg+xml" in value
        ]
        assert len(charts) >= 4
        for chart in charts:
            tree = ElementTree.fromstring(base64.b64decode(chart.partition(",")[2]))
            assert {element.tag.rpartition("}")[2] for element in tree.iter()} & {
                "script",
                "foreignObject",
                "a",
            } == set()


@pytest.mark.slow
def test_every_picture_is_told_in_words(pages: dict[str, Path]) -> None:
    images = [attributes for tag, attributes in Outline(pages["few"].read_text("utf-8")).seen if tag == "img"]
    assert len(images) == 4 + 6
    assert all(attributes["alt"] for attributes in images)


@pytest.mark.slow
def test_the_page_is_bounded(few: Evaluation) -> None:
    example = replace(few.examples[0], prediction=replace(few.examples[0].prediction, thumbnail=None))
    failures = (Failure("a", "b"),) * (MAX_FAILURES + 3)
    text = evaluation_page.html(replace(few, examples=[example] * (MAX_EXAMPLES + 2), failures=failures))
    assert text.count("<article") == MAX_EXAMPLES
    assert "2 more examples are left out" in text
    assert "and 3 more" in text


@pytest.mark.slow
def test_a_thousand_classes_fit(pages: dict[str, Path]) -> None:
    assert pages["many"].stat().st_size < 1_500_000
    text = _text(pages["many"])
    assert text.count("species") > 1000
    assert "Half of these classes have 4 images or fewer" in text


@pytest.mark.slow
def test_what_may_be_missing(few: Evaluation) -> None:
    photo = few.arms[0]
    bare = replace(
        few, settings={}, arms=(photo,), summary=(), notices=(), failures=(), effects=(), examples=()
    )
    text = evaluation_page.html(bare)
    seen = Outline(text).seen
    ids = {attributes["id"] for _, attributes in seen if "id" in attributes}
    assert ids == {"top", "main", "arms", "confusion", "classes", "reading", "again"}
    assert "McNemar’s p</th>" not in text
    one_class = evaluation(["owl"], 5, seeds=1)
    assert "5 images in 1 class: 5 each." in evaluation_page.html(one_class)


@pytest.mark.slow
def test_a_single_picture_is_no_plural() -> None:
    text = evaluation_page.html(evaluation(BIRDS, 1, seeds=1))
    assert "<title>Evaluation of 1 image in 10 classes" in text
    assert "Half of these classes have 1 image: what a single class" in text


@pytest.mark.slow
def test_a_report_is_replaced_and_nothing_else_is(small: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_page(small, path)
    before = path.read_bytes()
    write_page(small, path)
    assert path.read_bytes() == before
    (tmp_path / "diary.html").write_text("<p>mine")
    messages = {
        "diary.html": "is not a fieldmarks report",
        ".": "already exists and cannot be replaced .it is a folder",
        "no/a": "folder does not exist",
    }
    for name, message in messages.items():
        with pytest.raises(ReportError, match=message):
            check(tmp_path / name)
        with pytest.raises(ReportError, match=message):
            write_page(small, tmp_path / name)
    assert (tmp_path / "diary.html").read_text() == "<p>mine"


def test_every_chart_is_looked_for_beforehand(few: Evaluation, small: Evaluation) -> None:
    many = evaluation(tuple(f"class {n}" for n in range(60)), 120, seeds=1)
    sure = replace(few, confidence=some_confidence())
    drawn = {chart.name for measured in (sure, small, many) for chart in charts.charts(measured)}
    assert drawn == set(charts.NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_as_a_browser_draws_it(devtools: DevTools, pages: dict[str, Path], width: int) -> None:
    """Both charts' and the style sheets' colours are on the screenshot."""
    assert {"faf8f2", "ffffff", "2b6a4d", "c58a3c", "56625b"} <= devtools.open(pages["few"], width).colours()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500, 340])
@pytest.mark.parametrize("name", ["few", "hostile", "many"])
def test_nothing_is_wider_than_the_screen(
    devtools: DevTools, pages: dict[str, Path], width: int, name: str
) -> None:
    assert devtools.open(pages[name], width).width() <= width


@pytest.mark.slow
@pytest.mark.parametrize("name", ["few", "hostile", "many"])
def test_a_browser_reads_every_drawing(devtools: DevTools, pages: dict[str, Path], name: str) -> None:
    """Images that are broken have no width; every width of the screen has the same drawing."""
    charts = pages[name].read_text("utf-8").count('class="chart"')
    for width in (1280, 600):
        page = devtools.open(pages[name], width)
        found = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
        assert 0 not in found
        assert found.count(1195) == charts  # points as pixels


@pytest.mark.slow
def test_the_policy_and_the_escaping_hold_in_a_browser(devtools: DevTools, pages: dict[str, Path]) -> None:
    """The page's own markup runs nothing, and a script smuggled into it is not run either."""
    path = pages["hostile"]
    smuggled = path.with_name("smuggled.html")
    smuggled.write_text(path.read_text("utf-8").replace("</main>", f"{SCRIPT}</main>"), "utf-8")
    for page in (path, smuggled):
        title = devtools.open(page).evaluate("document.title")
        assert title == "Evaluation of 400 images in 10 classes"


@pytest.mark.slow
def test_the_page_prints(devtools: DevTools, pages: dict[str, Path]) -> None:
    assert devtools.open(pages["few"]).pdf().startswith(b"%PDF-")
