"""Whatever an endpoint does: a bound on time and memory, and one line that names the cause."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.behaviours import TABLE
from tests.faults.hostile import Behaviour, HostileServers, make_certificates, meet, problem

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = [behaviour for behaviour in TABLE if behaviour.sampled]
MOST_MEMORY = 200  # MiB above the idle process
CONCURRENCY = 16
BOUND = 10.0  # seconds for as many requests at once, on two cores that the server floods, too


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table's certificates."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl program to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="session")
def servers(certificates: Path) -> Iterator[HostileServers]:
    with HostileServers(SAMPLE, certificates) as serving:
        yield serving


def test_the_table_names_each_behaviour_once() -> None:
    assert len({behaviour.name for behaviour in TABLE}) == len(TABLE) >= 100
    assert len(SAMPLE) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", SAMPLE, ids=lambda behaviour: behaviour.name)
def test_a_hostile_endpoint_is_named(
    servers: HostileServers, certificates: Path, behaviour: Behaviour
) -> None:
    line, seconds = meet(behaviour, servers.ports[behaviour.name], certificates)
    assert problem(behaviour, line, seconds) is None


@pytest.mark.slow
@pytest.mark.attack
def test_all_hostile_endpoints_are_named_in_bounded_time_and_memory(certificates: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.behaviours"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command, "serve", str(certificates)], text=True, cwd=ROOT, **pipes) as serving:  # type: ignore[call-overload]
        ports = serving.stdout.readline()
        meeting = [*command, "meet", ports, str(certificates), str(CONCURRENCY)]
        done = subprocess.run(meeting, capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
        serving.stdin.close()
    assert done.returncode == 0, done.stderr
    results = {result["name"]: result for result in map(json.loads, done.stdout.splitlines())}
    assert len(results) == len(TABLE)
    problems = {}
    for behaviour in TABLE:
        result = results[behaviour.name]
        problems[behaviour.name] = problem(behaviour, result["line"], result["seconds"], BOUND)
    assert {name: wrong for name, wrong in problems.items() if wrong} == {}
    last = list(results.values())[-1]
    slowest = max(results.values(), key=lambda result: float(result["seconds"]))
    print(
        f"{len(results)} behaviours, {CONCURRENCY} requests each: slowest {slowest['seconds']:.1f} s "
        f"({slowest['name']}); idle {last['idle']:.0f} MiB, peak {last['peak']:.0f} MiB"
    )
    assert last["peak"] - last["idle"] <= MOST_MEMORY
