"""What holds for every kind of page, in Chromium: contrast in both themes, names, keyboard, widths, print."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from tests.report.browser import DevTools, contrast, text_contrasts
from tests.report.evaluations import BIRDS, evaluation

from fieldmarks import serve
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.evaluation.comparison import compare
from fieldmarks.records import APPROVED, CURATED, UNSURE, Entry
from fieldmarks.report import chart_style, comparison_page, evaluation_page
from fieldmarks.report.document import HERE, PALETTE, Imprint, write
from fieldmarks.report.result_page import ResultPage
from fieldmarks.report.search_page import duplicates_page, search_page
from fieldmarks.report.store_page import store_page
from fieldmarks.retrieval.duplicates import Duplicates
from fieldmarks.retrieval.searcher import Hit, SearchResult
from fieldmarks.store import Store
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lint_rules import Config
from fieldmarks.store.reviewing import review

pytest.importorskip("matplotlib")
Theme = Literal["light", "dark"]
KINDS = ("result", "evaluation", "comparison", "store", "search", "duplicates")
CONTRAST = 4.5  # WCAG 2.2, level AA, for text of every size
OF_CONTROLS = {"link", "button", "combobox", "DisclosureTriangle", "image", "region", "textbox"}


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    """An image with its marks, as an evaluation shows it."""
    return evaluation(BIRDS[:3], 30, seeds=2).examples[0].prediction


@pytest.fixture(scope="module")
def pages(prediction: Prediction, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind with all that it may show."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {kind: folder / f"{kind}.html" for kind in KINDS}
    imprint, failure = Imprint("Birds of May", "A. Finch"), Failure("broken.png", "cannot be read")
    result = ResultPage(list(BIRDS), {"Store": "birds.jsonl"}, imprint)
    for number, baseline in enumerate((prediction.scores[1], prediction.scores[0], None)):
        result.add(replace(prediction, image=f"{number}.png", baseline=baseline))
    result.add(replace(prediction, label=None, thumbnail=None))
    for number in range(14):
        result.add(replace(prediction, label=f"label {number}", thumbnail=None))
    result.add(failure)
    result.write(paths["result"])
    first, other = evaluation(BIRDS, 400, seeds=2), evaluation(BIRDS[:8], 400, seeds=2)
    evaluation_page.write_page(first, paths["evaluation"], imprint)
    runs = [("a.json", first), ("b.json", replace(first, arms=first.arms[::-1])), ("c.json", other)]
    comparison_page.write_page(compare(runs), paths["comparison"], imprint)
    write(paths["store"], store_page(_store(folder), Config(), imprint))
    images = [str(path) for path in _images(folder)]
    photos = EmbeddingSet(folder / "photos.emb")
    hits = [Hit(rank, image, 2.5 - rank, f"label {rank}") for rank, image in enumerate(images, 1)]
    found = SearchResult("'a red breast' and not 'snow'", tuple(hits), 3, 1_234)
    page = search_page(found, photos, like=images[:1], show_all=True, imprint=imprint)
    write(paths["search"], page.html)
    groups = [Duplicates("exact", tuple(images[:2]), 1.0), Duplicates("near", tuple(images[2:]), 0.98)]
    write(paths["duplicates"], duplicates_page(groups, photos, 1_234, 0.97, imprint).html)
    return paths


def _store(folder: Path) -> Store:
    """A store with all that its page may show: marks, findings, and other names."""
    store = Store(folder / "birds.jsonl", create=True)
    store.append(
        Entry("robin", ("a red breast", "may be brown"), origin=CURATED, note="common", by="A. Finch",
              ids=("n1",), confused_with=("wren", "owl"), rejected=("sings",)),
        Entry("wren", ("a cocked tail",)),
        Entry("owl", ()),
    )  # fmt: skip
    review(store, ["robin"], APPROVED, Stamp(by="A. Finch"))
    review(store, ["wren"], UNSURE, Stamp(by="A. Finch"))
    return store


def _images(folder: Path) -> list[Path]:
    """Image files, two of which cannot be read."""
    paths = [folder / f"{'long-name-' * number}{number}.png" for number in range(8)]
    for number, path in enumerate(paths[:6]):
        Image.new("RGB", (90 + 40 * number, 120), "seagreen").save(path)
    paths[6].write_text("no image")
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_text_has_contrast(devtools: DevTools, pages: dict[str, Path], kind: str, theme: Theme) -> None:
    page = devtools.open(pages[kind], theme=theme)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    found = text_contrasts(page)
    assert len(found) >= 4
    assert {pair: ratio for pair, ratio in found.items() if ratio < CONTRAST} == {}
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(250, 248, 242)", "dark": "rgb(18, 24, 21)"}[theme]


def _colours(css: str) -> dict[str, dict[str, str]]:
    light, _, dark = css.partition("@media screen and (prefers-color-scheme: dark)")
    return {
        theme: dict(re.findall(r"--([\w-]+): (#\w{6});", text))
        for theme, text in (("light", light), ("dark", dark))
    }


def test_both_themes_name_the_same_colours_and_texts_stand_out_from_every_ground() -> None:
    named = _colours(PALETTE.read_text("utf-8"))
    assert named["light"].keys() == named["dark"].keys()
    for theme, colours in named.items():
        for text in ("ink", "soft", "lead", "second", "other"):
            for ground in ("paper", "card"):
                assert contrast(colours[text], colours[ground]) >= CONTRAST, (theme, text, ground)
        for bar in ("bar", "bar-lead", "bar-second"):
            assert contrast(colours[bar], colours["card"]) >= 2.5, (theme, bar)


STYLES = [
    *(HERE / f"{kind}.css" for kind in ("card", "evaluation", "results", "search", "store")),
    Path(serve.__file__).with_name("page.css"),
]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.stem)
def test_the_style_of_one_kind_of_page_adds_no_colours(style: Path) -> None:
    css = style.read_text("utf-8")
    colours = re.findall(r"(?:color|background|fill): ([^;]+);", css)
    assert len(colours) >= 3
    assert [value for value in colours if not re.fullmatch(r"none|var\(--[\w-]+\)", value)] == []


def _inverted(colour: str) -> str:
    """Return a colour as `invert(1) hue-rotate(180deg)` shows it (Filter Effects, by the same matrix)."""
    red, green, blue = (255 - int(colour[at : at + 2], 16) for at in (1, 3, 5))
    turned = (
        -0.574 * red + 1.430 * green + 0.144 * blue,
        0.426 * red + 0.430 * green + 0.144 * blue,
        0.426 * red + 1.430 * green - 0.856 * blue,
    )
    return "#" + "".join(f"{round(min(255, max(0, part))):02x}" for part in turned)


def test_texts_of_charts_have_contrast_where_a_dark_page_inverts_them() -> None:
    named = _colours(PALETTE.read_text("utf-8"))
    for text in (chart_style.INK, chart_style.SOFT):
        assert contrast(text, named["light"]["card"]) >= CONTRAST
        assert contrast(_inverted(text), named["dark"]["card"]) >= CONTRAST


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_control_has_a_name(devtools: DevTools, pages: dict[str, Path], kind: str) -> None:
    nodes = devtools.open(pages[kind]).accessible()
    roles = {role for role, _ in nodes}
    assert "link" in roles
    assert ("image" in roles) == (kind != "store")
    assert ("combobox" in roles) == ("button" in roles) == (kind in ("result", "store"))
    assert [role for role, name in nodes if role in OF_CONTROLS and not name.strip()] == []
    assert len([name for role, name in nodes if role == "heading"]) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_headings_descend_by_steps(devtools: DevTools, pages: dict[str, Path], kind: str) -> None:
    page = devtools.open(pages[kind])
    levels: list[int] = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_keyboard_reaches_everything(devtools: DevTools, pages: dict[str, Path], kind: str) -> None:
    page = devtools.open(pages[kind])
    css = "a[href], summary, input, select, button, [tabindex='0']"
    reachable = f'[...document.querySelectorAll("{css}")].filter(e => e.checkVisibility()).length'
    stops = page.tab_stops()
    assert stops[0] == "Skip to the content"
    assert len(stops) == page.evaluate(reachable) > 5


@pytest.mark.slow
def test_the_skip_link_shows_itself_and_leads_past_the_head(
    devtools: DevTools, pages: dict[str, Path]
) -> None:
    page = devtools.open(pages["result"])
    left = "document.querySelector('.skip').getBoundingClientRect().left"
    assert page.evaluate(left) < 0
    page.press("Tab")
    assert page.evaluate(left) >= 0
    page.press("Enter")
    page.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 768, 360])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_the_screen(
    devtools: DevTools, pages: dict[str, Path], kind: str, width: int
) -> None:
    page = devtools.open(pages[kind], width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tables = (
        "[...document.querySelectorAll('table')].filter(e => e.scrollWidth > e.parentElement.clientWidth)"
    )
    assert page.evaluate(f"{tables}.length") == 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 768, 736, 360])
def test_a_chart_that_scrolls_says_so(devtools: DevTools, pages: dict[str, Path], width: int) -> None:
    page = devtools.open(pages["evaluation"], width)
    scrolls = page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.chart .scroll'))")
    hint = page.evaluate("getComputedStyle(document.querySelector('.chart'), '::after').content")
    assert (scrolls, hint != "none") == (width < 768, width < 768)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_paper_is_white_in_both_themes(devtools: DevTools, pages: dict[str, Path], kind: str) -> None:
    for theme in ("light", "dark"):
        page = devtools.open(pages[kind])
        features = [{"name": "prefers-color-scheme", "value": theme}]
        page.call("Emulation.setEmulatedMedia", media="print", features=features)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert min(text_contrasts(page).values()) >= CONTRAST
        page.call("Emulation.setEmulatedMedia", media="", features=[])
