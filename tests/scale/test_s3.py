"""Archives and tables on object storage, by the real client: read as files are, and refusals in words.

The client, s3fs, is not among the packages of the tests, as it needs other versions of some of them.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import untimed
from tests.scale import ray_jobs
from tests.scale.archives import png, write_tar, write_tars
from tests.scale.object_storage import REGION, ObjectStorage, object_storage

from fieldmarks.classification.sources import Blob
from fieldmarks.cli import main
from fieldmarks.errors import ImageError
from fieldmarks.scale.blocks import SourceError, blocks_of, read

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed here")

TARS, IMAGES = 7, 4  # a listing needs several pages
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
REFUSALS = [
    ((400, "ExpiredToken"), "The provided token has expired."),
    ((403, "AccessDenied"), "Access Denied"),
    ((403, "InvalidAccessKeyId"), "InvalidAccessKeyId"),
]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """A bucket with some archives in the folder `train`, and credentials for it."""
    tars = write_tars(tmp_path / "tars", TARS, IMAGES)
    (tars / "t-001.tar").unlink()  # the one with a broken image
    write_tar(tars / "t-001.tar", [(f"1-{at:03d}.png", png(IMAGES + at)) for at in range(IMAGES)])
    with object_storage() as served:
        served.objects |= {f"train/{path.name}": path.read_bytes() for path in tars.iterdir()}
        for name, value in (
            ("AWS_ENDPOINT_URL", served.endpoint),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_SESSION_TOKEN", "session"),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("OMP_NUM_THREADS", "1"),  # as an actor has, for the same embeddings to the last bit
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        s3fs.S3FileSystem.clear_instance_cache()
        yield served
        s3fs.S3FileSystem.clear_instance_cache()


def _embed(clip: Path, *more: str) -> list[str]:
    return ["embed", "s3://bucket/train/*.tar", "--out", "set", "--clip", str(clip), *ray_jobs.EXACT, *more]


@pytest.fixture
def undisturbed(storage: ObjectStorage, demo_clip: Path) -> dict[str, bytes | str]:
    """What a job without a fault computes."""
    words = [word if word != "set" else "whole" for word in _embed(demo_clip)]
    with ray_jobs.started(words) as process:
        assert ray_jobs.outcome(process)[0] == 0
    return ray_jobs.contents(Path("whole"))


@pytest.mark.parametrize(
    ("source", "blocks"),
    [
        ("s3://bucket/train/*.tar", TARS),
        ("s3://bucket/train", TARS),
        ("s3://bucket/train/", TARS),
        ("s3://bucket/train/t-{002..004}.tar", 3),
        ("s3://bucket/train/t-003.tar", 1),
    ],
)
def test_a_source_has_all_of_its_objects_in_order(storage: ObjectStorage, source: str, blocks: int) -> None:
    found = [block.name for block in blocks_of([source])]
    assert len(found) == blocks
    assert found == sorted(found)
    assert all(name.startswith("s3://bucket/train/t-") for name in found)


def test_an_archive_is_read_as_on_this_machine(storage: ObjectStorage, tmp_path: Path) -> None:
    (here,) = blocks_of([str(tmp_path / "tars" / "t-002.tar")])
    (there,) = blocks_of(["s3://bucket/train/t-002.tar"])
    images = [image for image in read(there) if isinstance(image, Blob)]
    assert [image.data for image in images] == [image.data for image in read(here) if isinstance(image, Blob)]
    assert images[0].name == "s3://bucket/train/t-002.tar/2-000.png"


def test_a_table_is_read_in_row_groups(storage: ObjectStorage) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    content = io.BytesIO()
    parquet.write_table(
        arrow.table({"image": [png(number) for number in range(4)]}), content, row_group_size=2
    )
    storage.objects["a.parquet"] = content.getvalue()
    blocks = blocks_of(["s3://bucket/a.parquet"])
    images = [image for block in blocks for image in read(block)]
    assert images == [Blob(f"s3://bucket/a.parquet#{number}", png(number)) for number in range(4)]


@pytest.mark.parametrize(("refusal", "words"), REFUSALS)
def test_a_refusal_is_told_in_the_words_of_the_storage(
    storage: ObjectStorage, refusal: tuple[int, str], words: str
) -> None:
    block, *_ = blocks_of(["s3://bucket/train/*.tar"])
    storage.refusal = refusal
    told = rf"access refused \({words}\): check the credentials$"
    with pytest.raises(SourceError, match=f"^{told}"):
        list(read(block))
    for source in ("s3://bucket/train/*.tar", "s3://bucket/train/t-000.tar"):
        with pytest.raises(ImageError, match=told):
            blocks_of([source])


def test_an_object_that_is_replaced_or_removed_is_not_read(storage: ObjectStorage) -> None:
    replaced, removed, *_ = blocks_of(["s3://bucket/train/*.tar"])
    storage.objects["train/t-000.tar"] = storage.objects["train/t-002.tar"]
    del storage.objects["train/t-001.tar"]
    with pytest.raises(SourceError, match=r"^it has changed since this run began"):
        list(read(replaced))
    with pytest.raises(SourceError, match=r"^no such file or folder$"):
        list(read(removed))


@pytest.mark.parametrize(
    "more",
    [
        [],
        pytest.param(["--on", "ray", "--actors", "1"], marks=pytest.mark.slow),
    ],
)
def test_credentials_that_expire_cost_what_was_not_read(
    storage: ObjectStorage,
    undisturbed: dict[str, bytes | str],
    demo_clip: Path,
    more: list[str],
) -> None:
    if more:
        pytest.importorskip("ray")
    storage.refuse_after = 3
    with ray_jobs.started(_embed(demo_clip, *more)) as process:
        code, lines = ray_jobs.outcome(process)
    assert code == 3, lines
    named = [line for line in lines if line.startswith("Error: ")]
    assert len(named) == TARS - 3
    for line in named:
        assert line.count("s3://") == 1
        assert line.endswith(": access refused (The provided token has expired.): check the credentials")
    assert ray_jobs.shards(Path("set")) == 3

    storage.refusal = storage.refuse_after = None
    storage.requests.clear()
    with ray_jobs.started(_embed(demo_clip, *more)) as process:
        code, lines = ray_jobs.outcome(process)
    assert (code, untimed(lines[-1])) == (
        0,
        f"Added {(TARS - 3) * IMAGES} images to set ({3 * IMAGES} already there);"
        f" it has {TARS * IMAGES} images.",
    )
    fetched = [request for request in storage.requests if request.startswith("GET train/")]
    assert len(fetched) == len(set(fetched)) == TARS - 3
    assert ray_jobs.contents(Path("set")) == undisturbed


def test_secrets_are_in_no_file_and_no_message(
    storage: ObjectStorage, runner: CliRunner, demo_clip: Path, tmp_path: Path
) -> None:
    storage.refuse_after = 3
    said = runner.invoke(main, ["-v", *_embed(demo_clip)])
    assert any("AKIAIOSFODNN7EXAMPLE" in header for header in storage.secrets)  # requests are signed
    files = [path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert files
    for secret in (SECRET, "AKIAIOSFODNN7EXAMPLE"):
        assert secret not in said.output
        assert not any(secret.encode() in content for content in files)
