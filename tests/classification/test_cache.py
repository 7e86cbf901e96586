"""The embedding cache: what comes back, whose file it is, damage of every kind, the bound, many processes."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.classification.cache import NAME, Array, EmbeddingCache, key_of


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    """An empty cache."""
    return EmbeddingCache(tmp_path / "deep" / NAME)


def _vectors(count: int, size: int = 8) -> dict[bytes, Array]:
    return {key_of(str(number)): np.full(size, number + 1, np.float32) for number in range(count)}


def _filled(cache: EmbeddingCache, count: int = 10) -> dict[bytes, Array]:
    vectors = _vectors(count)
    cache.put(vectors)
    cache.close()
    return vectors


def test_what_was_kept_comes_back(cache: EmbeddingCache) -> None:
    kept = _vectors(1200)  # more than one query asks for
    cache.put(kept)
    again = EmbeddingCache(cache.path).get([*kept, key_of("other")])
    assert again.keys() == kept.keys()
    assert all(np.array_equal(again[key], vector) for key, vector in kept.items())


def test_a_file_of_the_same_size_and_time_is_hashed_again(cache: EmbeddingCache, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    before, hashed = file.stat(), cache.file_hash(file)
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of files ticks in milliseconds
        file.write_bytes(b"two")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert cache.file_hash(file) != hashed


def test_a_files_hash_follows_its_content(cache: EmbeddingCache, tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"weights-\xff")  # a name that is not UTF-8
    file.write_bytes(b"abc")
    first = cache.file_hash(file)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert EmbeddingCache(cache.path).file_hash(file) == first
    file.write_bytes(b"abcd")
    assert cache.file_hash(file) != first


def test_a_hash_that_was_changed_by_hand_is_not_believed(cache: EmbeddingCache, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    first = cache.file_hash(file)
    cache.close()
    with closing(sqlite3.connect(cache.path)) as db, db:
        db.execute("UPDATE files SET state = zeroblob(length(state))")
    assert cache.file_hash(file) == first
    with closing(sqlite3.connect(cache.path)) as db, db:
        db.execute("UPDATE files SET state = 'text', checksum = NULL WHERE 0 = 1")
        db.execute("UPDATE files SET state = 17")
    assert EmbeddingCache(cache.path).file_hash(file) == first


def test_a_pipe_is_not_hashed(cache: EmbeddingCache, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a regular file"):
        cache.file_hash(tmp_path / "pipe")


def test_nothing_is_made_by_looking(cache: EmbeddingCache) -> None:
    assert (cache.info().entries, cache.info().size) == (0, 0)
    assert not cache.path.parent.exists()
    assert cache.clear() == 0


def test_info_and_clear(cache: EmbeddingCache) -> None:
    cache.put(_vectors(10))
    info = cache.info()
    assert (info.path, info.entries) == (cache.path, 10)
    assert info.size == sum(path.stat().st_size for path in cache.path.parent.iterdir())
    assert cache.clear() == info.size
    assert list(cache.path.parent.iterdir()) == []
    cache.put(_vectors(1))  # and is of use again
    assert cache.info().entries == 1


def test_folder_and_files_are_their_users_alone(cache: EmbeddingCache) -> None:
    cache.put(_vectors(1))
    modes = {path.name: path.stat().st_mode & 0o777 for path in cache.path.parent.iterdir()}
    assert cache.path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == {NAME: 0o600, f"{NAME}-wal": 0o600, f"{NAME}-shm": 0o600}


@pytest.mark.parametrize(
    ("others", "mode"), [([], 0o700), (["embeddings.sqlite3", "engines"], 0o700), (["photos"], 0o755)]
)
def test_only_a_folder_of_caches_is_closed_to_others(
    cache: EmbeddingCache, others: list[str], mode: int
) -> None:
    cache.path.parent.mkdir(mode=0o755)
    for name in others:
        (cache.path.parent / name).touch()
    cache.put(_vectors(1))
    assert cache.path.parent.stat().st_mode & 0o777 == mode
    cache.close()
    cache.path.chmod(0o644)
    EmbeddingCache(cache.path).put(_vectors(1))
    assert cache.path.stat().st_mode & 0o777 == 0o600


def test_what_was_used_longest_ago_goes_when_it_is_full(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / NAME, limit=300_000)
    for number in range(300):
        cache.put({key_of(str(number)): np.ones(512, np.float32)})
        assert key_of("7") in cache.get([key_of("7")]) or number < 7
    assert 0 < cache.info().entries < 150
    assert (tmp_path / NAME).stat().st_size < 400_000
    assert key_of("0") not in cache.get([key_of("0")])
    assert key_of("299") in cache.get([key_of("299")])
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        assert db.execute("SELECT count(*) FROM uses").fetchone()[0] == cache.info().entries


def test_what_another_run_read_counts_as_used(tmp_path: Path) -> None:
    for number in range(100):
        EmbeddingCache(tmp_path / NAME).put({key_of(str(number)): np.ones(512, np.float32)})
    reading = EmbeddingCache(tmp_path / NAME)
    reading.get([key_of(str(number)) for number in range(10)])
    reading.save_uses()
    writing = EmbeddingCache(tmp_path / NAME, limit=100_000)
    for number in range(100, 110):
        writing.put({key_of(str(number)): np.ones(512, np.float32)})
    left = [number for number in range(110) if writing.get([key_of(str(number))])]
    assert len(left) < 60
    assert left[:10] == list(range(10))


def test_reading_writes_nothing(cache: EmbeddingCache) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in cache.path.parent.glob("*[!m]")}  # not shared memory

    keys = list(_filled(cache))
    cache.get(keys)
    before = content()
    for _ in range(10):
        cache.get(keys)
    assert content() == before
    assert before.keys() == {NAME, f"{NAME}-wal"}


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_keys_tell_their_parts_apart(first: list[bytes], other: list[bytes]) -> None:
    assert (key_of(*first) == key_of(*other)) == (first == other)


def test_several_threads(cache: EmbeddingCache) -> None:
    kept = _vectors(200)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: cache.put(dict([item])), kept.items()))
        vectors = list(pool.map(lambda key: cache.get([key]), kept))
    assert [list(vector) for vector in vectors] == [[key] for key in kept]


@pytest.mark.slow
def test_several_processes(cache: EmbeddingCache) -> None:
    script = (
        "import sys, numpy; from pathlib import Path\n"
        "from fieldmarks.classification.cache import EmbeddingCache, key_of\n"
        "cache = EmbeddingCache(Path(sys.argv[1]))\n"
        "for n in range(100): cache.put({key_of(sys.argv[2], str(n)): numpy.ones(4)})\n"
        "sys.exit(cache.problem is not None)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(cache.path), str(number)]) for number in range(3)
    ]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert cache.info().entries == 300


def test_a_second_cache_of_a_process_leaves_the_first_one_its_locks(cache: EmbeddingCache) -> None:
    first, second = _vectors(1), {key_of("second"): np.ones(8, np.float32)}
    cache.put(first)
    assert list(EmbeddingCache(cache.path).get(list(first))) == list(first)
    script = (  # when this ends, the log is removed unless another process is known to use it
        "import sys; from pathlib import Path; from fieldmarks.classification.cache import EmbeddingCache\n"
        "cache = EmbeddingCache(Path(sys.argv[1])); cache.get([b'']); cache.close()"
    )
    subprocess.run([sys.executable, "-c", script, str(cache.path)], check=True, timeout=60)
    cache.put(second)
    assert list(EmbeddingCache(cache.path).get(list(second))) == list(second)
    assert cache.path.with_name(f"{NAME}-wal").exists()


POISON = {
    "zero": "vector = zeroblob(32)",
    "huge": "vector = x'ffff7f7f' || substr(vector, 5)",
    "NaN": "vector = x'0000c07f' || substr(vector, 5)",
    "shorter": "vector = substr(vector, 1, 16)",
    "empty": "vector = x''",
    "longer": "vector = vector || vector",
    "gigantic": "vector = zeroblob(30000000)",
    "halves": "vector = substr(vector, 1, 15)",
    "text": "vector = 'eight numbers'",
    "not even text": "vector = CAST(x'ffff' AS TEXT)",
    "a number": "vector = 17",
    "no checksum": "checksum = x''",
    "a text for a checksum": "checksum = 'sum'",
    "a bit": "vector = x'01' || substr(vector, 2)",
}


@pytest.mark.slow
@pytest.mark.parametrize("change", POISON.values(), ids=POISON)
def test_a_row_that_was_changed_is_a_miss(cache: EmbeddingCache, change: str) -> None:
    vectors = _filled(cache)
    poisoned, *others = vectors
    with closing(sqlite3.connect(cache.path)) as db, db:
        db.execute(f"UPDATE embeddings SET {change} WHERE key = ?", (poisoned,))
    again = EmbeddingCache(cache.path)
    assert again.get(list(vectors)).keys() == set(others)
    assert again.problem is None
    again.put({poisoned: vectors[poisoned]})
    assert np.array_equal(again.get([poisoned])[poisoned], vectors[poisoned])


def test_exchanged_rows_are_misses(cache: EmbeddingCache) -> None:
    first, other, *_ = vectors = _filled(cache)
    with closing(sqlite3.connect(cache.path)) as db, db:
        for before, after in ((first, b"-"), (other, first), (b"-", other)):
            db.execute("UPDATE embeddings SET key = ? WHERE key = ?", (after, before))
    assert EmbeddingCache(cache.path).get(list(vectors)).keys() == set(vectors) - {first, other}


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
def test_numbers_that_no_model_gives_are_misses(cache: EmbeddingCache, value: float) -> None:
    cache.put({key_of("odd"): np.full(4, value, np.float32), key_of("none"): np.empty(0, np.float32)})
    cache.put({key_of("one"): np.ones(1, np.float32)})
    assert list(cache.get([key_of("odd"), key_of("none"), key_of("one")])) == [key_of("one")]


def _execute(*statements: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            for statement in statements:
                db.execute(statement)

    return change


def _damage_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:4096] = np.random.default_rng(0).bytes(3996)
    path.write_bytes(data)


OURS_BUT_UNUSABLE: dict[str, Callable[[Path], object]] = {
    "a trigger": _execute("CREATE TRIGGER t AFTER INSERT ON embeddings BEGIN DELETE FROM embeddings; END"),
    "a view in a table's place": _execute(
        "ALTER TABLE embeddings RENAME TO hidden", "CREATE VIEW embeddings AS SELECT * FROM hidden"
    ),
    "another table": _execute("CREATE TABLE notes (text TEXT)"),
    "a table less": _execute("DROP TABLE uses"),
    "another index": _execute("CREATE INDEX i ON embeddings (checksum)"),
    "a damaged page": _damage_a_page,
    "half a file": lambda path: os.truncate(path, path.stat().st_size // 2),
    "only a header": lambda path: os.truncate(path, 100),
}
FOREIGN: dict[str, Callable[[Path], object]] = {
    "a newer version": _execute("PRAGMA user_version = 4"),
    "another program's database": _execute("PRAGMA application_id = 17"),
    "another database": _execute("PRAGMA application_id = 0", "PRAGMA user_version = 0"),
    "a database of version 0.1": _execute("PRAGMA application_id = 0", "PRAGMA user_version = 2"),
    "text": lambda path: path.write_bytes(b"not a database at all" * 99),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "a damaged header": lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]),
    "a beginning of a header": lambda path: os.truncate(path, 50),
    "half a header and zeros": lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(2000)),
}


@pytest.mark.parametrize("change", [*OURS_BUT_UNUSABLE.values(), *FOREIGN.values()])
def test_a_file_that_cannot_be_used_is_one_note_and_left_alone(
    cache: EmbeddingCache, change: Callable[[Path], object]
) -> None:
    _filled(cache, 100)
    change(cache.path)
    before = cache.path.read_bytes()
    again = EmbeddingCache(cache.path)
    again.put(_vectors(1))
    assert again.get(list(_vectors(1))) == {}
    again.save_uses()
    again.info()
    notice = again.problem or ""
    assert notice.startswith(f"the embedding cache {cache.path} cannot be used (")
    ours = change in OURS_BUT_UNUSABLE.values()
    remedy = "`fieldmarks cache clear` removes it" if ours else "move it away or set FIELDMARKS_CACHE"
    assert f"): continuing without it; {remedy}" in notice
    assert cache.path.read_bytes() == before
    again.clear()
    assert cache.path.exists() != ours
    if ours:
        fresh = EmbeddingCache(cache.path)
        fresh.put(_vectors(1))
        assert (fresh.info().entries, fresh.problem) == (1, None)


def _make_nothing(path: Path) -> None:
    path.symlink_to("nothing")


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, _make_nothing, lambda path: path.symlink_to(path.name)]
)
def test_what_is_not_a_file_is_one_note(cache: EmbeddingCache, make: Callable[[Path], object]) -> None:
    cache.path.parent.mkdir()
    make(cache.path)
    before = cache.path.lstat()
    assert cache.get([key_of("0")]) == {}
    cache.put(_vectors(1))
    cache.clear()
    assert cache.path.lstat() == before
    assert cache.problem


def test_an_empty_file_is_used(cache: EmbeddingCache) -> None:
    cache.path.parent.mkdir()
    cache.path.touch()
    cache.put(_vectors(2))
    assert (cache.info().entries, cache.problem) == (2, None)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file" / NAME)
    assert cache.get([key_of("0")]) == {}
    assert cache.problem


@pytest.mark.slow
def test_a_cache_that_another_process_locks_is_one_note(cache: EmbeddingCache) -> None:
    vectors = _filled(cache)
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA locking_mode = EXCLUSIVE'); db.execute('BEGIN EXCLUSIVE'); print('locked')\n"
        "sys.stdout.flush(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(cache.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as locking:
        assert locking.stdout is not None
        assert locking.stdout.readline() == "locked\n"
        waiting = EmbeddingCache(cache.path)
        assert waiting.get(list(vectors)) == {}
        waiting.put(vectors)
        assert "(database is locked): continuing without it" in (waiting.problem or "")
        locking.communicate("", timeout=30)
    assert EmbeddingCache(cache.path).get(list(vectors)).keys() == vectors.keys()


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
import numpy
from fieldmarks.classification.cache import EmbeddingCache, key_of
cache = EmbeddingCache(Path(sys.argv[1]))
cache.put({key_of("a"): numpy.ones(4, numpy.float32)})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_a_cache_that_is_known_as_ours(cache: EmbeddingCache) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(cache.path)], timeout=60)
    assert cache.get([key_of("a")]).keys() == {key_of("a")}
    assert cache.problem is None
