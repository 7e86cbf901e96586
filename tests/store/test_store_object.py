"""A store in Python: its documented examples run, and it shows itself in a notebook and as a table."""

import doctest
import importlib
import sys
from pathlib import Path

import pytest

from fieldmarks.errors import StoreError
from fieldmarks.records import Entry
from fieldmarks.store import Store


@pytest.mark.parametrize("module", ["fieldmarks.records", "fieldmarks.store.file", "fieldmarks.choices"])
def test_the_examples_in_docstrings_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module))
    assert (result.failed, result.attempted > 0) == (0, True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(
        Entry("frog <b>", ("webbed & wet",), origin="generated", model="m"), Entry("newt", ("a crest", "x"))
    )
    return store


def test_a_store_shows_itself_escaped(store: Store) -> None:
    assert repr(store) == f"<Store {store.path}: 2 classes>"
    shown = store._repr_html_()
    assert "<tr><th>frog &lt;b&gt;</th><td>webbed &amp; wet</td></tr>" in shown
    assert "<tr><th>newt</th><td>a crest; x</td></tr>" in shown


def test_a_large_store_is_shown_in_part(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(*(Entry(f"class {number}", ("x",)) for number in range(1000)))
    assert "1,000 classes" in store._repr_html_()
    assert store._repr_html_().count("<tr>") == 21


def test_a_table_has_a_row_per_class(store: Store, tmp_path: Path) -> None:
    frame = store.to_pandas()
    assert list(frame["class"]) == ["frog <b>", "newt"]
    assert list(frame["descriptors"]) == [["webbed & wet"], ["a crest", "x"]]
    assert frame["model"].isna().tolist() == [False, True]
    assert len(frame.explode("descriptors")) == 3
    assert list(Store(tmp_path / "none.jsonl", create=True).to_pandas().columns) == ["class", "descriptors"]


def test_without_pandas_the_error_says_what_to_install(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(StoreError, match="needs pandas: install it with `pip install pandas`"):
        store.to_pandas()
