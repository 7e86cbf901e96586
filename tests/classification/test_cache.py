"""Embeddings kept on disk: what comes back, the bound, several threads and processes, and damage."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.classification.cache import Array, EmbeddingCache, key_of


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    """An empty cache."""
    return EmbeddingCache(tmp_path / "deep" / "embeddings.sqlite3")


def _vectors(count: int, size: int = 8) -> dict[bytes, Array]:
    return {key_of(str(number)): np.full(size, number, np.float32) for number in range(count)}


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


def test_nothing_is_made_by_looking(cache: EmbeddingCache) -> None:
    assert (cache.info().entries, cache.info().size) == (0, 0)
    assert not cache.path.parent.exists()
    assert cache.clear() == 0


def test_info_and_clear(cache: EmbeddingCache) -> None:
    cache.put(_vectors(10))
    info = cache.info()
    assert (info.path, info.entries) == (cache.path, 10)
    assert info.size == sum(one.stat().st_size for one in cache.path.parent.iterdir())
    assert cache.clear() == info.size
    assert list(cache.path.parent.iterdir()) == []
    cache.put(_vectors(1))  # and is of use again
    assert cache.info().entries == 1


def test_the_oldest_goes_when_it_is_full(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "small.sqlite3", limit=300_000)
    for number in range(300):
        cache.put({key_of(str(number)): np.zeros(512, np.float32)})
    assert 0 < cache.info().entries < 150
    assert (tmp_path / "small.sqlite3").stat().st_size < 400_000
    assert key_of("0") not in cache.get([key_of("0")])
    assert key_of("299") in cache.get([key_of("299")])


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_keys_tell_their_parts_apart(one: list[bytes], other: list[bytes]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_several_threads(cache: EmbeddingCache) -> None:
    kept = _vectors(200)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: cache.put(dict([item])), kept.items()))
        found = list(pool.map(lambda key: cache.get([key]), kept))
    assert [list(one) for one in found] == [[key] for key in kept]


def test_several_processes(cache: EmbeddingCache) -> None:
    script = (
        "import sys, numpy; from pathlib import Path\n"
        "from fieldmarks.classification.cache import EmbeddingCache, key_of\n"
        "cache = EmbeddingCache(Path(sys.argv[1]))\n"
        "for n in range(100): cache.put({key_of(sys.argv[2], str(n)): numpy.ones(4)})\n"
        "sys.exit(len(cache.notices))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(cache.path), str(one)]) for one in range(3)
    ]
    assert [one.wait(timeout=60) for one in running] == [0, 0, 0]
    assert cache.info().entries == 300


@pytest.mark.parametrize("content", [b"not a database at all" * 99, b"SQLite format 3\0" + bytes(2000)])
def test_a_damaged_cache_is_told_of_once_and_gone_without(cache: EmbeddingCache, content: bytes) -> None:
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)
    cache.put(_vectors(1))
    assert cache.get(list(_vectors(1))) == {}
    (notice,) = cache.notices
    assert notice.startswith(f"the embedding cache {cache.path} cannot be used (")
    assert notice.endswith("): going on without; `fieldmarks cache clear` makes a new one")
    cache.clear()
    mended = EmbeddingCache(cache.path)
    mended.put(_vectors(1))
    assert (mended.info().entries, mended.notices) == (1, [])


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file" / "embeddings.sqlite3")
    assert cache.get([key_of("0")]) == {}
    assert len(cache.notices) == 1


def test_values_that_are_no_numbers_are_not_found(cache: EmbeddingCache) -> None:
    cache.put(
        {
            key_of("nan"): np.array([np.nan], np.float32),
            key_of("none"): np.empty(0, np.float32),
            key_of("one"): np.ones(1, np.float32),
        }
    )
    assert list(cache.get([key_of("nan"), key_of("none"), key_of("one")])) == [key_of("one")]


def test_a_files_hash_follows_its_content(cache: EmbeddingCache, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    first = cache.file_hash(file)
    assert first == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert EmbeddingCache(cache.path).file_hash(file) == first
    file.write_bytes(b"abcd")
    assert cache.file_hash(file) != first
