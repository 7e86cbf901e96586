"""A store as rows and numbers."""

from pathlib import Path

import pytest

from fieldmarks.errors import ClassNameError, StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, Entry
from fieldmarks.store import Store, queries
from fieldmarks.store.lint_rules import Config


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.jsonl", create=True)
    usage, prompt = {"prompt_tokens": 7, "completion_tokens": 3}, {"name": "article"}
    store.append(
        Entry("frog", ("a b", "may c"), origin=GENERATED, model="m", prompt=prompt, usage=usage),
        Entry("frog", ("a b", "may c", "d"), origin=CURATED, rejected=("x", "y")),
        Entry("toad", origin=FAILED, usage=usage),
        Entry("newt", ("Crest",)),
        Entry("gone", ("x",)),
        Entry("gone", removed=True),
    )
    return store


def test_rows(store: Store) -> None:
    rows = queries.rows(store, Config())
    assert [row.to_dict() for row in rows] == [
        {
            "class": "frog",
            "descriptors": 3,
            "origin": "curated",
            "flags": ["FM302"],
            "effect": None,
            "review": None,
        },
        {"class": "newt", "descriptors": 1, "origin": "typed", "flags": [], "effect": None, "review": None},
    ]
    assert [row.name for row in queries.rows(store, Config(), flagged=True)] == ["frog"]
    assert [row.name for row in queries.rows(store, Config(frozenset({"FM302"})), flagged=True)] == []
    assert [row.name for row in queries.rows(store, Config(), grep="^crest$")] == ["newt"]
    assert [row.name for row in queries.rows(store, Config(), grep="FRO")] == ["frog"]
    with pytest.raises(StoreError, match=r"'\(' is not a regular expression"):
        queries.rows(store, Config(), grep="(")


def test_missing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\ufefftoad\r\n\nfrog\ngone\nlion\n", "utf-8")
    assert queries.missing(store, tmp_path / "classes.txt") == ["toad", "gone", "lion"]
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(ClassNameError, match="contains no class name"):
        queries.missing(store, tmp_path / "classes.txt")
    with pytest.raises(StoreError, match=r"none\.txt cannot be read"):
        queries.missing(store, tmp_path / "none.txt")


def test_one_class(store: Store) -> None:
    entry, flags = queries.show(store, " frog ", Config())
    assert (entry.descriptors, [(finding.rule.code, finding.number) for finding in flags]) == (
        ("a b", "may c", "d"),
        [("FM302", 2)],
    )
    assert [entry.origin for entry in queries.history(store, "frog")] == [GENERATED, CURATED]
    assert len(queries.history(store, "gone")) == 2
    with pytest.raises(StoreError, match="has no class 'frogs': did you mean 'frog'"):
        queries.show(store, "frogs", Config())


def test_stats(store: Store, tmp_path: Path) -> None:
    assert queries.stats(store, Config()) == {
        "classes": 2,
        "descriptors": 4,
        "per_class": {"min": 1, "median": 2.0, "max": 3},
        "lines": 6,
        "failed": 1,
        "ended": 2,
        "rejected": 2,
        "tokens": 20,
        "review": {"none": 2},
        "origins": {"curated": 1, "typed": 1},
        "models": {},
        "prompts": {},
        "flags": {"FM302": 1},
    }
    (tmp_path / "empty.jsonl").touch()
    assert queries.stats(Store(tmp_path / "empty.jsonl"), Config())["per_class"] == {}
