"""Faults done to jobs on Ray, again and again: each must end complete, and as an undisturbed job does.

    python tests/benchmarks/ray_faults.py CLIP [--actors 20] [--drivers 10] [--nodes 5] [--images 640]

A cluster of two nodes of one CPU each is started on this machine, and archives of small drawn images are
embedded on it, by two actors of the model CLIP. Once some blocks are in the set, an actor is killed, or the
process that was started, or a node; a new node then takes the place of the lost one. What ended early is run
again, once. Shown are, for each kind of fault, how many jobs were complete without a rerun and with one, how
many differed from the undisturbed job, and how many images of complete blocks were embedded a second time.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from tests.scale import ray_jobs
from tests.scale.archives import write_tars

TARS = 20
PATIENCE = 900.0  # seconds for a job on a busy machine
NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20}


class Trial:
    """One job, with a fault once some of its blocks are in the set."""

    def __init__(self, folder: Path, clip: str, address: str) -> None:
        self.out = folder / "set"
        words = [
            "embed",
            str(folder / "tars"),
            "--out",
            str(self.out),
            "--on",
            f"ray={address}",
            "--actors",
            "2",
        ]
        self._command = [sys.executable, "-m", "fieldmarks", *words, "--clip", clip, *ray_jobs.EXACT]
        shutil.rmtree(self.out, ignore_errors=True)

    def run(self, fault: Callable[[subprocess.Popen[str]], None] | None) -> tuple[int, str]:
        """Run the job to its end; return its exit code and its last line."""
        with subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + PATIENCE
            while fault and ray_jobs.shards(self.out) < TARS // 5 and process.poll() is None:
                assert time.monotonic() < until, "no block was complete in time"
                time.sleep(0.05)
            if fault:
                fault(process)
            try:
                _, said = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                return -1, "it stood still"
        return process.returncode, (said.splitlines() or [""])[-1]


def kill_actor(_: subprocess.Popen[str]) -> None:
    """Kill a process that embeds at this moment, or else one that may."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if at_work := ray_jobs.at_work(os.getpid(), ray_jobs.ACTOR):
            ray_jobs.end(at_work[0])
            return
        time.sleep(0.02)


def kill_driver(process: subprocess.Popen[str]) -> None:
    """Kill the command itself."""
    process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clip")
    for kind, times in (("actors", 20), ("drivers", 10), ("nodes", 5), ("images", 640)):
        parser.add_argument(f"--{kind}", type=int, default=times)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_tars(Path(name) / "tars", TARS, given.images // TARS)
        cluster: Any = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        try:
            measure(Path(name), given, cluster)
        finally:
            cluster.shutdown()


def measure(folder: Path, given: argparse.Namespace, cluster: Any) -> None:
    """Run the series, and print a line for each kind of fault."""
    nodes = [cluster.add_node(**NODE)]
    cluster.wait_for_nodes()
    trial = Trial(folder, given.clip, cluster.address)
    assert trial.run(None)[0] == 3  # one image is broken
    undisturbed = ray_jobs.contents(trial.out)

    def lose_node(_: subprocess.Popen[str]) -> None:
        cluster.remove_node(nodes.pop(), allow_graceful=False)

    faults = ((kill_actor, given.actors), (kill_driver, given.drivers), (lose_node, given.nodes))
    for fault, times in faults:
        if not times:
            continue
        seen: Counter[str] = Counter()
        began = time.monotonic()
        for _ in range(times):
            trial = Trial(folder, given.clip, cluster.address)
            code, last = trial.run(fault)
            before = ray_jobs.contents(trial.out)
            if code != 3 or len(before) < len(undisturbed):
                print(f"run again after: {last}", flush=True)
                code, last = trial.run(None)
                seen["with a rerun"] += 1
                present = _present(last) - _present(last) % (given.images // TARS)  # less the broken image
                seen["embedded twice"] += _added(last) + present - _images(undisturbed)
            if not nodes:
                nodes.append(cluster.add_node(**NODE))
                cluster.wait_for_nodes()
            contents = ray_jobs.contents(trial.out)
            seen["incomplete"] += len(contents) < len(undisturbed)
            seen["different"] += any(contents[name] != undisturbed[name] for name in contents)
        at_once = times - seen["with a rerun"] - seen["incomplete"]
        print(
            f"{times} × {fault.__name__.replace('_', ' ')}: {at_once} complete at once,"
            f" {seen['with a rerun']} after one rerun, {seen['incomplete']} not;"
            f" {seen['different']} with other embeddings; {seen['embedded twice']} images of complete blocks"
            f" embedded twice;"
            f" {(time.monotonic() - began) / times:.0f} s each",
            flush=True,
        )


def _added(line: str) -> int:
    """Return how many images a run added, from its closing line."""
    return int(line.partition("Added ")[2].partition(" ")[0].replace(",", "") or 0)


def _present(line: str) -> int:
    """Return how many images a run found in the set, those that it recovered among them."""
    return int(line.partition(" (")[2].partition(" already there")[0].replace(",", "") or 0)


def _images(contents: dict[str, bytes | str]) -> int:
    return sum(isinstance(embedding, bytes) for embedding in contents.values())


if __name__ == "__main__":
    main()
