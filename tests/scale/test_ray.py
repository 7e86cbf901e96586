"""On Ray: the same embeddings as in one process, whatever dies on the way."""

import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.kit import untimed
from tests.scale import ray_jobs
from tests.scale.archives import png, write_tars

from fieldmarks.cli import main

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(write_tars(tmp_path / "tars", 12, 40))


@pytest.fixture
def undisturbed(runner: CliRunner, demo_clip: Path, tars: str) -> dict[str, bytes | str]:
    """What one process computes."""
    result = runner.invoke(main, ["embed", tars, "--out", "one", "--clip", str(demo_clip), *ray_jobs.EXACT])
    assert result.exit_code == 3
    return ray_jobs.contents(Path("one"))


def test_a_killed_actor_and_a_killed_driver_cost_nothing_but_what_was_under_way(
    demo_clip: Path, tars: str, undisturbed: dict[str, bytes | str]
) -> None:
    out = Path("set")
    with ray_jobs.job([tars], out, demo_clip) as process:
        assert ray_jobs.wait_for(lambda: ray_jobs.actors(process.pid), process)
        ray_jobs.end(ray_jobs.actors(process.pid)[0])
        assert ray_jobs.wait_for(lambda: ray_jobs.shards(out) >= 2, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = ray_jobs.shards(out)
    assert before >= 2
    code, lines = ray_jobs.finish([tars], out, demo_clip)
    present = int(lines[-1].partition("(")[2].partition(" already there")[0] or 0)
    assert code in (0, 3)  # 3 where the broken image was not in the first run's part
    assert present == before
    assert ray_jobs.contents(out) == undisturbed


def test_a_job_on_files_and_a_rerun(
    runner: CliRunner, demo_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(80):
        (tmp_path / "photos" / f"{number:03d}.png").write_bytes(png(number))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    code, lines = ray_jobs.finish(["photos"], Path("set"), demo_clip)
    assert (code, untimed(lines[-1])) == (3, "Added 80 images to set; it has 80 images. 1 image failed.")
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
