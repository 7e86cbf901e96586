"""Import, export, copy, salvage: exact, and nothing overwritten unasked."""

from pathlib import Path

import pytest

from fieldmarks.classification.result_files import text_of
from fieldmarks.classification.results import Explanation, Failure, Mark, Prediction, Score
from fieldmarks.errors import DamagedStoreError, StoreError
from fieldmarks.records import CURATED, GENERATED, IMPORTED, Entry
from fieldmarks.store import Store, exchange
from fieldmarks.store.card import About, card
from fieldmarks.store.edits import Stamp

STAMP = Stamp(by="ada", at="2026-01-02T03:04:05+00:00", change="c1")
LINES = (
    Entry(
        "frog",
        ("a", "a", ""),
        v=1,
        origin=GENERATED,
        model="m|`x`",
        prompt={"name": "article"},
        extra={"k": [1]},
    ),
    Entry("empty", origin=CURATED, rejected=("z",)),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(*LINES)
    return store


@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.tsv", "x.JSON", "folder"])
def test_what_is_exported_is_imported(tmp_path: Path, store: Store, name: str) -> None:
    path = tmp_path / name
    exchange.export_file(store, path, exchange.kind_of_file(path, None), license_id="mit")
    other = Store(tmp_path / "other.jsonl", create=True)
    changes = exchange.import_file(other, exchange.read_file(path), STAMP)
    assert [change.name for change in changes] == ["frog", "empty"]
    assert [(entry.name, entry.descriptors) for entry in other.entries()] == [
        (entry.name, entry.descriptors) for entry in LINES
    ]
    if name == "folder":
        assert [entry.extra for entry in other.entries()] == [{"k": [1]}, {}]
        assert [entry.origin for entry in other.entries()] == [GENERATED, CURATED]
    else:
        assert other.get("frog") == Entry(
            "frog",
            ("a", "a", ""),
            v=1,
            origin=IMPORTED,
            by="ada",
            at="2026-01-02T03:04:05+00:00",
            change="import-c1",
        )
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_the_card(store: Store) -> None:
    text = card(list(store.entries()), About(licence="cc-by-4.0"), data="x.jsonl")
    assert text.splitlines()[:2] == ["---", 'license: "cc-by-4.0"']
    assert "| descriptors | 3 |" in text
    assert r"| model | m\|\`x\` (1), no model (1) |" in text
    assert "| prompt | article (1), no prompt (1) |" in text
    curated = card([Entry("owl", ("eyes",), origin=CURATED)], About(), data="x.jsonl")
    assert "| origin | curated (1) |" in curated
    assert not [row for row in ("| model", "| prompt", "| review") if row in curated]


def test_nothing_is_overwritten_unasked(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.json"
    path.write_text("mine")
    with pytest.raises(StoreError, match=r"x\.json already exists: choose another name, or pass --force"):
        exchange.export_file(store, path, "json", license_id="")
    assert path.read_text() == "mine"
    exchange.export_file(store, path, "json", license_id="", force=True)
    assert exchange.read_file(path)[0].descriptors == ("a", "a", "")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "README.md").write_text("mine")
    with pytest.raises(StoreError, match=r"folder already exists: choose another name, or pass --force"):
        exchange.export_file(store, tmp_path / "folder", "folder", license_id="")
    with pytest.raises(StoreError, match=r"folder/README\.md is not a card that fieldmarks wrote"):
        exchange.export_file(store, tmp_path / "folder", "folder", license_id="", force=True)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["README.md"]
    assert (tmp_path / "folder" / "README.md").read_text() == "mine"
    for force in (False, True):
        exchange.export_file(store, tmp_path / "own", "folder", license_id="", force=force)
    with pytest.raises(StoreError, match="already exists"):
        exchange.copy_store(store, store.path)
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match="is the store itself, whose history would be lost"):
        exchange.export_file(store, store.path, "json", license_id="", force=True)
    assert store.path.read_bytes() == before


def test_importing_over_other_descriptors_is_asked_for(store: Store) -> None:
    new = [Entry("frog", ("b",), origin=IMPORTED), Entry("newt", ("c",), origin=IMPORTED)]
    before = store.path.read_bytes()
    with pytest.raises(
        StoreError, match="has other descriptors for 'frog': pass --replace to make the new ones current"
    ):
        exchange.import_file(store, new, STAMP)
    assert store.path.read_bytes() == before
    changes = exchange.import_file(store, new, STAMP, overwrite=True)
    assert [change.name for change in changes] == ["frog", "newt"]
    assert exchange.import_file(store, new, STAMP) == []
    assert store.path.read_bytes().startswith(before)


def test_an_imported_answer_replaces_a_persons_line_if_asked_to(store: Store) -> None:
    store.append(Entry("frog", ("person",), origin=CURATED))
    exchange.import_file(store, [Entry("frog", ("answer",), origin=GENERATED)], STAMP, overwrite=True)
    frog = store.get("frog")
    assert frog is not None
    assert frog.descriptors == ("answer",)
    assert len(store.history("frog")) == 4


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.json", b"\xff", r"x\.json, line 1: byte 0xFF is not UTF-8"),
        ("x.json", b"[]", r"x\.json: expected an object"),
        ("x.xlsx", b"", r"x\.xlsx is empty: expected the columns class and descriptor"),
        (
            "x.xlsx",
            b"PK\x03\x04",
            r"x\.xlsx is a zip archive: unpack it",
        ),
        ("x", b"a\nb", r"x, line 1: expected 2 columns \(class, descriptor\), found 1"),
    ],
)
def test_files_that_cannot_be_imported(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StoreError, match=message):
        exchange.read_file(tmp_path / name)
    with pytest.raises(StoreError, match=r"none\.json cannot be read"):
        exchange.read_file(tmp_path / "none.json")


def test_a_copy_has_the_history(tmp_path: Path, store: Store) -> None:
    store.append(Entry("frog", ("new",)))
    exchange.copy_store(store, tmp_path / "new" / "copy.jsonl")
    assert (tmp_path / "new" / "copy.jsonl").read_bytes() == store.path.read_bytes()


def test_salvage_copies_what_is_whole_and_tells_the_rest(tmp_path: Path, store: Store) -> None:
    good = store.path.read_bytes()
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(
        b"\xef\xbb\xbf" + good + b"garbage\n\n" + b"\0" * 9_000_000 + b'\n{"class": "newt"}\r\n{"cla'
    )
    with pytest.raises(DamagedStoreError):
        Store(damaged)
    before = damaged.read_bytes()
    whole, lost = exchange.salvage(damaged, tmp_path / "whole.jsonl")
    assert (whole, lost) == (3, [3, 5, 7])
    assert Store(tmp_path / "whole.jsonl").names() == ["frog", "empty", "newt"]
    assert (tmp_path / "whole.jsonl").read_bytes() == good + b'{"class": "newt"}\n'
    assert damaged.read_bytes() == before
    with pytest.raises(StoreError, match="already exists"):
        exchange.salvage(damaged, tmp_path / "whole.jsonl")


def test_salvage_leaves_a_newer_version_alone(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_bytes(b'{"class": "x", "v": 9}\n')
    with pytest.raises(StoreError, match=r"line 1: version 9 is newer"):
        exchange.salvage(tmp_path / "new.jsonl", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_shipped_store_copied_is_ones_own(tmp_path: Path) -> None:
    exchange.copy_store(Store("frogs"), tmp_path / "mine.jsonl")
    mine = Store(tmp_path / "mine.jsonl")
    mine.append(Entry("newt"))
    assert mine.names() == ["tree frog", "bullfrog", "newt"]


@pytest.mark.parametrize(
    "name", ["all.csv", "all.jsonl", "out.jsonl", "metadata.csv", "run.json", "manifest.json"]
)
def test_what_other_commands_write_is_not_taken_for_classes(tmp_path: Path, name: str) -> None:
    scores = (Score("owl", 0.9, 2.0), Score("newt", 0.1, 1.0))
    mark = Mark("owl", "big eyes", 2.0)
    results: list[Prediction | Failure] = [
        Prediction("a.png", "owl", scores, None, Explanation((mark,), (), None)),
        Failure("b.png", "why"),
    ]
    lines = "".join(text_of("jsonl", results))
    csv_text = "".join(text_of("csv", results))
    content = {
        "all.csv": csv_text,
        "all.jsonl": lines,
        "out.jsonl": '{"fieldmarks":"results","version":1,"identity":"ab","settings":{}}\n' + lines,
        "metadata.csv": csv_text.replace("image", "file_name", 1),
        "run.json": '{"v": 1, "settings": {"store": ["a"]}, "arms": {}}',
        "manifest.json": '{"model": ["a"], "fingerprint": ["b"], "dtype": ["c"]}',
    }
    (tmp_path / name).write_text(content[name], encoding="utf-8")
    with pytest.raises(
        StoreError, match=r"from `fieldmarks \w+`, which holds no descriptors: pass a file of"
    ):
        exchange.read_file(tmp_path / name)
    if name == "all.csv":  # as whoever insists says
        assert exchange.read_file(tmp_path / name, columns=("label", "marks"))[0].name == "owl"
