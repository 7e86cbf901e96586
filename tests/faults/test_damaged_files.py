"""Files of ours after damage of every kind: an error in one line or the right result, and never another.

Each file is damaged so many times in seeded ways: 60 in the suite, 1,000 with

    python -m pytest tests/faults/test_damaged_files.py -m attack
"""

import json
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.worlds import problem, save
from tests.kit import write_set

from fieldmarks.classification import cache_folder
from fieldmarks.classification.cache import NAME, EmbeddingCache, key_of
from fieldmarks.classification.classifier_file import load_head
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.engines import model_cache
from fieldmarks.classification.journal import Journal
from fieldmarks.errors import FieldmarksError

FEW, MANY = 60, 1000
EXTREMES = (
    b"\x00" * 8,
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    struct.pack("<d", float("nan")),
    struct.pack("<f", 3e38),
    struct.pack("<q", -1),
    b"9" * 30,
    b"1e999",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"\xed\xa0\x80",
    b"\\ud800",
    b'"' * 7,
    b"\n",
    b"\r\n",
    b"null",
    b"true",
    b"-1",
    b"NaN",
)

Damage = Callable[[random.Random, bytes], bytes]


def _turn_bits(chance: random.Random, data: bytes) -> bytes:
    turned = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 20))):
        turned[chance.randrange(len(turned))] ^= 1 << chance.randrange(8)
    return bytes(turned)


def _cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def _leave_out(chance: random.Random, data: bytes) -> bytes:
    start, length = _range(chance, data)
    return data[:start] + data[start + length :]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    start, length = _range(chance, data)
    return data[: start + length] + data[start:]


def _splice(chance: random.Random, data: bytes) -> bytes:
    start, length = _range(chance, data)
    other = chance.randrange(len(data))
    return data[:other] + data[start : start + length] + data[other + length :]


def _insert(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + chance.choice(EXTREMES) + data[start:]


def _overwrite(chance: random.Random, data: bytes) -> bytes:
    start, extreme = chance.randrange(len(data)), chance.choice(EXTREMES)
    return data[:start] + extreme + data[start + len(extreme) :]


def _damage_the_beginning(chance: random.Random, data: bytes) -> bytes:
    """Return data with a change among its first bytes, where headers are."""
    end = min(len(data), 400)
    return chance.choice((_turn_bits, _insert, _overwrite))(chance, data[:end]) + data[end:]


DAMAGES: tuple[Damage, ...] = (
    *(_turn_bits, _cut, _leave_out, _repeat, _splice, _insert, _overwrite),
    *(_damage_the_beginning, _damage_the_beginning),
)


def _range(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randrange(len(data))
    return start, min(len(data) - start, chance.choice((1, 4, 8, 64, 512)))


def _damaged(data: bytes, number: int) -> bytes:
    chance = random.Random(number)
    return DAMAGES[number % len(DAMAGES)](chance, data)


def _refused(use: Callable[[], object]) -> bool:
    """Whether something fails as we say that things fail, which is in one line."""
    try:
        use()
    except FieldmarksError as error:
        message = str(error)
    else:
        return False
    assert message.splitlines() == [message]
    assert len(message) < 1000
    return True


ATTACK = pytest.param(MANY, marks=(pytest.mark.slow, pytest.mark.attack))
times = pytest.mark.parametrize("count", [FEW, ATTACK])


@times
def test_journals(tmp_path: Path, count: int) -> None:
    path = tmp_path / "out.jsonl"
    with Journal(path) as journal:
        journal.start({"model": "clip", "options": {"top": 5}})
        file = {"size": 9, "mtime_ns": 10**18, "ctime_ns": 10**18, "sha256": "0" * 64}
        for number in range(20):
            line = {"image": f"ph\u00f6tos/{number}.png", "label": "owl", "file": file}
            journal.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    refused = 0
    for number in range(count):
        data = _damaged(whole, number)
        path.write_bytes(data)

        def use() -> None:
            with Journal(path) as journal:
                journal.start({"model": "clip", "options": {"top": 5}})

        if _refused(use):
            refused += 1
            assert path.read_bytes() == data
            continue
        after = path.read_bytes()
        if data:  # of which at most the beginning of a last result was removed
            assert after.startswith(data[: data.rfind(b"\n") + 1])
            assert after in (data, data + b"\n") or data[len(after) :].startswith(b'{"image":"ph'[:1])
            assert len(after) >= header or data == b""
    assert 0 < refused < count


@times
def test_classifier_files(tmp_path: Path, count: int) -> None:
    path, _ = save(problem([2, 3, 1], 5, seed=0), tmp_path)
    whole = path.read_bytes()
    images = np.random.default_rng(0).standard_normal((3, 6), np.float32)
    refused = 0
    for number in range(count):
        path.write_bytes(_damaged(whole, number))

        def use() -> None:
            head = load_head(path)
            scores = head.scores(images)
            assert len(scores) == 3
            head.explain(images[0], scores[0])
            head.baseline_scores(images)

        refused += _refused(use)
    assert refused > count // 2


def _read(path: Path) -> None:
    rows = list(EmbeddingSet(path))
    labels = list(EmbeddingSet(path).labels())
    assert len(rows) == len(labels)


@times
@pytest.mark.parametrize("name", ["plain.npz", "packed.npz"])
def test_archives_of_embeddings(tmp_path: Path, count: int, name: str) -> None:
    path = tmp_path / name
    rows = np.random.default_rng(0).standard_normal((20, 6), np.float32)
    arrays = {"embeddings": rows, "images": np.array([f"{n}.png" for n in range(20)])}
    arrays |= {"labels": np.arange(20) % 2, "classes": np.array(["owl", "newt"])}
    write = np.savez if name == "plain.npz" else np.savez_compressed
    write(path, **arrays)  # type: ignore[arg-type]
    whole = path.read_bytes()
    refused = 0
    for number in range(count):
        path.write_bytes(_damaged(whole, number))
        refused += _refused(lambda: _read(path))
    assert refused > count // 2


@times
def test_archives_whose_members_are_damaged(tmp_path: Path, count: int) -> None:
    """With checksums that hold, which damage inside an archive of its own accord never has."""
    path = tmp_path / "a.npz"
    rows = np.random.default_rng(0).standard_normal((20, 6), np.float32)
    arrays = {"embeddings": rows, "images": np.array([f"{n}.png" for n in range(20)])}
    np.savez(path, **arrays, labels=np.arange(20) % 2, classes=np.array(["owl", "newt"]))  # type: ignore[arg-type]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    refused = 0
    for number in range(count):
        name = list(members)[number % len(members)]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for other, data in members.items():
                archive.writestr(other, _damaged(data, number) if other == name else data)
        refused += _refused(lambda: _read(path))
    assert refused > count // 5


@times
@pytest.mark.parametrize("name", ["img_emb/img_emb_0000.npy", "metadata/metadata_0000.parquet"])
def test_folders_of_embeddings(tmp_path: Path, count: int, name: str) -> None:
    pytest.importorskip("pyarrow")
    rows = np.random.default_rng(0).standard_normal((20, 6), np.float32)
    embedded = [Embedded(f"owl/{number}.png", row) for number, row in enumerate(rows)]
    write_set(tmp_path / "out", embedded)
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    refused = 0
    for number in range(count):
        path.write_bytes(_damaged(whole, number))
        refused += _refused(lambda: _read(tmp_path / "out"))
        _refused(lambda: EmbeddingSet(tmp_path / "out").model)
    assert refused > count // 5


@pytest.mark.slow
@times
def test_embedding_caches(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path))
    path, weights = tmp_path / NAME, tmp_path / "photos"
    weights.write_bytes(b"abc")
    vectors = {key_of(str(n)): np.full(600, n + 1, np.float32) for n in range(20)}
    with closing(EmbeddingCache(path)) as cache:
        cache.put(vectors)
        digest = cache.file_hash(weights)
    whole = path.read_bytes()
    noted = hits = 0
    for number in range(count):
        for name in (f"{NAME}-wal", f"{NAME}-shm", f"{NAME}-journal"):
            (tmp_path / name).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(_damaged(whole, number))
        with closing(EmbeddingCache(path)) as cache:
            cache.info()
            cached = cache.get(list(vectors))
            for key, vector in cached.items():
                assert np.array_equal(vector, vectors[key])
            hits += len(cached)
            cache.save_uses()
            assert cache.file_hash(weights) == digest
            cache.put(vectors)
            again = cache.get(list(vectors))
            assert all(np.array_equal(vector, vectors[key]) for key, vector in again.items())
            assert again.keys() == vectors.keys() or cache.problem
            noted += cache.problem is not None
        for part in cache_folder.parts():
            assert part.kind in ("", "embedding")
    assert noted > count // 10
    assert hits > count  # a damaged row does not cost the others


@times
def test_records_of_converted_models(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "converted-2" / ("1" * 32)

    def write(fresh: Path) -> model_cache.Metadata:
        (fresh / "texts.bin").write_bytes(b"0123456789" * 20)
        return {"facts": {"logit_scale": 100.0}}

    model_cache.keep(folder, write)
    whole = (folder / "about.json").read_bytes()
    for number in range(count):
        (folder / "about.json").write_bytes(_damaged(whole, number))
        about = model_cache.read(folder)
        assert about is None or about["facts"] == {"logit_scale": 100.0}
        if about is not None:
            assert model_cache.is_whole(folder, about, EmbeddingCache(tmp_path / NAME).file_hash)


# Files that would take gigabytes if what they announce were read.

MEASURE = """
import resource, sys
from pathlib import Path
from fieldmarks.classification.classifier_file import load_head
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.errors import FieldmarksError
import pyarrow.compute, pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    if sys.argv[1].endswith(".safetensors"):
        load_head(Path(sys.argv[1]))
    else:
        count = sum(1 for _ in EmbeddingSet(sys.argv[1]))
        count = sum(1 for _ in EmbeddingSet(sys.argv[1]).labels())
        print("read", count)
except FieldmarksError as error:
    print("refused", str(error)[-200:])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def _header(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "head.safetensors"
        path.write_bytes(struct.pack("<Q", len(content)) + content)
        return path

    return make


def _npz(**arrays: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez_compressed(folder / "a.npz", **arrays)  # type: ignore[arg-type]
        return folder / "a.npz"

    return make


def _long_name(folder: Path) -> Path:
    """Return a folder whose metadata say one name of 400 kB a thousand times, in a few bytes."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [Embedded(str(n), np.ones(4, np.float32)) for n in range(1000)]
    write_set(folder / "out", rows)
    table = arrow.table({"image_path": arrow.array(["a" * 400_000] * 1000)})
    parquet.write_table(table, folder / "out" / "metadata" / "metadata_0000.parquet", compression="zstd")
    return folder / "out"


def _sparse(folder: Path) -> Path:
    (folder / "out" / "img_emb").mkdir(parents=True)
    path = folder / "out" / "img_emb" / "img_emb_0.npy"
    np.save(path, np.ones((1, 60_000), np.float32))
    data = path.read_bytes().replace(b"(1, 60000), }    ", b"(5000, 60000), } ")
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(128 + 5000 * 60_000 * 4)
    return folder / "out"


METADATA = b'"format":"fieldmarks-classifier","version":"1"'
BOMBS: dict[str, tuple[Callable[[Path], Path], int]] = {
    "a header of tensors": (
        _header(b"{" + b",".join(b'"%d":{"dtype":"F32"}' % n for n in range(2_000_000)) + b"}"),
        200,
    ),
    "a header of one shape": (
        _header(b'{"texts":{"dtype":"F32","shape":[' + b"0," * 20_000_000 + b'0],"data_offsets":[0,0]}}'),
        200,
    ),
    "a header of lists": (
        _header(b'{"__metadata__":{' + METADATA + b',"classes":"[' + rb"\"\"," * 8_000_000 + b']"}}'),
        400,
    ),
    "zeros": (_npz(embeddings=np.zeros((60_000, 1000), np.float32)), 200),
    "long names": (
        _npz(embeddings=np.ones((9, 4)), images=np.array(["a" * 6_000_000] + [""] * 8)),
        100,
    ),
    "many classes": (
        _npz(embeddings=np.ones((9, 4)), labels=np.zeros(9, int), classes=np.zeros(60_000_000, np.uint8)),
        100,
    ),
    "a name a thousand times": (_long_name, 200),
    "a sparse file": (_sparse, 300),
}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "most"), BOMBS.values(), ids=BOMBS)
def test_memory_is_bounded(tmp_path: Path, make: Callable[[Path], Path], most: int) -> None:
    pytest.importorskip("pyarrow")
    command = [sys.executable, "-c", MEASURE, str(make(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    outcome, megabytes = done.stdout.splitlines()
    assert outcome.startswith(("read", "refused"))
    assert int(megabytes) < most, outcome
    shutil.rmtree(tmp_path)
