"""Classifying a set shard by shard into a folder: what is written, reruns, refusals, and the same on Ray."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.kit import untimed
from tests.scale import ray_jobs

from fieldmarks.classification.classifier_file import ClassifierFile
from fieldmarks.classification.embedder import Embedded
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.head import Head
from fieldmarks.classification.result_folder import ResultFolder
from fieldmarks.classification.results import Failure
from fieldmarks.classification.texts import Texts
from fieldmarks.cli import main

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

DIM = 16
MADE_WITH = {"model": "/models/clip", "dtype": "float32", "engine": "torch", "decode": "full"}
BASE = ("classify", "--image-embeddings", "set", "--classifier", "frogs.safetensors")


def write_classifier(path: Path, classes: int = 3, seed: int = 0) -> None:
    """Write a classifier of random texts, two to a class."""
    random = np.random.default_rng(seed)
    texts = Texts.collect(
        {f"class {number}": [(f"mark {number}.{at}",) * 2 for at in range(2)] for number in range(classes)}
    )
    head = Head(
        texts, random.standard_normal((2 * classes, DIM), dtype=np.float32), 100.0, metadata=MADE_WITH
    )
    ClassifierFile(path).write(head)


def write_set(folder: Path, shards: int = 3, rows: int = 4, first: int = 0) -> None:
    """Add shards of random vectors to a set; the last row of each is an unreadable image."""
    with SetWriter(folder, MADE_WITH | {"fingerprint": "f"}, of_blocks=True) as writer:
        for number in range(first, first + shards):
            random = np.random.default_rng(number)
            vectors = random.standard_normal((rows, DIM), dtype=np.float32)
            images = [Embedded(f"{number}/{at}.png", vector) for at, vector in enumerate(vectors)]
            writer.add_block(f"block {number}", [*images, Failure(f"{number}/broken.png", "not an image")])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a set of three shards and a classifier."""
    monkeypatch.chdir(tmp_path)
    write_classifier(tmp_path / "frogs.safetensors")
    write_set(tmp_path / "set")
    return tmp_path


def _classify(runner: CliRunner, *options: str) -> Result:
    return runner.invoke(main, [*BASE, *options])


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def _rows(*files: Path) -> list[dict[str, object]]:
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def test_each_shard_has_its_results_and_a_rerun_computes_none(runner: CliRunner, world: Path) -> None:
    done = _classify(runner, "-o", "results")
    assert done.exit_code == 3
    assert untimed(done.stderr).splitlines() == [
        *(f"Error: {number}/broken.png: not an image" for number in range(3)),
        "Classified 12 images. Wrote results. 3 inputs failed.",
    ]
    names = [name[: len("results_0000")] for name in _files(world / "results")]
    assert names == ["results_0000", "results_0001", "results_0002"]
    assert parquet.read_table("results").num_rows == 15
    assert _classify(runner, "-o", "whole.parquet").exit_code == 3
    for own, row in zip(
        _rows(*sorted((world / "results").glob("*.parquet"))), _rows(world / "whole.parquet"), strict=True
    ):
        assert own | {"probability": 0, "runner_up_probability": 0, "scores": 0, "marks": 0} == (
            row | {"probability": 0, "runner_up_probability": 0, "scores": 0, "marks": 0}
        )
        assert own["probability"] == pytest.approx(row["probability"], abs=1e-6)
    again = _classify(runner, "-o", "results")
    assert (again.exit_code, untimed(again.stderr)) == (
        0,
        "Nothing left to classify: results has the results of 15 images.\n",
    )


def test_a_rerun_computes_what_is_missing_and_the_same(runner: CliRunner, world: Path) -> None:
    _classify(runner, "-o", "results")
    whole = _files(world / "results")
    lost = sorted((world / "results").glob("*.parquet"))[1]
    lost.unlink()
    (world / "results" / ".results_0001.0123456789abcdef.tmp").write_bytes(b"half of a shard")
    done = _classify(runner, "-o", "results")
    assert untimed(done.stderr).splitlines()[-1] == (
        "Classified 4 images; skipped 10 with a result. Wrote results. 1 input failed."
    )
    assert _files(world / "results") == whole
    assert not list((world / "results").glob("*.tmp"))


def test_a_set_that_grew_or_was_made_anew_gets_what_it_lacks(runner: CliRunner, world: Path) -> None:
    _classify(runner, "-o", "results")
    write_set(world / "set", shards=1, first=3)
    before = _files(world / "results")
    assert "Classified 4 images; skipped 15" in _classify(runner, "-o", "results").stderr
    assert _files(world / "results").items() > before.items()
    for path in sorted((world / "set").glob("*/*")):
        path.unlink()
    (world / "set" / "manifest.json").unlink()
    write_set(world / "set", shards=2, first=7)
    done = _classify(runner, "-o", "results")
    assert "results: removed the results of 4 shards that set no longer has" in done.stderr
    assert len(_files(world / "results")) == 2


@pytest.mark.parametrize(
    ("options", "names"),
    [(("--top", "1"), "top"), (("--min-probability", "0.9"), "min-probability")],
)
def test_results_of_other_options_are_refused(
    runner: CliRunner, world: Path, options: tuple[str, ...], names: str
) -> None:
    _classify(runner, "-o", "results")
    before = _files(world / "results")
    refused = _classify(runner, "-o", "results", *options)
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"Error: results holds results of another run (other {names}); use the same options, or pass another"
        " folder with -o\n",
    )
    assert _files(world / "results") == before


def test_results_of_another_classifier_or_set_are_refused(runner: CliRunner, world: Path) -> None:
    _classify(runner, "-o", "results")
    write_classifier(world / "frogs.safetensors", seed=1)
    assert "another run (other classifier)" in _classify(runner, "-o", "results").stderr
    write_classifier(world / "frogs.safetensors")
    write_set(world / "other")
    assert (
        "another run (other set)" in _classify(runner, "-o", "results", "--image-embeddings", "other").stderr
    )
    assert _classify(runner, "-o", "results").exit_code == 0


def test_a_damaged_shard_is_named_and_left_for_the_next_run(runner: CliRunner, world: Path) -> None:
    path = world / "set" / "img_emb" / "img_emb_0001.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    done = _classify(runner, "-o", "results")
    assert done.exit_code == 3
    assert "Error: img_emb/img_emb_0001.npy: " in done.stderr
    assert untimed(done.stderr).splitlines()[-1] == "Classified 8 images. Wrote results. 3 inputs failed."
    path.write_bytes(whole)
    assert "Classified 4 images; skipped 10" in _classify(runner, "-o", "results").stderr


def test_vectors_that_are_not_those_of_the_manifest_are_not_classified(
    runner: CliRunner, world: Path
) -> None:
    path = world / "set" / "img_emb" / "img_emb_0001.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = _classify(runner, "-o", "results")
    assert done.exit_code == 3
    assert "img_emb_0001.npy is damaged: restore the folder, or delete it and run" in done.stderr
    assert untimed(done.stderr).splitlines()[-1] == "Classified 8 images. Wrote results. 3 inputs failed."


def test_a_set_that_is_not_there_is_named(runner: CliRunner, world: Path) -> None:
    absent = ("classify", "--image-embeddings", "absent", "--classifier", "frogs.safetensors")
    refused = runner.invoke(main, [*absent, "-o", "results"])
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: absent: no such file or folder of embeddings; check the path, or write a set with"
        " `fieldmarks embed IMAGES --out SET`\n",
    )


def test_no_other_model_is_named_where_nothing_is_embedded(runner: CliRunner, world: Path) -> None:
    done = runner.invoke(main, [*BASE, "--clip", "/models/other"])
    assert (done.exit_code, "the images are embedded with" in done.stderr) == (3, False)


def test_a_folder_of_anything_else_stays_as_it_is(runner: CliRunner, world: Path) -> None:
    (world / "results").mkdir()
    (world / "results" / "mine.txt").write_text("mine")
    refused = _classify(runner, "-o", "results")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: results already exists and is not a folder of results; choose a new folder\n",
    )
    assert [path.name for path in (world / "results").iterdir()] == ["mine.txt"]


def test_a_classifier_is_saved_beside_the_folder(runner: CliRunner, world: Path) -> None:
    saved = ("-o", "results", "--save-classifier", "copy.safetensors")
    assert "Wrote results and copy.safetensors." in untimed(_classify(runner, *saved).stderr)
    assert _classify(runner, *saved).exit_code == 1
    assert _classify(runner, *saved, "--force").exit_code == 0


def test_one_process_at_a_time(runner: CliRunner, world: Path) -> None:
    with ResultFolder(Path("results"), EmbeddingSet("set")):
        refused = _classify(runner, "-o", "results")
    assert "results is being written by another process: wait for it to end" in refused.stderr


def test_embeddings_without_shards_are_one_file(runner: CliRunner, world: Path) -> None:
    np.savez(world / "a.npz", embeddings=np.ones((2, DIM), np.float32))
    refused = _classify(runner, "-o", "results", "--image-embeddings", "a.npz")
    assert "a.npz is not in shards of `fieldmarks embed`" in refused.stderr
    assert not Path("results").exists()
    assert _classify(runner, "-o", "a.parquet", "--image-embeddings", "a.npz").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--on", "ray"), "--on goes with --image-embeddings SET and -o FOLDER"),
        (("--on", "ray", "-o", "a.parquet"), "--on goes with --image-embeddings SET and -o FOLDER"),
        (
            ("-o", "results", "--format", "csv"),
            "-o results is a folder of .parquet files: leave out --format csv",
        ),
        (("-o", "results", "--resume", "a.jsonl"), "leave out --resume"),
        (("-o", "results", "--relative", "--force"), "leave out --relative, --force"),
    ],
)
def test_options_that_do_not_go_with_a_folder(
    runner: CliRunner, world: Path, options: tuple[str, ...], message: str
) -> None:
    refused = _classify(runner, *options)
    assert refused.exit_code == 2
    assert message in " ".join(refused.stderr.split())


def test_an_address_that_is_none_and_a_cluster_that_is_absent(runner: CliRunner, world: Path) -> None:
    pytest.importorskip("ray")
    refused = _classify(runner, "-o", "results", "--on", "dask")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: expected --on ray or --on ray=ADDRESS, found 'dask'\n",
    )
    absent = _classify(runner, "-o", "results", "--on", "ray=127.0.0.1:1")
    assert absent.exit_code == 1
    assert "no Ray cluster at 127.0.0.1:1" in absent.stderr
    assert _classify(runner, "-o", "results").exit_code == 3


@pytest.mark.slow
def test_without_ray_it_is_not_imported(world: Path) -> None:
    words = [*BASE, "-o", "results"]
    code = f"""import sys
from fieldmarks.cli import main
try:
    main({words})
except SystemExit as leaving:
    print(leaving.code, 'ray' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"


@pytest.mark.slow
def test_on_ray_the_files_are_the_same_whatever_dies(runner: CliRunner, world: Path) -> None:
    pytest.importorskip("ray")
    write_classifier(world / "frogs.safetensors", classes=2000)
    write_set(world / "set", shards=10, rows=1500, first=3)
    _classify(runner, "-o", "one")
    with ray_jobs.started([*BASE, "-o", "many", "--on", "ray"]) as process:
        at_work = ray_jobs.wait_for(partial(ray_jobs.at_work, process.pid, "ray::_with_shared"), process)
        ray_jobs.end(at_work[0])
        code, lines = ray_jobs.outcome(process)
    assert (code, untimed(lines[-1])) == (
        3,
        "Classified 15,012 images. Wrote many. 13 inputs failed.",
    )
    assert _files(world / "many") == _files(world / "one")
