"""The run file: what it says of answers and claims, and that no other file is taken for one."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fieldmarks.errors import StoreError
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Questions, Sample
from fieldmarks.generation.run_file import (
    FAILED,
    RELEASED,
    STORED,
    Owner,
    RunFile,
    claim,
    end,
    process_start,
)

ASK = Questions(Prompt.load("article"), "m")
K = ASK.of("fox").key
RED = Sample("- red", "stop", mode="prefix")
ANSWER = {"answer": "- red", "key": K, "class": "fox", "sample": 0, "finish_reason": "stop", "mode": "prefix"}


def opened(folder: Path, lifetime: float = 60.0) -> RunFile:
    run_file = RunFile(folder / "s.jsonl", lifetime)
    run_file.refresh()
    return run_file


def claimed(folder: Path, owner: Owner, at: str | None = None) -> RunFile:
    """Return a run file that another run reads after `owner` has claimed a question."""
    line = claim(K, "fox", owner)
    opened(folder).append([line if at is None else line | {"at": at}])
    return opened(folder)


def test_a_question_goes_by_what_is_asked(tmp_path: Path) -> None:
    others = [
        ASK.of("owl").key,
        replace(ASK, model="n").of("fox").key,
        replace(ASK, prompt=Prompt.load("two-shot")).of("fox").key,
    ]
    assert len({K, *others}) == 4
    renamed = replace(ASK, prompt=replace(ASK.prompt, name="another name"))
    assert renamed.of("fox").key == K


def test_a_key_is_what_earlier_versions_wrote() -> None:
    questions = Questions(ASK.prompt, "m", 0.7, 99, 5, 3, 2)
    assert questions.of("fox").key == "068a6fe64a1aaff36ebb1a82b3f668cd"


def test_answers_are_read_by_the_next_run_until_they_are_stored(tmp_path: Path) -> None:
    run_file = opened(tmp_path)
    run_file.append([ANSWER, ANSWER | {"sample": 1}])
    assert opened(tmp_path).samples(K) == run_file.samples(K) == [RED, replace(RED, number=1)]
    run_file.append([end(K, FAILED, "status 413")])
    assert len(opened(tmp_path).samples(K)) == 2, "a request that fails takes no answer away"
    run_file.append([end(K, STORED)])
    assert opened(tmp_path).samples(K) == []


def test_what_another_process_appends_is_read_too(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    for number in range(3):
        first.append([ANSWER | {"sample": number}])
        second.refresh()
        assert len(second.samples(K)) == number + 1


def test_ones_own_claim_is_no_obstacle(tmp_path: Path) -> None:
    run_file = opened(tmp_path)
    run_file.append([claim(K, "fox", run_file.owner)])
    assert not run_file.is_claimed(K)


def test_a_living_process_holds_its_claim_however_old(tmp_path: Path) -> None:
    pid = os.getppid()
    owner = Owner(Owner.here().host, pid, process_start(pid) or "", "r")
    run_file = claimed(tmp_path, owner, at="2020-01-01T00:00:00+00:00")
    assert run_file.is_claimed(K)
    run_file.append([end(K, RELEASED)])
    assert not run_file.is_claimed(K)


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner(Owner.here().host, process.pid, process_start(process.pid) or "", "r")
    run_file = claimed(tmp_path, owner)
    assert run_file.is_claimed(K)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    run_file.refresh()
    assert not run_file.is_claimed(K)
    process.communicate()
    assert process_start(process.pid) is None


@pytest.mark.parametrize("years", [1, 100, 7000])
def test_a_claim_of_the_far_future_holds_nothing(tmp_path: Path, years: int) -> None:
    at = f"{2027 + years}-01-01T00:00:00+00:00"
    assert not claimed(tmp_path, Owner("elsewhere", 1, "1", "r"), at).is_claimed(K)


def test_a_clock_that_is_a_little_ahead_holds_its_claim(tmp_path: Path) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=20)).isoformat()
    assert claimed(tmp_path, Owner("elsewhere", 1, "1", "r"), at).is_claimed(K)


def test_an_earlier_process_with_our_own_id_holds_nothing(tmp_path: Path) -> None:
    """As in a container that was started again, where each process gets the number that it had."""
    assert not claimed(tmp_path, replace(Owner.here(), started="1")).is_claimed(K)


@pytest.mark.parametrize("part", ["name", "boot", "namespace", "name alone"])
def test_a_process_that_is_not_seen_from_here_holds_its_claim(tmp_path: Path, part: str) -> None:
    name, _, rest = Owner.here().host.partition("/")
    boot, _, namespace = rest.partition("/")
    host = {
        "name": f"other/{rest}",
        "boot": f"{name}/other/{namespace}",
        "namespace": f"{name}/{boot}/pid:[1]",
        "name alone": name,
    }[part]
    owner = Owner(host, 2**22 + 1, "1", "r")
    assert claimed(tmp_path, owner).is_claimed(K)
    assert f"process {owner.pid} on {host.partition('/')[0]}, until " in opened(tmp_path).claimant(K)
    assert not claimed(tmp_path, replace(owner, host=Owner.here().host)).is_claimed(K)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--mount-proc"], []])
def test_processes_of_other_namespaces_see_each_others_claims(tmp_path: Path, options: list[str]) -> None:
    """A second container with the same name and store: each of the two cannot look up the other's process."""
    apart = ["unshare", "--pid", "--fork", *options]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no new namespace for processes here")
    pid = os.getppid()
    mine = claimed(tmp_path, Owner(Owner.here().host, pid, process_start(pid) or "", "r"))
    program = (
        "import sys; from pathlib import Path; from fieldmarks.generation.run_file import RunFile\n"
        "file = RunFile(Path(sys.argv[1]), 60.0); file.refresh(); print(file.is_claimed(sys.argv[2]))"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "s.jsonl"), K]
    shown = subprocess.run([*apart, *arguments], capture_output=True, text=True, check=True)
    assert mine.is_claimed(K)
    assert shown.stdout == "True\n"


def test_another_process_with_the_same_id_holds_nothing(tmp_path: Path) -> None:
    assert not claimed(tmp_path, Owner(Owner.here().host, os.getppid(), "long ago", "r")).is_claimed(K)


@pytest.mark.parametrize("owner", [Owner("elsewhere", 1, "1", "r"), replace(Owner.here(), run="another")])
def test_where_nobody_can_look_a_claim_is_void_after_its_lifetime(tmp_path: Path, owner: Owner) -> None:
    assert claimed(tmp_path, owner).is_claimed(K)
    assert not claimed(tmp_path, owner, at="2020-01-01T00:00:00+00:00").is_claimed(K)


@pytest.mark.parametrize("owner", [{}, {"pid": "x"}, {"pid": -1, "host": 5}, {"pid": True}])
def test_an_owner_that_is_none_holds_nothing_for_long(tmp_path: Path, owner: dict[str, Any]) -> None:
    line = {"claim": K, "owner": owner, "at": "yesterday"}
    (tmp_path / "s.jsonl.run").write_text(json.dumps(line) + "\n")
    assert not opened(tmp_path).is_claimed(K)


def test_failures_count_only_if_they_are_newer_than_the_run(tmp_path: Path) -> None:
    before = opened(tmp_path)
    before.append([end(K, FAILED, "status 413")])
    run_file = opened(tmp_path)
    assert run_file.failure(K) is None
    before.append([end(K, FAILED, "status 414")])
    run_file.refresh()
    assert run_file.failure(K) == "status 414"
    before.append([claim(K, "fox", before.owner)])
    run_file.refresh()
    assert run_file.failure(K) is None


def test_the_file_goes_once_nothing_is_pending(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl.run"
    run_file = opened(tmp_path)
    run_file.append([claim(K, "fox", run_file.owner), ANSWER])
    assert run_file.close() == 1
    assert [json.loads(line) for line in path.read_text().splitlines()] == [ANSWER]
    again = opened(tmp_path)
    again.append([end(K, STORED)])
    assert again.close() == 0
    assert not path.exists()
    assert opened(tmp_path).close() == 0


def test_the_file_stays_while_another_process_asks(tmp_path: Path) -> None:
    pid = os.getppid()
    run_file = claimed(tmp_path, Owner(Owner.here().host, pid, process_start(pid) or "", "r"))
    mine = ASK.of("owl").key
    run_file.append([claim(mine, "owl", run_file.owner)])
    run_file.close()
    other = opened(tmp_path)
    assert other.is_claimed(K)
    assert not other.is_claimed(mine)


@pytest.mark.parametrize("length", range(1, 60))
def test_an_incomplete_last_line_is_cut_off_by_the_next_append(tmp_path: Path, length: int) -> None:
    path = tmp_path / "s.jsonl.run"
    opened(tmp_path).append([ANSWER])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:length])
    run_file = opened(tmp_path)
    assert run_file.samples(K) == [RED]
    run_file.append([ANSWER | {"sample": 1}])
    assert [sample.number for sample in opened(tmp_path).samples(K)] == [0, 1]


@pytest.mark.parametrize(
    "line",
    [
        "notes",
        "[1]",
        "5",
        "{}",
        '{"class":"fox","descriptors":["red"]}',
        '{"answer":"a"}',
        '{"answer":5,"key":"k","sample":1}',
        '{"claim":"k","at":"x"}',
        '{"end":"k","as":"somehow"}',
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("before", [b"", json.dumps(ANSWER).encode() + b"\n"])
def test_any_other_file_is_refused_and_stays(tmp_path: Path, line: str, before: bytes) -> None:
    path = tmp_path / "s.jsonl.run"
    path.write_bytes(before + line.encode() + b"\n")
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"s\.jsonl\.run exists and is not a run file of fieldmarks"):
        opened(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s.jsonl.run"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="not a regular file"):
        opened(tmp_path)


def test_all_names_of_a_store_share_one_run_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "s.jsonl").symlink_to(tmp_path / "real" / "store.jsonl")
    opened(tmp_path).append([ANSWER])
    shared = RunFile(tmp_path / "real" / "store.jsonl", 60.0)
    shared.refresh()
    assert shared.samples(K) == [RED]
