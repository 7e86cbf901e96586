"""Embeddings of texts and pictures: each once, in order, in bounded memory, and none again."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.embedder import Embedded, Embedder, Encoder
from fieldmarks.classification.engines import batched
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Blob


class Counting(Encoder):
    """An encoder that notes what it was given."""

    def __init__(self, model: Path, **how: Any) -> None:
        super().__init__(model, **{"device": "cpu", "dtype": "float32"} | how)
        self.texts: list[list[str]] = []
        self.prepared = 0
        self.passes: list[int] = []

    def encode_texts(self, texts: Sequence[str]) -> Array:
        self.texts.append(list(texts))
        return super().encode_texts(texts)

    def prepare(self, image: Image.Image) -> Any:
        self.prepared += 1
        return super().prepare(image)

    def start_images(self, prepared: Sequence[Any]) -> Callable[[], Array]:
        self.passes.append(len(prepared))
        return super().start_images(prepared)


def _vectors(results: Iterable[Embedded | Failure]) -> Array:
    return np.stack([result.vector for result in results if isinstance(result, Embedded)])


@pytest.mark.slow
def test_equal_texts_are_encoded_once(tiny_clip: Path) -> None:
    encoder = Counting(tiny_clip)
    rows = Embedder(encoder).texts(["fur", "big eyes", "fur", "fur"])
    assert encoder.texts == [["fur", "big eyes"]]
    assert np.array_equal(rows[0], rows[2])
    assert not np.allclose(rows[0], rows[1])


def test_one_pass_a_batch_in_order_with_failures_between(tiny_clip: Path, pictures: list[Path]) -> None:
    encoder = Counting(tiny_clip)
    given: list[str | Path | Failure] = [*pictures, "none.png", Failure("gone", "why"), *pictures]
    results = list(Embedder(encoder, batch=4).images(given))
    assert [result.image for result in results] == [
        *map(str, pictures),
        "none.png",
        "gone",
        *map(str, pictures),
    ]
    assert [type(item).__name__ for item in results[5:7]] == ["Failure", "Failure"]
    assert results[6] == Failure("gone", "why")
    assert encoder.passes == [4, 2, 4]
    assert np.allclose(_vectors(iter(results[:5])), _vectors(iter(results[7:])), atol=1e-5)


@pytest.mark.slow
def test_the_second_run_decodes_nothing_and_forwards_nothing(tiny_clip: Path, pictures: list[Path]) -> None:
    first, second = Counting(tiny_clip), Counting(tiny_clip)
    texts = ["fur", "big eyes"]
    item, other = (Embedder(encoder, cache=EmbeddingCache()) for encoder in (first, second))
    assert np.array_equal(item.texts(texts), other.texts(texts))
    assert np.array_equal(_vectors(item.images(pictures)), _vectors(other.images(pictures)))
    assert item.logit_scale == pytest.approx(other.logit_scale)
    assert (first.prepared, first.passes, first.texts) == (5, [5], [texts])
    assert (second.prepared, second.passes, second.texts) == (0, [], [])


@pytest.mark.slow
def test_only_what_is_new_is_encoded(tiny_clip: Path, pictures: list[Path]) -> None:
    first, second = Counting(tiny_clip), Counting(tiny_clip)
    list(Embedder(first, cache=EmbeddingCache()).images(pictures[:2]))
    embedder = Embedder(second, cache=EmbeddingCache())
    expected = _vectors(Embedder(Counting(tiny_clip)).images(pictures))
    assert np.allclose(_vectors(embedder.images(pictures)), expected, atol=1e-5)
    assert second.passes == [3]
    embedder.texts(["fur"])
    embedder.texts(["fur", "big eyes"])
    assert second.texts == [["fur"], ["big eyes"]]


def test_the_same_bytes_elsewhere_are_known(tiny_clip: Path, pictures: list[Path], tmp_path: Path) -> None:
    list(Embedder(Counting(tiny_clip), cache=EmbeddingCache()).images(pictures[:1]))
    (tmp_path / "copy.png").write_bytes(pictures[0].read_bytes())
    encoder = Counting(tiny_clip)
    list(Embedder(encoder, cache=EmbeddingCache()).images([tmp_path / "copy.png"]))
    assert encoder.passes == []


@pytest.mark.slow
def test_a_file_out_of_an_archive_is_the_same_picture(tiny_clip: Path, pictures: list[Path]) -> None:
    blobs = [Blob(f"pictures.tar/{path.name}", path.read_bytes()) for path in pictures]
    packed = list(Embedder(Encoder(tiny_clip)).images([*blobs, Blob("torn.png", b"\x89PNG")]))
    loose = list(Embedder(Encoder(tiny_clip)).images(pictures))
    assert [item.image for item in packed] == [*(blob.name for blob in blobs), "torn.png"]
    assert isinstance(packed.pop(), Failure)
    np.testing.assert_array_equal(_vectors(packed), _vectors(loose))


@pytest.mark.slow
@pytest.mark.parametrize("change", ["weights", "preprocessing", "dtype", "engine"])
def test_another_model_preprocessing_type_or_engine_is_encoded_anew(
    tiny_clip: Path, pictures: list[Path], tmp_path: Path, change: str
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_clip.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    same = Counting(copy)
    list(Embedder(Counting(tiny_clip), cache=EmbeddingCache()).images(pictures))
    list(Embedder(same, cache=EmbeddingCache()).images(pictures))
    assert same.passes == []  # a copy of the folder is the same model
    if change == "weights":
        data = bytearray((copy / "model.safetensors").read_bytes())
        data[-2] ^= 1
        (copy / "model.safetensors").write_bytes(bytes(data))
    if change == "preprocessing":
        config = copy / "preprocessor_config.json"
        config.write_text(config.read_text().replace("0.48145466", "0.5"))
    how = {"dtype": {"dtype": "bfloat16"}, "engine": {"engine": "torch"}}.get(change, {})
    other = Counting(copy, **how)
    list(Embedder(other, cache=EmbeddingCache()).images(pictures))
    assert other.passes == [5]


RUN = """
import sys
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import open_embedder
clip = open_embedder(sys.argv[1], engine=sys.argv[2], cache=sys.argv[3] == "cache")
classifier = Classifier({'a': ['fur'], 'b': ['big eyes']}, clip=clip)
labels = [one.label for one in classifier.predict(sys.argv[4:])]
print(labels, *sorted({'torch', 'transformers', 'openvino', 'PIL'} & set(sys.modules)))
"""


def _loaded(clip: Path, pictures: list[Path], folder: Path, engine: str, cache: str) -> str:
    """Classify in a new process that must be silent, and return the frameworks that it loaded."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", RUN, str(clip), engine, cache, *map(str, pictures)],
        env=os.environ | {"FIELDMARKS_CACHE": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip().rpartition("]")[2].strip()


@pytest.mark.slow
def test_a_run_from_the_cache_loads_no_framework(
    tiny_clip: Path, pictures: list[Path], tmp_path: Path
) -> None:
    first, second = (_loaded(tiny_clip, pictures, tmp_path, "torch", "cache") for _ in range(2))
    assert (first, second) == ("PIL torch transformers", "")


@pytest.mark.slow
def test_a_converted_model_needs_no_torch(tiny_clip: Path, pictures: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    first, second = (_loaded(tiny_clip, pictures, tmp_path, "openvino", "cache") for _ in range(2))
    assert (first, second) == ("PIL openvino torch transformers", "")
    assert _loaded(tiny_clip, pictures, tmp_path, "openvino", "no cache") == "PIL openvino"


def test_long_texts_are_told_of_in_every_run(tiny_clip: Path) -> None:
    texts = ["x" * 100, "fur", "x" * 500]
    for expected in ([texts], []):  # then all of it comes from the cache
        encoder = Counting(tiny_clip)
        embedder = Embedder(encoder, cache=EmbeddingCache())
        embedder.texts(texts)
        assert encoder.texts == expected
        assert ("engine" in vars(encoder)) == bool(expected)
        assert embedder.notices == [
            f"2 texts are longer than 77 tokens, the limit of {tiny_clip}, and truncated: {'x' * 100!r:.60}"
        ]


def test_thumbnails_for_the_first_pictures(tiny_clip: Path, pictures: list[Path]) -> None:
    embedder = Embedder(Counting(tiny_clip), cache=EmbeddingCache())
    for _ in range(2):  # fresh, then from the cache
        small = [
            image.thumbnail
            for image in embedder.images(pictures, thumbnails=2)
            if isinstance(image, Embedded)
        ]
        assert [thumbnail is not None for thumbnail in small] == [True, True, False, False, False]
        assert small[0] is not None
        assert small[0].startswith(b"\xff\xd8\xff")


@pytest.mark.slow
def test_an_embedding_does_not_depend_on_whether_its_picture_is_shown(
    demo_clip: Path, check_photo: Path
) -> None:
    for dtype in ("float32", "bfloat16"):
        plain, shown = (
            _vectors(
                Embedder(Counting(demo_clip, dtype=dtype, engine="torch")).images([check_photo], thumbnails=n)
            )
            for n in (0, 1)
        )
        assert np.array_equal(plain, shown)


@pytest.mark.slow
def test_float32_is_of_the_whole_picture_and_other_numbers_of_their_own(
    demo_clip: Path, check_photo: Path
) -> None:
    with Image.open(check_photo) as image:
        whole = image.convert("RGB")
    exact, halved = (Counting(demo_clip, dtype=dtype, engine="torch") for dtype in ("float32", "bfloat16"))
    assert (exact.decoding, halved.decoding) == ("full", "reduced")
    for encoder in (exact, halved, exact):  # none takes the other's from the cache
        list(Embedder(encoder, cache=EmbeddingCache()).images([check_photo]))
    assert (exact.passes, halved.passes) == ([1], [1])
    cached = _vectors(Embedder(exact, cache=EmbeddingCache()).images([check_photo]))
    assert np.array_equal(cached, exact.encode_images([exact.prepare(whole)]))


def test_how_jpegs_were_decoded_is_kept_with_embeddings(tiny_clip: Path) -> None:
    modes = {dtype: Counting(tiny_clip, dtype=dtype).metadata for dtype in ("float32", "bfloat16")}
    assert [metadata["decode"] for metadata in modes.values()] == ["full", "reduced"]
    assert modes["float32"].keys() == {"model", "dtype", "engine", "decode"}


def test_a_depth_that_was_inferred_is_said_once(
    tiny_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.linspace(0, 4095, 1600).reshape(40, 40).astype(np.uint16)).save(tmp_path / name)
    embedder = Embedder(Counting(tiny_clip))
    for _ in range(2):
        list(embedder.images([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said == embedder.notices
    assert "its largest value is 4,095, so it is read as 12 bits" in said[0]


@pytest.fixture
def check_photo(tmp_path: Path) -> Path:
    """A JPEG that is large enough to be decoded at an eighth of its size."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).resize((1600, 1200)).save(tmp_path / "photo.jpg", quality=90)
    return tmp_path / "photo.jpg"


@pytest.mark.slow
def test_rows_of_another_length_are_encoded_again(tiny_clip: Path, pictures: list[Path]) -> None:
    """As a file that was put together by hand may have them, with checksums that hold."""
    first = Counting(tiny_clip)
    embedder = Embedder(first, cache=EmbeddingCache())
    texts, rows = embedder.texts(["fur", "big eyes"]), _vectors(embedder.images(pictures))
    cache = EmbeddingCache()
    with closing(sqlite3.connect(cache.path)) as db:
        keys = [key for (key,) in db.execute("SELECT key FROM embeddings WHERE length(vector) > 4")]
    for key in keys[::2]:
        cache.put({key: np.ones(5, np.float32)})
    again = Embedder(Counting(tiny_clip), cache=EmbeddingCache())
    np.testing.assert_allclose(again.texts(["fur", "big eyes"]), texts, atol=1e-5)
    np.testing.assert_allclose(_vectors(again.images(pictures)), rows, atol=1e-5)


def test_batched() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []
