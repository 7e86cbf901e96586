"""A store as a page: everything is there without a script, and a script filters it."""

from pathlib import Path

import pytest
from tests.report.browser import DevTools, Outline
from tests.report.conftest import HOSTILE

from fieldmarks.records import APPROVED, CURATED, GENERATED, UNSURE, Entry
from fieldmarks.report.document import Imprint, check, write
from fieldmarks.report.store_page import store_page
from fieldmarks.store import Store
from fieldmarks.store.descriptor_effects import DescriptorEffect, write_effects
from fieldmarks.store.edits import Stamp
from fieldmarks.store.lint_rules import Config
from fieldmarks.store.reviewing import review

ADA = Stamp(by="Ada Finch", at="2026-01-02T03:04:05+00:00", note="in the museum")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "frogs.jsonl", create=True)
    store.append(
        Entry("newt", ("a crest",), origin=GENERATED, model="some-lm", position=2),
        Entry(
            "tree frog", ("round toe pads", "may be green"), origin=CURATED, by="bob", note="from photos",
            ids=("n01644373",), confused_with=("newt", "bullfrog"), rejected=("croaks",), position=1,
        ),
        Entry("toad", ()),
    )  # fmt: skip
    review(store, ["tree frog"], APPROVED, ADA)
    review(store, ["newt"], UNSURE, Stamp(by="bob"))
    metadata = {"data": "pond", "model": "clip", "preset": "article", "pictures": 500}
    write_effects(store, {"newt": [DescriptorEffect("a crest", 0.002, 0.1, 9)]}, metadata, Stamp())
    return store


def test_what_the_page_says(store: Store) -> None:
    page = store_page(store, Config(), Imprint("Frogs of Borneo", "A. Finch"))
    text = " ".join(Outline(page).text.split())
    assert "Frogs of Borneo Descriptors of 3 classes Author A. Finch" in text
    assert (
        "Descriptors 3 Reviewed 1 approved, 1 unsure, 1 open Lint 2 classes with findings Model some-lm"
        in text
    )
    assert text.index("tree frog approved") < text.index("newt unsure") < text.index("No descriptors.")
    assert "may be green warning hedge: it says 'may'" in text
    assert "a crest +0.2" in text
    assert "Review approved, Ada Finch, 2026-01-02, in the museum" in text
    assert "Origin curated, bob" in text
    assert "Confused with newt , bullfrog Also called n01644373 Note from photos Removed croaks" in text
    assert "Effects points of accuracy on 500 images of pond" in text
    assert "error empty-list" in text
    links = [attributes["href"] for tag, attributes in Outline(page).seen if tag == "a"]
    ids = {attributes.get("id") for _, attributes in Outline(page).seen}
    assert {link[1:] for link in links if link} <= ids
    assert links.count("#class-2") == 2  # in the index, and from the tree frog


def test_everything_is_escaped(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    name = "<script>alert(1)</script>\"'&"
    texts = (HOSTILE, "</style><script>alert(2)</script>")
    store.append(
        Entry(name, texts, note=HOSTILE, by=HOSTILE, model=HOSTILE, origin=GENERATED, ids=texts,
              confused_with=texts, rejected=texts)
    )  # fmt: skip
    review(store, [name], UNSURE, Stamp(by=HOSTILE, note=HOSTILE))
    outline = Outline(store_page(store, Config()))
    assert [tag for tag, _ in outline.seen if tag in ("script", "img", "iframe")] == ["script"]
    assert "\u202e" not in outline.text.replace("\\u202e", "")


def test_an_empty_store_and_one_class(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    assert "This store has no class." in store_page(store, Config())
    store.append(Entry("x", ("y",)))
    assert 'id="filters"' not in store_page(store, Config())


def test_a_page_is_replaced_and_nothing_else_is(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        check(tmp_path / "page.html")
        write(tmp_path / "page.html", store_page(store, Config()))
    with pytest.raises(Exception, match="already exists and is not a fieldmarks report"):
        check(store.path)


@pytest.mark.slow
def test_the_filter(devtools: DevTools, store: Store, tmp_path: Path) -> None:
    write(tmp_path / "page.html", store_page(store, Config()))
    visible = "[...document.querySelectorAll('.class')].filter(node => node.offsetParent)"
    shown = f"{visible}.map(node => node.id.slice(6)).join(' ')"
    type_in = (
        "(text => { const box = document.getElementById('words'); box.value = text;"
        " box.dispatchEvent(new Event('input')); })"
    )
    choose = (
        "(value => { const box = document.getElementById('which'); box.value = value;"
        " box.dispatchEvent(new Event('change')); })"
    )
    page = devtools.open(tmp_path / "page.html", scripts=False)
    assert page.evaluate(shown) == "1 2 3"
    assert page.evaluate("document.getElementById('filters').offsetParent === null")
    devtools.open(tmp_path / "page.html")
    assert page.evaluate(shown) == "1 2 3"
    for text, classes in (("TOE", "1"), ("newt", "2"), ("museum", ""), ("", "1 2 3")):
        page.evaluate(f"{type_in}({text!r})")
        assert page.evaluate(shown) == classes
    for value, classes in (("open", "2 3"), ("unsure", "2"), ("approved", "1"), ("flagged", "1 3")):
        page.evaluate(f"{choose}({value!r})")
        assert page.evaluate(shown) == classes
    assert page.evaluate("document.getElementById('count').textContent") == "2 of 3 classes"
    page.evaluate("document.querySelector('#filters button').click()")
    page.evaluate("new Promise(done => setTimeout(done, 50))")
    assert page.evaluate(shown) == "1 2 3"
    kinds = ("searchbox", "combobox", "button")
    assert {(role, name) for role, name in page.accessible() if role in kinds} == {
        ("searchbox", "Find in names and descriptors"),
        ("combobox", "Show"),
        ("button", "Show all"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 768, 360])
def test_nothing_is_wider_than_the_screen(
    devtools: DevTools, store: Store, tmp_path: Path, width: int
) -> None:
    store.append(Entry("x" * 300, ("y" * 400,), ids=("z" * 300,)))
    write(tmp_path / "page.html", store_page(store, Config()))
    assert devtools.open(tmp_path / "page.html", width).width() <= width
