"""Archives in one process: shards by block, reruns, errors as rows, and passes put together again."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.kit import untimed
from tests.scale.archives import png, write_tar, write_tars

from fieldmarks.classification.embedder import Embedded, Embedder, Encoder
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.results import Failure
from fieldmarks.cli import main
from fieldmarks.errors import ImageError
from fieldmarks.scale.blocks import blocks_of, read
from fieldmarks.scale.forecast import trial
from fieldmarks.scale.passes import Assembly, Preprocessing, decoded, encoded, to_row

pytest.importorskip("pyarrow")

EXACT = ("--dtype", "float32", "--engine", "torch", "--no-cache")


@pytest.fixture
def encoder(tiny_clip: Path) -> Encoder:
    return Encoder(tiny_clip, dtype="float32", engine="torch")


@pytest.fixture
def tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tars(tmp_path / "tars", 3, 5)


def _embed(runner: CliRunner, clip: Path, *arguments: str) -> tuple[int, list[str]]:
    result = runner.invoke(main, ["embed", *arguments, *EXACT, "--clip", str(clip)])
    return result.exit_code, untimed(result.stderr).splitlines()


def test_each_tar_is_a_shard_and_a_rerun_reads_none(runner: CliRunner, tiny_clip: Path, tars: Path) -> None:
    code, lines = _embed(runner, tiny_clip, "tars", "--out", "set")
    assert (code, lines[-1]) == (3, "Added 15 images to set; it has 15 images. 1 input failed.")
    manifest = EmbeddingSet("set").manifest
    assert manifest is not None
    assert [(shard.rows, bool(shard.block)) for shard in manifest.shards] == [(5, True), (6, True), (5, True)]
    assert _embed(runner, tiny_clip, "tars", "--out", "set") == (
        0,
        ["Added 0 images to set (15 already there); it has 15 images."],
    )
    assert EmbeddingSet("set").manifest == manifest


def test_a_corrupt_image_is_a_row_with_its_error(runner: CliRunner, tiny_clip: Path, tars: Path) -> None:
    _embed(runner, tiny_clip, "tars", "--out", "set")
    rows = list(EmbeddingSet("set"))
    failed = [row for row in rows if isinstance(row, Failure)]
    assert [Path(row.image).name for row in failed] == ["broken.jpg"]
    assert failed[0].error.startswith("not an image in a known format")
    assert len(EmbeddingSet("set").vectors) == len(rows) - 1
    result = runner.invoke(main, ["search", "set", "--duplicates"])
    assert result.stderr.startswith("15 images in set: 0 exact duplicates, ")


def test_a_tar_that_cannot_be_read_is_named_and_the_others_go_on(
    runner: CliRunner, tiny_clip: Path, tars: Path
) -> None:
    (tars / "t-001.tar").write_bytes(b"this is no tar" * 100)
    code, lines = _embed(runner, tiny_clip, "tars", "--out", "set")
    assert code == 3
    assert "t-001.tar: cannot be read to its end as a tar file" in lines[0]
    assert lines[-1] == "Added 10 images to set; it has 10 images. 1 input failed."


def test_a_replaced_tar_is_embedded_beside_the_others(runner: CliRunner, tiny_clip: Path, tars: Path) -> None:
    _embed(runner, tiny_clip, "tars", "--out", "set")
    (tars / "t-003.tar").write_bytes((tars / "t-000.tar").read_bytes())
    code, lines = _embed(runner, tiny_clip, "tars", "--out", "set")
    assert (code, lines) == (0, ["Added 5 images to set (15 already there); it has 20 images."])


def test_what_a_stopped_run_wrote_is_recovered_with_its_block(
    runner: CliRunner, tiny_clip: Path, tars: Path
) -> None:
    _embed(runner, tiny_clip, "tars/t-000.tar", "--out", "set")
    one = (Path("set") / "manifest.json").read_bytes()
    _embed(runner, tiny_clip, "tars", "--out", "set")
    (Path("set") / "manifest.json").write_bytes(one)  # as where a run is killed before it names its shards
    code, lines = _embed(runner, tiny_clip, "tars", "--out", "set")
    assert code == 0
    assert lines[-1] == "Added 0 images to set (15 already there); it has 15 images."


def test_a_set_that_never_had_an_image_may_get_those_of_another_precision(
    runner: CliRunner, tiny_clip: Path, tars: Path
) -> None:
    write_tar(Path("broken.tar"), [("a.jpg", b"hello")])
    code, lines = _embed(runner, tiny_clip, "broken.tar", "--out", "set", "--half")
    assert (code, lines[-1]) == (1, "Added 0 images to set; it has 0 images. Every input failed (1).")
    result = runner.invoke(
        main, ["embed", "tars", "--out", "set", "--clip", str(tiny_clip), *EXACT, "--dtype", "bfloat16"]
    )
    assert result.exit_code == 3
    manifest = EmbeddingSet("set").manifest
    assert manifest is not None
    assert (manifest.dtype, manifest.stored, manifest.rows) == ("bfloat16", "float32", 16)


def test_a_table_that_cannot_be_read_is_named_and_the_others_go_on(
    runner: CliRunner, tiny_clip: Path, tars: Path
) -> None:
    (tars / "a.parquet").write_bytes(b"this is no table")
    code, lines = _embed(runner, tiny_clip, "tars", "--out", "set")
    assert code == 3
    assert "a.parquet: cannot be read: Parquet magic bytes not found" in lines[0]
    assert lines[-1] == "Added 15 images to set; it has 15 images. 2 inputs failed."


def test_another_precision_is_refused(runner: CliRunner, tiny_clip: Path, tars: Path) -> None:
    _embed(runner, tiny_clip, "tars", "--out", "set")
    result = runner.invoke(
        main, ["embed", "tars", "--out", "set", "--clip", str(tiny_clip), "--dtype", "bfloat16"]
    )
    assert (result.exit_code, "was made in float32, not bfloat16" in result.stderr) == (1, True)


def test_passes_in_any_order_are_what_one_process_computes(tiny_clip: Path, tars: Path) -> None:
    encoder = Encoder(tiny_clip, dtype="float32", engine="torch")
    sources = blocks_of(["tars"])
    preprocessing = Preprocessing.of(encoder)
    rows = [
        row
        for number, source in enumerate(sources)
        for row in decoded(to_row(number, source), preprocessing, 2)
    ]
    random.Random(0).shuffle(rows)
    assembly, blocks = Assembly(), dict[int, list[Embedded | Failure]]()
    for row in rows:
        if complete := assembly.take(encoded(row, encoder)):
            blocks[complete[0]] = complete[1]
    embedder = Embedder(encoder, batch=2)
    for number, source in enumerate(sources):
        for ours, theirs in zip(blocks[number], embedder.images(read(source)), strict=True):
            if isinstance(theirs, Failure):
                assert ours == theirs
            else:
                assert isinstance(ours, Embedded)
                assert (ours.image, ours.version) == (theirs.image, theirs.version)
                assert np.array_equal(ours.vector, theirs.vector)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tars", "photo.png", "--out", "set"], "pass images, and archives or tables of images, in runs of"),
        (["tars"], "give either --out or --trial"),
        (["tars", "--out", "set", "--actors", "2"], "--actors and --readers need --on"),
        (["tars", "--out", "set", "--prune"], "--prune is for image files, not for archives and tables"),
        (["photo.png", "--out", "set", "--prune", "--on", "ray"], "in one process: leave out --on"),
    ],
)
def test_options_without_effect_are_refused(
    runner: CliRunner, tars: Path, arguments: list[str], message: str
) -> None:
    result = runner.invoke(main, ["embed", *arguments])
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_trial_writes_nothing_and_says_what_is_measured(
    runner: CliRunner, tiny_clip: Path, tars: Path
) -> None:
    before = sorted(Path().rglob("*"))
    result = runner.invoke(main, ["embed", "tars", "--trial", "8", *EXACT, "--clip", str(tiny_clip)])
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"measured", "extrapolated", "cost"}
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(("number", "batch"), [(3, 8), (7, 4), (12, 2), (500, 4)])
def test_a_trial_takes_as_many_images_as_it_is_told_to(
    tars: Path, encoder: Encoder, number: int, batch: int
) -> None:
    result = trial(blocks_of([str(tars)]), encoder, batch, number, half=False)
    failed = 1 if number > 10 else 0
    assert (result.images, result.failed) == (min(number, 16), failed)
    assert result.encoded == result.images - failed
    assert result.encoding < 60 * result.encoded / 1000  # which is far below what loading takes


def test_a_trial_without_an_image_says_why(tmp_path: Path, encoder: Encoder) -> None:
    broken = write_tar(tmp_path / "broken.tar", [("a.png", b"hello")])
    with pytest.raises(ImageError, match=r"as no image could be read: .*broken.tar/a.png: not an image"):
        trial(blocks_of([str(broken)]), encoder, 4, 5, half=False)
    with pytest.raises(ImageError, match="there are no images"):
        trial(blocks_of([str(write_tar(tmp_path / "empty.tar", []))]), encoder, 4, 5, half=False)
    blocks = blocks_of([str(broken)])
    broken.unlink()
    with pytest.raises(ImageError, match="no such file or folder"):
        trial(blocks, encoder, 4, 5, half=False)


def test_a_set_inside_its_source_is_not_read(runner: CliRunner, tiny_clip: Path, tars: Path) -> None:
    (tars / "t-001.tar").unlink()
    for present in (0, 10):
        code, lines = _embed(runner, tiny_clip, "tars", "--out", "tars/set")
        there = f" ({present} already there)" if present else ""
        assert (code, lines) == (0, [f"Added {10 - present} images to tars/set{there}; it has 10 images."])


def test_a_tar_whose_name_is_no_text_is_embedded(
    runner: CliRunner, tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(b"caf\xe9.tar"))
    try:
        write_tar(path, [("a.png", png(1)), ("b.png", b"hello")])
    except OSError:
        pytest.skip("this file system has only names in Unicode")
    code, lines = _embed(runner, tiny_clip, str(path), "--out", "set")
    assert (code, lines[-1]) == (3, "Added 1 image to set; it has 1 image. 1 input failed.")
    first, second = EmbeddingSet("set")
    assert (first.image, second.image) == tuple(f"{tmp_path}/caf\\xe9.tar/{name}.png" for name in "ab")
    (block,) = blocks_of([str(path)])
    assert [json.loads(to_row(0, block)["source"])["url"]] == [str(tmp_path / path)]


def test_a_name_too_long_for_a_set_is_an_error_and_the_set_can_be_read(
    runner: CliRunner, tiny_clip: Path, tars: Path
) -> None:
    write_tar(tars / "t-001.tar", [("x" * 5000 + ".png", png(1)), ("b.png", png(2))])
    code, lines = _embed(runner, tiny_clip, "tars/t-001.tar", "--out", "set")
    assert code == 3
    assert "xxx…: its name has 5," in lines[0]
    failed, embedded = EmbeddingSet("set")
    assert (isinstance(failed, Failure), Path(embedded.image).name) == (True, "b.png")


def test_an_empty_tar_is_named(runner: CliRunner, tiny_clip: Path, tars: Path) -> None:
    write_tar(tars / "t-009.tar", [])
    code, lines = _embed(runner, tiny_clip, "tars/t-009.tar", "--out", "set")
    assert (code, "it has no images" in lines[0]) == (1, True)
