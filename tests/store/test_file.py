"""The store keeps what it acknowledged, says what is wrong with a file, and changes no byte unasked."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmarks.errors import DamagedStoreError, StoreError
from fieldmarks.records import CURATED, FAILED, GENERATED, IMPORTED, Entry
from fieldmarks.store import Store
from fieldmarks.store.compare import compact
from fieldmarks.store.lines import current

FROG = b'{"class": "frog", "descriptors": ["webbed feet"]}\n'
TOAD = (
    '{"class": "töad", "descriptors": ["dry skin ·", "\\"short\\" legs"], "n": [1, {"a": null}]}\n'.encode()
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.jsonl"


def test_a_line_typed_by_hand(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(FROG)
    store = Store(file)
    assert (store.names(), len(store), "frog" in store, "toad" in store) == (["frog"], 1, True, False)
    assert store.get("frog") == Entry("frog", ("webbed feet",))
    assert store.get("toad") is None
    assert store.history("toad") == []
    assert caplog.messages == []


def test_appending_is_seen_at_once_and_by_others(file: Path) -> None:
    store = Store(file, create=True)
    assert not file.exists()
    store.append(Entry("frog", ("a",)), Entry("toad", ("b",)))
    store.append(Entry("frog", ("c",)))
    for opened in (store, Store(file)):
        assert [entry.descriptors for entry in opened.entries()] == [("c",), ("b",)]
        assert [entry.descriptors for entry in opened.history("frog")] == [("a",), ("c",)]
        assert [entry.name for entry in opened.newest_first()] == ["frog", "toad", "frog"]


def test_ids_are_those_of_the_newest_line_that_has_any_and_of_one_class_alone(file: Path) -> None:
    store = Store(file, create=True)
    store.append(
        Entry("owl", ("a",), ids=("n01", "both")),
        Entry("eagle", ("b",), ids=("n02", "both")),
        Entry("newt", ("c",), ids=("old",)),
        Entry("newt", ("c",), ids=("n03",)),
        Entry("owl", ("d",)),
        Entry("eagle", removed=True),
    )
    assert store.ids() == {"n01": "owl", "both": "owl", "n03": "newt"}
    store.append(Entry("eagle", ("b",)))
    assert store.ids() == {"n01": "owl", "n02": "eagle", "n03": "newt"}
    assert store.owners_of_ids()["both"] == ["owl", "eagle"]


def test_appending_nothing_makes_no_file(file: Path) -> None:
    Store(file, create=True).append()
    assert not file.exists()


def test_unknown_keys_and_large_numbers_survive(file: Path) -> None:
    file.write_bytes(
        b'{"class":"x","descriptors":[],"huge":123456789012345678901234567890,"deep":{"a":[1.5]}}\n'
    )
    store = Store(file)
    entry = store.get("x")
    assert entry is not None
    store.append(entry)
    assert Store(file).history("x")[1].extra == {
        "huge": 123456789012345678901234567890,
        "deep": {"a": [1.5]},
    }


ORIGINS = st.sampled_from([None, GENERATED, CURATED, IMPORTED, FAILED])
LINES = st.builds(
    Entry,
    name=st.sampled_from(["frog", "toad", "newt"]),
    descriptors=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=2).map(
        tuple
    ),
    origin=ORIGINS,
    v=st.sampled_from([None, 1]),
    removed=st.booleans(),
    undo=st.booleans(),
    extra=st.dictionaries(st.sampled_from(["x", "ä"]), st.none() | st.integers() | st.text(max_size=3)),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(LINES, max_size=12))
def test_the_index_agrees_with_the_rule_on_entries(tmp_path: Path, entries: list[Entry]) -> None:
    file = tmp_path / "law.jsonl"
    file.unlink(missing_ok=True)
    Store(file, create=True).append(*entries)
    file.touch()
    store = Store(file)
    for name in ("frog", "toad", "newt"):
        history = [entry for entry in entries if entry.name == name]
        assert store.history(name) == history
        assert store.get(name) == current(history)
    assert [entry for _, entry in store.lines()] == entries
    assert [entry.name for entry in store.entries()] == store.names()


def _history(*kinds: str) -> list[Entry]:
    entries = {
        "person": Entry("x", origin=CURATED),
        "answer": Entry("x", origin=GENERATED),
        "failure": Entry("x", origin=FAILED),
        "end": Entry("x", removed=True),
        "restored": Entry("x", origin=GENERATED, undo=True),
    }
    return [entries[kind] for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "position"),
    [
        ([], None),
        (["answer", "answer"], 1),
        (["person", "answer"], 0),
        (["answer", "failure"], 0),
        (["failure"], None),
        (["person", "end"], None),
        (["person", "end", "answer"], 2),
        (["person", "answer", "restored"], 2),
        (["person", "restored", "answer"], 2),
        (["person", "restored", "failure"], 1),
        (["restored", "person", "answer"], 1),
    ],
)
def test_which_line_is_current(kinds: list[str], position: int | None) -> None:
    history = _history(*kinds)
    line = current(history)
    assert line is (None if position is None else history[position])


@pytest.mark.parametrize("cut", range(len(TOAD) + 1))
def test_a_cut_at_every_byte_of_the_last_line(file: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(FROG + TOAD[:cut])
    whole = cut >= len(TOAD) - 1
    store = Store(file)
    assert store.names() == ["frog", "töad"][: 1 + whole]
    assert bool(caplog.messages) == (cut > 0 and not whole)
    assert file.read_bytes() == FROG + TOAD[:cut], "reading changes nothing"
    store.append(Entry("newt", ("crest",)))
    torn = file.with_name("store.jsonl.torn")
    assert (torn.read_bytes() if torn.exists() else None) == (
        None if whole or not cut else TOAD[:cut] + b"\n"
    )
    assert Store(file).names() == ["frog", "töad", "newt"] if whole else ["frog", "newt"]
    assert file.read_bytes().startswith(FROG + (TOAD if whole else b""))
    caplog.clear()
    Store(file)
    assert caplog.messages == []


def test_a_crash_can_leave_nulls(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(FROG + TOAD[:30] + b"\0" * 500)
    store = Store(file)
    ignored = "ignored an incomplete last line (530 bytes)"
    assert caplog.messages == [f"{file}: {ignored}; fix the line, or the next change moves it to {file}.torn"]
    store.append(Entry("newt"))
    assert file.read_bytes() == FROG + b'{"class":"newt","descriptors":[]}\n'


HALF = b'{"class": "toad", "descriptors": ["warty skin"]'


def test_a_line_typed_without_its_end_is_set_aside_by_every_change(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for change in (lambda store: store.append(Entry("newt")), compact):
        file.write_bytes(FROG + HALF)
        store = Store(file)
        change(store)
        moved = f"{file}: moved the incomplete last line ({len(HALF)} bytes) to {file}.torn"
        assert caplog.messages[-1] == moved
        caplog.clear()
        Store(file)
        assert caplog.messages == []
    assert file.with_name("store.jsonl.torn").read_bytes() == 2 * (HALF + b"\n")


@pytest.mark.parametrize("change", [lambda store: store.append(Entry("newt")), compact])
def test_a_line_that_cannot_be_set_aside_stays(file: Path, change: Callable[[Store], object]) -> None:
    file.write_bytes(FROG + HALF)
    file.with_name("store.jsonl.torn").symlink_to("/dev/null")
    with pytest.raises(StoreError, match=r"cannot be moved to .*store\.jsonl\.torn: "):
        change(Store(file))
    assert file.read_bytes() == FROG + HALF


def test_a_line_written_by_another_name_meanwhile_stays(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other name has a lock of its own."""
    file.write_bytes(FROG)
    link = file.with_name("link.jsonl")
    link.hardlink_to(file)
    store, other = Store(file), Store(link)

    def make(now: Store) -> list[Entry]:
        if "newt" not in now:
            other.append(Entry("newt"))
        return [Entry("toad")]

    store.change(make)
    assert Store(file).names() == ["frog", "newt", "toad"]
    advice = "use only one of its names, because each has its own lock"
    messages = [message for message in caplog.messages if message.startswith(f"{file} ")]
    assert messages == [f"{file} has 2 hard links: {advice}"], "once, however many appends"


def test_a_slip_in_a_typed_last_line_is_not_cut_off(file: Path) -> None:
    file.write_bytes(FROG + b'{"class": "toad", "descriptors": ["a",]}')
    with pytest.raises(DamagedStoreError, match=r"store\.jsonl, line 2: not JSON"):
        Store(file)


@pytest.mark.parametrize(
    "data",
    [b"\xef\xbb\xbf" + FROG + TOAD, (FROG + TOAD).replace(b"\n", b"\r\n"), b"\n" + FROG + b" \n\n" + TOAD],
)
def test_what_windows_and_people_leave_is_tolerated_and_kept(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    store = Store(file)
    assert store.names() == ["frog", "töad"]
    assert store.get("frog") == Entry("frog", ("webbed feet",))
    store.append(Entry("newt"))
    assert file.read_bytes() == data + b'{"class":"newt","descriptors":[]}\n'


def _line(text: str) -> bytes:
    return text.encode() + b"\n"


BAD = {
    "not JSON": _line("frog: webbed feet"),
    "expected an object in braces, found list": _line("[]"),
    "a line has NUL bytes": b'{"class": "a\0b"}\n',
    "'class' is missing": _line("{}"),
    "'class' has the wrong type": _line('{"class": 5}'),
    "'descriptors' has the wrong type": _line('{"class": "x", "descriptors": "a"}'),
    "'v' has the wrong type": _line('{"class": "x", "v": "1"}'),
    "'removed' has the wrong type": _line('{"class":"x","descriptors":[],"removed":1}'),
    "a class name is empty": _line('{"class": " "}'),
    "has the control character": _line('{"class": "a\\nb"}'),
    "the key 'descriptors' occurs twice": _line('{"class":"x","descriptors":["a"],"descriptors":[]}'),
    "the key 'class' occurs twice": _line('{"class": "x", "cl\\u0061ss": "y"}'),
    "the key 'class' occurs twice: keep": _line(
        '{"class":"x","class":5,"descriptors":[],"v":1,"origin":"failed"}'
    ),
    "the key 'a' occurs twice": _line('{"class":"x","new":[{"a":1,"a":1}]}'),
    "nested too deeply": _line('{"class":"x","new":' + "[" * 300 + "]" * 300 + "}"),
    "the limit is 8,388,608": _line('{"class":"x","answer":"' + "a" * 10_000_000 + '"}'),
    "not JSON: .*UTF-8": b'{"class": "\xff"}\n',
}


@pytest.mark.parametrize(("message", "line"), BAD.items(), ids=[key[:30] for key in BAD])
def test_damage_names_file_and_line_and_changes_nothing(file: Path, message: str, line: bytes) -> None:
    file.write_bytes(FROG + b"\n" + line + TOAD)
    with pytest.raises(DamagedStoreError, match=message) as caught:
        Store(file)
    assert str(caught.value).startswith(f"{file}, line 3: ")
    assert len(str(caught.value)) < 500
    assert file.read_bytes() == FROG + b"\n" + line + TOAD


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b'"model":7}', "line 2: 'model' has the wrong type: 7"),
        (b'"descriptors":["b"]}', "line 2: the key 'descriptors' occurs twice"),
        (b'"class":"x"}', "line 2: the key 'class' occurs twice"),
        (b'"rejected":[1]}', r"line 2: 'rejected' has the wrong type: \[1\]"),
        (b'"samples":[5]}', "line 2: 'samples' has the wrong type"),
    ],
)
def test_the_rest_of_a_written_line_is_checked_when_it_is_read(file: Path, tail: bytes, message: str) -> None:
    file.write_bytes(FROG + b'{"class":"x","descriptors":[],"v":1,"origin":"generated",' + tail + b"\n")
    store = Store(file)
    for read in (lambda: store.get("x"), lambda: list(store.entries()), lambda: list(store.lines())):
        with pytest.raises(DamagedStoreError, match=message):
            read()


def test_a_newer_version_is_refused_not_damaged(file: Path) -> None:
    data = FROG + _line('{"class": "x", "v": 2, "descriptors": {"new": "shape"}}')
    file.write_bytes(data)
    with pytest.raises(
        StoreError, match="line 2: version 2 is newer than 1: use a newer fieldmarks"
    ) as caught:
        Store(file)
    assert not isinstance(caught.value, DamagedStoreError)
    assert file.read_bytes() == data


def test_what_cannot_be_written_leaves_the_file_alone(file: Path) -> None:
    file.write_bytes(FROG)
    store = Store(file)
    for entry in (Entry("x", ("\ud800",)), Entry("x", answer="a" * 9_000_000)):
        with pytest.raises(StoreError, match="class 'x'"):
            store.append(Entry("toad"), entry)
    assert file.read_bytes() == FROG
    assert store.names() == ["frog"]


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: check the name"):
        Store(tmp_path / "none.jsonl")
    with pytest.raises(StoreError, match=r"is a folder without descriptors.jsonl, so no pack"):
        Store(tmp_path)
    with pytest.raises(StoreError, match=r"is a folder without descriptors.jsonl, so no pack"):
        Store(tmp_path, create=True)
    with pytest.raises(StoreError, match="is not a regular file"):
        Store("/dev/null")
    with pytest.raises(StoreError, match="cannot be read"):
        Store("a\0b")


def test_other_writers_lines_are_taken_in_before_a_change(file: Path) -> None:
    file.write_bytes(FROG)
    ours, theirs = Store(file), Store(file)
    theirs.append(Entry("toad", ("theirs",)))
    seen: list[list[str]] = []

    def change(store: Store) -> list[Entry]:
        seen.append(store.names())
        return [Entry("toad", ("ours",))]

    assert ours.change(change) == [Entry("toad", ("ours",))]
    assert seen == [["frog", "toad"]]
    assert [entry.descriptors for entry in ours.history("toad")] == [("theirs",), ("ours",)]


def _replaced(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(TOAD)
    other.replace(file)


@pytest.mark.parametrize(
    ("happening", "names"),
    [
        (_replaced, ["töad", "newt"]),
        (lambda file: file.write_bytes(TOAD), ["töad", "newt"]),
        (lambda file: file.write_bytes(b""), ["newt"]),
        (lambda file: file.write_bytes(TOAD + FROG), ["töad", "frog", "newt"]),
        (lambda file: file.unlink(), ["newt"]),
    ],
    ids=["replaced", "overwritten", "emptied", "grown", "removed"],
)
def test_the_file_changes_under_an_open_store(
    file: Path, happening: Callable[[Path], None], names: list[str]
) -> None:
    file.write_bytes(FROG)
    store = Store(file)
    happening(file)
    store.append(Entry("newt", ("crest",)))
    assert Store(file).names() == names
    assert store.names() == names
    assert [entry.name for entry in store.entries()] == names


def test_a_snapshot_outlives_the_file(file: Path) -> None:
    file.write_bytes(FROG)
    store = Store(file)
    file.unlink()
    assert store.get("frog") == Entry("frog", ("webbed feet",))


def test_a_file_overwritten_while_read_is_told(file: Path) -> None:
    file.write_bytes(FROG)
    store = Store(file)
    file.write_bytes(b'{"class": "grouse", "descriptors": []}\n')
    with pytest.raises(StoreError, match="was changed by another program while it was read"):
        store.get("frog")


def test_a_symlink_is_followed_and_stays(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "elsewhere" / "link.jsonl"
    link.parent.mkdir()
    link.symlink_to(file)
    store = Store(link, create=True)
    store.append(Entry("frog"))
    store.rewrite(lambda old: [line for line, _ in old.lines()])
    assert link.is_symlink()
    assert Store(file).names() == ["frog"]
    assert sorted(path.name for path in link.parent.iterdir()) == ["link.jsonl"], "the lock lies by the file"


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    link = tmp_path / "loop"
    link.symlink_to(link)
    with pytest.raises(StoreError, match=r"loop cannot be written: Too many levels"):
        Store(link, create=True).append(Entry("frog"))
    with pytest.raises(StoreError, match="loop"):
        Store(link)


def test_a_shipped_store_by_name_is_read_only_and_a_file_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("imagenette")
    assert "tench" in store
    before = store.path.read_bytes()
    with pytest.raises(
        StoreError, match="imagenette ships with fieldmarks and is read-only: `fieldmarks store copy"
    ):
        store.append(Entry("x"))
    with pytest.raises(StoreError, match="read-only"):
        Store("imagenette", create=True)
    assert store.path.read_bytes() == before
    Path("imagenette").write_bytes(FROG)
    assert Store("imagenette").names() == ["frog"]


def test_every_line_is_one_json_object(file: Path) -> None:
    Store(file, create=True).append(Entry("a b", ("c",), note="x\ny"))
    assert orjson.loads(file.read_bytes()) == {"class": "a b", "descriptors": ["c"], "note": "x\ny"}
    assert file.read_bytes().count(b"\n") == 1


def test_damage_met_while_a_store_is_open_is_met_at_every_change(tmp_path: Path) -> None:
    """Version 0.1 met it once, and cut off the whole file at the next change."""
    path = tmp_path / "s.jsonl"
    store = Store(path, create=True)
    store.append(Entry("fox", ("red fur",)), Entry("owl", ("round eyes",)))
    with path.open("a") as file:
        file.write("a note by hand\n")
    before = path.read_bytes()
    for _ in range(3):
        with pytest.raises(DamagedStoreError, match="line 3"):
            store.append(Entry("yak", ("long hair",)))
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b"a note by hand\n", b""))
    store.append(Entry("yak", ("long hair",)))
    assert Store(path).names() == ["fox", "owl", "yak"]


def test_a_line_edited_in_place_is_seen_by_an_open_store(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = Store(path, create=True)
    store.append(Entry("fox", ("red fur",)), Entry("owl", ("round eyes",)))
    for old, new in ((b"fox", b"cat"), (b"owl", b"emu"), (b"red fur", b"a long tail")):
        path.write_bytes(path.read_bytes().replace(old, new))
        store.append(Entry(f"after {new.decode()}"))
    assert (
        store.names() == Store(path).names() == ["cat", "emu", "after cat", "after emu", "after a long tail"]
    )


def test_refreshing_reads_the_whole_file_even_if_it_looks_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = Store(path, create=True)
    store.append(Entry("fox", ("red fur",)), Entry("owl", ("round eyes",)))
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"fox", b"cat"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.refresh()
    assert store.names() == ["cat", "owl"]


@pytest.mark.slow
def test_a_program_that_heeds_no_lock_disturbs_no_append(tmp_path: Path) -> None:
    """Its lines come between the look at the file's size and the write, too."""
    path = tmp_path / "s.jsonl"
    store = Store(path, create=True)
    store.append(Entry("frog", ("wide mouth",)))
    theirs = [f"their {number}" for number in range(300)]

    def write() -> None:
        for name in theirs:
            with path.open("a") as file:
                file.write(f'{{"class": "{name}", "descriptors": ["x"]}}\n')
            time.sleep(0.002)

    thread = Thread(target=write)
    thread.start()
    ours: list[str] = []
    while thread.is_alive() or not ours:
        ours.append(f"our {len(ours)}")
        store.append(Entry(ours[-1], ("x",)))
    thread.join()
    assert set(Store(path).names()) == {"frog", *theirs, *ours}
