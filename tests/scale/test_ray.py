"""On Ray: the same embeddings as in one process, whatever dies on the way."""

from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import untimed
from tests.scale import ray_jobs
from tests.scale.archives import png, write_tars

from fieldmarks.cli import main

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

TARS, IMAGES = 30, 16  # enough that a job is far from its end when its first shards are seen


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tars(tmp_path_factory.mktemp("made") / "tars", TARS, IMAGES))


@pytest.fixture(scope="module")
def undisturbed(
    demo_clip: Path, tars: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes | str]:
    """What one process computes."""
    out = tmp_path_factory.mktemp("undisturbed") / "set"
    words = ["embed", tars, "--out", str(out), "--clip", str(demo_clip), *ray_jobs.EXACT]
    assert CliRunner().invoke(main, words).exit_code == 3
    return ray_jobs.contents(out)


@pytest.fixture(autouse=True)
def _own_folder(own_folder: Path) -> None:
    """Each test has a working folder of its own."""


def test_a_killed_actor_and_a_killed_reader_cost_nothing(
    demo_clip: Path, tars: str, undisturbed: dict[str, bytes | str]
) -> None:
    out = Path("set")
    with ray_jobs.job([tars], out, demo_clip, "--actors", "2") as process:
        for kind in (ray_jobs.READER, ray_jobs.ACTOR):
            at_work = ray_jobs.wait_for(partial(ray_jobs.at_work, process.pid, kind), process)
            ray_jobs.end(at_work[0])
        assert ray_jobs.shards(out) < TARS
        code, lines = ray_jobs.outcome(process)
    assert (code, untimed(lines[-1])) == (
        3,
        f"Added {TARS * IMAGES} images to set; it has {TARS * IMAGES} images. 1 input failed.",
    )
    assert ray_jobs.contents(out) == undisturbed


def test_a_killed_driver_costs_only_the_blocks_under_way(
    demo_clip: Path, tars: str, undisturbed: dict[str, bytes | str]
) -> None:
    out = Path("set")
    with ray_jobs.job([tars], out, demo_clip) as process:
        ray_jobs.wait_for(lambda: ray_jobs.shards(out) >= 2, process)
        ray_jobs.kill(process)
    before = ray_jobs.shards(out)
    assert 2 <= before < TARS
    code, lines = ray_jobs.finish([tars], out, demo_clip)
    present = int(lines[-1].partition("(")[2].partition(" already there")[0])
    assert code in (0, 3)  # 3 where the broken image was not in the first run's part
    assert present == before * IMAGES
    assert ray_jobs.contents(out) == undisturbed


def test_a_job_on_files_and_a_rerun(runner: CliRunner, demo_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(80):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(png(number))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    names = sorted(path.name for path in (tmp_path / "photos").iterdir())
    Path("list.csv").write_text("\n".join(["image", *(f"photos/{name}" for name in names)]))
    code, lines = ray_jobs.finish(["list.csv"], Path("set"), demo_clip)
    assert (code, untimed(lines[-1])) == (3, "Added 80 images to set; it has 80 images. 1 input failed.")
    runner.invoke(main, ["embed", "photos", "--out", "one", "--clip", str(demo_clip), *ray_jobs.EXACT])
    assert ray_jobs.contents(Path("set")) == ray_jobs.contents(Path("one"))
    result = runner.invoke(
        main, ["embed", "photos", "--out", "set", "--clip", str(demo_clip), *ray_jobs.EXACT]
    )
    assert untimed(result.stderr).splitlines()[-1].startswith("Added 0 images to set (80 already there)")


def test_no_cluster_at_an_address_is_one_line(runner: CliRunner, demo_clip: Path, tars: str) -> None:
    words = ["embed", tars, "--out", "set", "--clip", str(demo_clip), "--on", "ray=127.0.0.1:1"]
    result = runner.invoke(main, words)
    assert result.exit_code == 1
    assert "no Ray cluster at 127.0.0.1:1" in result.stderr
    assert not Path("set").exists()
