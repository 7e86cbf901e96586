"""A pack: whole or not at all, with nothing that is private, and as its description says."""

import json
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import orjson
import pytest

from fieldmarks.errors import StoreError
from fieldmarks.paths import last_name, shipped_names
from fieldmarks.records import APPROVED, CURATED, GENERATED, IMPORTED, Entry
from fieldmarks.store import Store, edits
from fieldmarks.store.card import About, AccuracyTable, authors_of
from fieldmarks.store.edits import Stamp
from fieldmarks.store.exchange import import_file, read_file
from fieldmarks.store.pack import COLUMNS, pack, published
from fieldmarks.store.reviewing import review

parquet = pytest.importorskip("pyarrow.parquet")
yaml = import_module("yaml")

MEASURED = {"at": "2026", "data": "/home/ada/photos", "model": "C:\\Users\\ada\\clip", "preset": "article"}
FROG = Entry(
    "tree frog",
    ("round toe pads", "protruding eyes"),
    v=1,
    origin=GENERATED,
    prompt={"name": "article", "sha256": "ab"},
    model="/home/ada/models/lm",
    endpoint="http://10.0.0.7:8000/v1",
    answer="- round toe pads",
    by="ada",
    at="2026-01-02T03:04:05+00:00",
    measured={**MEASURED, "pictures": 3, "effects": []},
    ids=("n1",),
    confused_with=("newt",),
    position=7,
    extra={"own": {"key": 1}},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "frogs.jsonl", create=True)
    store.append(Entry("newt", ("a crest | of skin",), position=9), FROG)
    review(store, ["tree frog"], APPROVED, Stamp(by="bob"))
    return store


def _lines(folder: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (folder / "descriptors.jsonl").read_bytes().splitlines()]


def test_files_agree_with_each_other_and_with_the_store(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "pack"
    files = pack(store, folder, About(licence="cc0-1.0", authors=["Ada"]))
    assert sorted(file.name for file in files) == sorted(file.name for file in folder.iterdir())
    assert [path for path in folder.parent.iterdir() if path != folder] == []
    read = Store(folder / "descriptors.jsonl")
    assert read.names() == store.names() == ["tree frog", "newt"]
    rows = parquet.read_table(folder / "descriptors.parquet").to_pylist()
    assert [list(row) for row in rows] == [list(COLUMNS)] * 2
    assert [(row["class"], tuple(row["descriptors"])) for row in rows] == [
        (entry.name, entry.descriptors) for entry in store.entries()
    ]
    assert (rows[0]["prompt"], rows[0]["review"], rows[1]["ids"]) == ("article", "approved", [])
    described = json.loads((folder / "croissant.json").read_text())
    for file in described["distribution"]:
        content = (folder / file["contentUrl"]).read_bytes()
        assert (file["sha256"], file["contentSize"]) == (sha256(content).hexdigest(), f"{len(content)} B")
    other = Store(tmp_path / "other.jsonl", create=True)
    import_file(other, read_file(folder), Stamp())
    assert other.get("tree frog").extra == {"own": {"key": 1}}  # type: ignore[union-attr]


def test_what_is_private_stays_behind(store: Store, tmp_path: Path) -> None:
    pack(store, tmp_path / "pack", About())
    whole = b"".join(file.read_bytes() for file in (tmp_path / "pack").iterdir())
    for secret in (b"10.0.0.7", b"/home/ada", b"Users", str(store.path).encode()):
        assert secret not in whole
    frog = _lines(tmp_path / "pack")[0]
    assert frog["model"] == "lm"
    assert frog["answer"] == "- round toe pads"
    assert (frog["by"], frog["reviewed"]["by"]) == ("ada", "bob")  # type: ignore[index]
    assert not {"endpoint", "change", "position", "undo"} & frog.keys()
    assert "Addresses of endpoints" in (tmp_path / "pack" / "README.md").read_text()


def test_without_people_and_answers(store: Store, tmp_path: Path) -> None:
    pack(store, tmp_path / "pack", About(), authors=False, answers=False)
    whole = b"".join(file.read_bytes() for file in (tmp_path / "pack").iterdir())
    assert b"bob" not in whole
    assert b"- round toe pads" not in whole
    frog = _lines(tmp_path / "pack")[0]
    assert not {"by", "answer", "answers"} & frog.keys()
    assert frog["review"] == "approved"
    card = (tmp_path / "pack" / "README.md").read_text()
    assert "The names of those who wrote" in card
    assert "raw answers" in card


def test_the_card(store: Store, tmp_path: Path) -> None:
    measured = AccuracyTable("On 3 images.", ("arm", "top-1"), [("waffle | x", "50.0%")])
    about = About(
        "Frogs: *all*", "cc-by-4.0", "https://example.org/list", ["Ada Finch"], "en", {"FM302": 2}, measured
    )
    pack(store, tmp_path / "pack", about)
    _, header, text = (tmp_path / "pack" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header) == {
        "license": "cc-by-4.0",
        "pretty_name": "Frogs: *all*",
        "language": ["en"],
        "tags": [
            "image-classification",
            "zero-shot-image-classification",
            "descriptors",
            "clip",
            "fieldmarks",
        ],
        "task_categories": ["zero-shot-image-classification"],
        "size_categories": ["n<1K"],
        "configs": [{"config_name": "default", "data_files": "descriptors.parquet"}],
    }
    for line in (
        "# Frogs: \\*all\\*",
        "| descriptors | 3 |",
        "| model | lm (1), no model (1) |",
        "| review | approved (1), not reviewed (1) |",
        "| authors | Ada Finch |",
        "| licence | cc-by-4.0 |",
        "| waffle \\| x | 50.0% |",
        "| FM302 | 2 |",
    ):
        assert line in text.splitlines()


def test_imported_lists_need_a_licence(store: Store, tmp_path: Path) -> None:
    import_file(store, [Entry("owl", ("big eyes",), origin=IMPORTED)], Stamp())
    edits.add(store, "owl", ["a hooked beak"], Stamp())  # which makes the line a curated one
    with pytest.raises(StoreError, match=r"has imported lists \('owl'\): find out the licence .* --licence"):
        pack(store, tmp_path / "pack", About())
    assert not (tmp_path / "pack").exists()
    pack(store, tmp_path / "pack", About(licence="mit"))
    edits.remove(store, "owl", Stamp())
    pack(store, tmp_path / "other", About())


def test_nothing_is_overwritten(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link", "frogs.jsonl"):
        with pytest.raises(StoreError, match=f"{name} already exists: choose another name"):
            pack(store, tmp_path / name, About())
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(StoreError, match="has no class: fill it"):
        pack(Store(tmp_path / "none.jsonl", create=True), tmp_path / "pack", About())
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/pack cannot be written"):
        pack(store, tmp_path / "file" / "pack", About())
    assert not (tmp_path / "pack").exists()


def test_last_names() -> None:
    places = ("/a/b/c", "C:\\a\\c", "\\\\host\\share\\c", "org/c", "c@1f", "gpt-4.1")
    assert [last_name(place) for place in places] == ["c", "c", "c", "org/c", "c@1f", "gpt-4.1"]
    assert published(Entry("x"), authors=True, answers=True) == Entry("x")
    assert authors_of([FROG, Entry("x", by="bob"), Entry("y")]) == ["ada", "bob"]


def _check_with_croissant(folder: Path, store: Store) -> None:
    croissant = pytest.importorskip("mlcroissant")
    dataset = croissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert dataset.metadata.ctx.issues.errors == set()
    assert dataset.metadata.ctx.issues.warnings == set()
    records = list(dataset.records("classes"))
    assert [
        (record["classes/class"].decode(), tuple(text.decode() for text in record["classes/descriptors"]))
        for record in records
    ] == [(entry.name, entry.descriptors) for entry in store.entries()]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the libraries that the checker loads
def test_the_description_is_croissant(store: Store, tmp_path: Path) -> None:
    store.append(Entry("empty", (), origin=CURATED), Entry("蛙", ("绿色",), note="n"))
    about = About("Frogs {all}", "cc0-1.0", "https://example.org/list", ["Ada Finch"], "en")
    pack(store, tmp_path / "pack", about)
    _check_with_croissant(tmp_path / "pack", store)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", shipped_names())
def test_shipped_stores_pack_cleanly(name: str, tmp_path: Path) -> None:
    pack(Store(name), tmp_path / name, About(licence="cc0-1.0"))
    _check_with_croissant(tmp_path / name, Store(name))
