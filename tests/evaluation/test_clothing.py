"""Real photos: the same figures by whichever way the data set is given."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.evaluation.recompute import faults

from fieldmarks.cli import main

pytestmark = [
    pytest.mark.slow,
    # What `datasets` and its own dependencies do when they write files is not ours to judge.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

Photos = list[tuple[Path, str]]


@pytest.fixture(scope="module")
def photos(check_data: Path) -> Photos:
    """The photos of clothes with their classes, in the order in which a folder is read."""
    folder = check_data / "photos" / "clothing"
    return [(path, path.parent.name) for path in sorted(folder.glob("*/*.jpg"))]


@pytest.fixture
def store(tmp_path: Path, photos: Photos) -> Path:
    """A store of the ten classes; what is in it does not matter here."""
    names = dict.fromkeys(label for _, label in photos)
    lines = [
        {"class": name, "descriptors": [f"a {name} on a hanger", "cloth with seams", f"worn like a {name}"]}
        for name in names
    ]
    path = tmp_path / "clothes.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _manifest(photos: Photos, folder: Path) -> Path:
    path = folder / "photos.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *photos])
    return path


def _parquet(photos: Photos, folder: Path) -> Path:
    from datasets import ClassLabel, Dataset, Features, Image  # type: ignore[import-untyped]

    names = list(dict.fromkeys(label for _, label in photos))
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    images = [{"bytes": path.read_bytes(), "path": path.name} for path, _ in photos]
    columns = {"image": images, "label": [label for _, label in photos]}
    path = folder / "photos.parquet"
    Dataset.from_dict(columns, features=features).to_parquet(path)
    return path


def _tar(photos: Photos, folder: Path) -> Path:
    path = folder / "photos-0000.tar"
    with tarfile.open(path, "w") as archive:
        for number, (photo, label) in enumerate(photos):
            for end, data in (("jpg", photo.read_bytes()), ("cls", label.encode())):
                member = tarfile.TarInfo(f"{number:05}.{end}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def test_four_ways_one_result(
    runner: CliRunner, tmp_path: Path, photos: Photos, store: Path, demo_clip: Path, check_data: Path
) -> None:
    ways = [
        check_data / "photos" / "clothing",
        *(make(photos, tmp_path) for make in (_manifest, _parquet, _tar)),
    ]
    results = [_evaluated(runner, way, store, demo_clip) for way in ways]
    first = results[0]
    assert len(first["images"]) == len(photos) == 372
    assert faults(first) == []
    for other in results[1:]:
        for key in ("labels", "classes", "arms", "effects", "summary"):
            assert other[key] == first[key], key


def _evaluated(runner: CliRunner, dataset: Path, store: Path, clip: Path) -> dict[str, Any]:
    inputs = [str(dataset), "--store", str(store), "--clip", str(clip)]
    result = runner.invoke(main, ["evaluate", *inputs, "--ablate", "--json", "-"])
    assert result.exit_code == 0, result.output
    plain: dict[str, Any] = json.loads(result.stdout)
    return plain
