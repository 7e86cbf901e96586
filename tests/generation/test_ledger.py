"""What a run finds on disk from earlier runs and from those beside it."""

import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.generation.scripted_server import ScriptedServer, completion, marks, refusal

from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Questions
from fieldmarks.generation.run import Summary, fill, forecast
from fieldmarks.generation.run_file import Owner, RunFile, claim, end
from fieldmarks.store import Store

ARTICLE = Questions(Prompt.load("article"), "m")
THREE = replace(ARTICLE, temperature=0.8, seed=1, samples=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.jsonl"


def run(server: ScriptedServer, path: Path, *names: str, **options: Any) -> Summary:
    completer = EndpointCompleter(
        server.url, "m", mode="completions", concurrency=options.pop("concurrency", 4),
        timeout=options.pop("timeout", 60.0),
    )  # fmt: skip
    store = Store(path, create=True)
    return fill(list(names), store, options.pop("questions", ARTICLE), completer, **options)


def asked(name: str, questions: Questions = ARTICLE) -> str:
    return questions.of(name).key


def left_behind(path: Path, *lines: dict[str, Any]) -> None:
    """Write the run file of a run that was killed."""
    run_file = RunFile(path, 60.0)
    run_file.refresh()
    run_file.append(lines)


def answer(text: str, questions: Questions = THREE, sample: int = 0, name: str = "fox") -> dict[str, Any]:
    line = {"answer": text, "key": asked(name, questions), "class": name, "sample": sample}
    return line | {
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 9, "completion_tokens": 5},
        "mode": "x",
    }


def run_file_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.run")


def test_a_class_that_lacks_nothing_is_stored_without_a_request(server: ScriptedServer, path: Path) -> None:
    left_behind(path, *(answer("- red", sample=sample) for sample in range(3)))
    summary = run(server, path, "fox", questions=THREE)
    (entry,) = Store(path).entries()
    assert (summary.done, summary.requests, server.calls) == (1, 0, [])
    assert (entry.descriptors, entry.mode, len(entry.answers)) == (("red",), "x", 3)
    assert entry.usage == {"prompt_tokens": 27, "completion_tokens": 15}
    assert not run_file_of(path).exists()


def test_a_refusal_that_was_paid_for_is_not_asked_for_again(server: ScriptedServer, path: Path) -> None:
    left_behind(path, answer("I cannot say."), answer("- red", sample=1))
    run(server, path, "fox", questions=THREE, concurrency=1)
    assert [call.body["seed"] for call in server.calls] == [1001, 3]
    (entry,) = Store(path).entries()
    assert [text["answer"] for text in entry.answers][:2] == ["I cannot say.", "- red"]


def test_a_forecast_counts_what_is_paid_for(path: Path) -> None:
    left_behind(path, answer("- red"))
    store = Store(path, create=True)
    assert forecast(["fox", "owl"], store, THREE).requests == 5


def test_answers_that_a_dying_run_had_stored_are_not_kept_twice(server: ScriptedServer, path: Path) -> None:
    run(server, path, "fox", questions=THREE)
    (entry,) = Store(path).entries()
    left_behind(path, *(answer(text["answer"], sample=text["sample"]) for text in entry.answers))
    assert run(server, path, "fox", questions=THREE).pending == 0
    assert not run_file_of(path).exists()
    assert len(server.calls) == 3


def test_answers_to_another_question_are_kept(server: ScriptedServer, path: Path) -> None:
    left_behind(path, answer("- red"))
    summary = run(server, path, "fox")
    assert (summary.done, summary.pending) == (1, 1)
    assert [json.loads(line)["answer"] for line in run_file_of(path).read_text().splitlines()] == ["- red"]


@pytest.mark.slow
def test_a_dead_hosts_class_is_taken_over_once_its_claim_is_void(
    server: ScriptedServer, path: Path, news: list[str]
) -> None:
    left_behind(path, claim(asked("fox"), "fox", Owner("elsewhere", 1, "1", "r")))
    start = time.monotonic()
    summary = run(server, path, "fox", "owl", timeout=1.5)
    assert summary.done == 2
    (message,) = news
    expected = (
        r"Waiting for 1 class, asked by process 1 on elsewhere, until \d\d:\d\d:\d\d unless it renews .*"
    )
    assert re.fullmatch(expected, message)
    assert time.monotonic() - start > 1, "the claim held for twice the timeout"


@pytest.mark.slow
def test_claims_are_renewed_as_long_as_a_request_takes(server: ScriptedServer, path: Path) -> None:
    server.script = lambda _: completion(" a\n- b", delay=4.0)
    moments: list[str] = []

    def look() -> None:
        while not moments or thread.is_alive():
            if run_file_of(path).exists():
                claims = [json.loads(line) for line in run_file_of(path).read_text().splitlines()]
                moments.extend(line["at"] for line in claims if "claim" in line)
            time.sleep(0.2)

    thread = threading.Thread(target=lambda: run(server, path, "fox", timeout=5.0))
    thread.start()
    look()
    assert len(set(moments)) > 1


@pytest.mark.slow
def test_a_class_that_another_run_fails_on_is_not_asked_again(server: ScriptedServer, path: Path) -> None:
    other = Owner("elsewhere", 1, "1", "r")
    left_behind(path, claim(asked("fox"), "fox", other), claim(asked("owl"), "owl", other))

    def fail() -> None:
        time.sleep(0.7)
        left_behind(path, end(asked("fox"), "failed", "status 413: too long"), end(asked("owl"), "released"))

    thread = threading.Thread(target=fail)
    thread.start()
    summary = run(server, path, "fox", "owl", "yak")
    thread.join()
    assert summary.failed == {"fox": "status 413: too long (asked by another process)"}
    assert summary.done == 2


@pytest.mark.slow
def test_runs_side_by_side_share_a_refresh(server: ScriptedServer, path: Path) -> None:
    names = [f"class {number}" for number in range(20)]
    run(server, path, *names)
    server.script = lambda _: completion(" a\n- b", delay=0.1)
    summaries: list[Summary] = []
    threads = [
        threading.Thread(target=lambda: summaries.append(run(server, path, *names, refresh=True)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.calls) == 40
    assert sorted(summary.done + summary.others for summary in summaries) == [20, 20]


def test_one_refused_request_keeps_the_other_samples(server: ScriptedServer, path: Path) -> None:
    server.script = lambda call: refusal(413, "too long") if call.body["seed"] == 2 else marks(call)
    summary = run(server, path, "fox", questions=THREE)
    assert (list(summary.failed), summary.pending) == (["fox"], 2)
    server.script = marks
    assert run(server, path, "fox", questions=THREE).done == 1
    assert len(server.calls) == 4


def test_claims_of_dead_runs_alone_leave_no_file(server: ScriptedServer, path: Path) -> None:
    run(server, path, "fox")
    left_behind(path, claim(asked("fox"), "fox", Owner(Owner.here().host, 1 << 22, "1", "r")))
    assert run(server, path, "fox").cached == 1
    assert not run_file_of(path).exists()


def test_classes_are_in_the_order_of_their_list_whoever_is_answered_first(
    server: ScriptedServer, path: Path
) -> None:
    """Later classes are answered earlier; a longer list puts what it adds between its neighbours."""
    names = ["ant", "bee", "cat"]
    delays = {"ant": 0.4, "bee": 0.2}
    server.script = lambda call: replace(
        marks(call),
        delay=next((delays[name] for name in delays if f"a {name} " in call.text.splitlines()[-2]), 0),
    )
    run(server, path, *names)
    assert [json.loads(line)["class"] for line in path.read_text().splitlines()] == names[::-1]
    assert Store(path).names() == names
    run(server, path, "ant", "asp", "bee", "cat", "eel")
    assert Store(path).names() == ["ant", "asp", "bee", "cat", "eel"]
