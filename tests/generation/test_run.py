"""A run as a whole: every class once in the store, nothing lost, nothing asked twice."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.generation.scripted_server import Call, Reply, ScriptedServer, completion, marks, refusal

from fieldmarks.errors import EndpointError, PromptError, StoreError
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.ledger import Budget
from fieldmarks.generation.local import LocalCompleter
from fieldmarks.generation.parse import MAX_DESCRIPTORS
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import (
    Charge,
    Failure,
    Outcome,
    Question,
    Questions,
    Usage,
    reparse,
    unlimited,
)
from fieldmarks.generation.run import Progress, Summary, fill, forecast
from fieldmarks.records import Entry
from fieldmarks.store import Store

ARTICLE = Questions(Prompt.load("article"), "m")
MARKS = ("green skin", "large round eyes", "long legs")
GOOD = marks(Call(0, "", {}, {}, 0.0))
WORTH = (100.0, 1000.0)  # USD per million: 50 tokens read and 10 written are 0.015


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.jsonl", create=True)


def _completer(server: ScriptedServer, **options: Any) -> EndpointCompleter:
    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    return EndpointCompleter(server.url, "m", **{"mode": "completions", "sleep": at_once, **options})


def run_path(store: Store) -> Path:
    return store.path.with_name(f"{store.path.name}.run")


def _pending_answers(store: Store) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run_path(store).read_text().splitlines()]
    return [line for line in lines if "answer" in line]


def test_each_class_gets_one_line(server: ScriptedServer, store: Store) -> None:
    seen: list[Progress] = []
    summary = fill(["fox", "owl"], store, ARTICLE, _completer(server), progress=seen.append)
    again = Store(store.path)
    assert again.names() == store.names()
    assert {entry.name: entry.descriptors for entry in again.entries()} == {"fox": MARKS, "owl": MARKS}
    assert summary == Summary(
        done=2, cached=0, kept=0, others=0, failed={}, lost=(), cut=(), too_long=(), left=(), pending=0,
        requests=2, usage=Usage(100, 20), cost=None, seconds=summary.seconds,
    )  # fmt: skip
    assert (seen[-1].done, seen[-1].total, seen[-1].requests) == (2, 2, 2)


def test_a_second_run_asks_nothing(server: ScriptedServer, store: Store) -> None:
    fill(["fox"], store, ARTICLE, _completer(server))
    summary = fill(["fox"], Store(store.path), ARTICLE, _completer(server))
    assert (summary.done, summary.cached, summary.requests, len(server.calls)) == (0, 1, 0, 1)


def test_nothing_of_a_model_is_loaded_where_nothing_is_asked(store: Store, tmp_path: Path) -> None:
    store.append(Entry("fox", ("red fur",)))
    summary = fill(
        ["fox"], store, replace(ARTICLE, model="nobody/no-such-model"), LocalCompleter("nobody/no-such-model")
    )
    assert (summary.kept, summary.requests) == (1, 0)


def test_what_was_answered_before_is_put_in_force_again(server: ScriptedServer, store: Store) -> None:
    for questions in (ARTICLE, replace(ARTICLE, max_tokens=50), ARTICLE):
        fill(["fox"], store, questions, _completer(server))
    assert len(server.calls) == 2
    assert [(entry.params or {})["max_tokens"] for entry in store.history("fox")] == [200, 50, 200]


def test_an_empty_answer_is_asked_again_with_other_dice(server: ScriptedServer, store: Store) -> None:
    prompt = replace(ARTICLE.prompt, text=ARTICLE.prompt.text.removesuffix("\n-"))
    questions = replace(ARTICLE, prompt=prompt, seed=5)
    server.script = lambda call: completion(" None.") if call.number < 3 else completion("\n- green skin")
    summary = fill(["fox"], store, questions, _completer(server))
    assert (summary.done, summary.failed) == (1, {})
    assert [(call.body["seed"], call.body["temperature"]) for call in server.calls] == [
        (5, 0),
        (1005, 0.7),
        (2005, 0.7),
    ]
    (entry,) = store.entries()
    assert [answer["answer"] for answer in entry.answers] == [" None.", " None.", "\n- green skin"]
    assert entry.answers[2]["retried"] == {"times": 2, "temperature": 0.7, "seed": 2005}
    assert entry.usage == {"prompt_tokens": 150, "completion_tokens": 30}
    assert entry.params == {"temperature": 0.0, "max_tokens": 200, "stop": ["\n\n", "\nQ:"], "seed": 5}
    assert fill(["fox"], store, questions, _completer(server)).cached == 1


def test_an_answer_that_stays_empty_is_recorded_as_failed(server: ScriptedServer, store: Store) -> None:
    server.script = lambda call: completion("") if "fox" in call.text else marks(call)
    summary = fill(["fox", "owl"], store, ARTICLE, _completer(server), retries=2)
    assert summary.failed == {"fox": "the answer is empty"}
    assert summary.done == 1
    assert len(server.calls) == 4
    assert store.names() == ["owl"]
    (failed,) = Store(store.path).history("fox")
    assert (failed.origin, len(failed.answers), failed.descriptors) == ("failed", 3, ())


def test_a_refusal_is_reported_in_the_models_words_and_not_asked_again(
    server: ScriptedServer, store: Store
) -> None:
    refusal_text = "I'm sorry, but I can't help with that."
    server.script = lambda call: completion(refusal_text) if "a fox in" in call.text else marks(call)
    summary = fill(["fox", "owl"], store, ARTICLE, _completer(server), retries=2)
    assert summary.failed == {"fox": f"refused: {refusal_text}"}
    assert len(server.calls) == 2
    (failed,) = store.history("fox")
    assert (failed.origin, failed.answer) == ("failed", refusal_text)


def test_an_answer_before_a_providers_error_is_asked_again(server: ScriptedServer, store: Store) -> None:
    server.script = lambda call: completion(" green\n- lo", "error") if call.number == 1 else marks(call)
    summary = fill(["fox"], store, ARTICLE, _completer(server))
    assert (summary.done, len(server.calls)) == (1, 2)
    (entry,) = store.entries()
    assert entry.answer is not None
    assert "lo" not in entry.answer.split()


def test_half_an_answer_that_an_earlier_version_stored_is_asked_again(
    server: ScriptedServer, store: Store, tmp_path: Path
) -> None:
    fill(["fox", "owl"], store, ARTICLE, _completer(server))
    fox, owl = (store.get("fox"), store.get("owl"))
    assert fox is not None
    assert owl is not None
    earlier = Store(tmp_path / "earlier.jsonl", create=True)
    earlier.append(replace(fox, finish_reason="error"), owl)
    summary = fill(["fox", "owl"], earlier, ARTICLE, _completer(server))
    assert (summary.done, summary.cached, len(server.calls)) == (1, 1, 3)


def test_more_descriptors_than_are_taken_are_reported(server: ScriptedServer, store: Store) -> None:
    server.script = lambda call: completion("\n- ".join(f" mark number {number}" for number in range(400)))
    summary = fill(["fox"], store, ARTICLE, _completer(server))
    assert summary.too_long == ("fox",)
    (entry,) = store.entries()
    assert len(entry.descriptors) == MAX_DESCRIPTORS


def test_a_request_that_fails_leaves_no_line(server: ScriptedServer, store: Store) -> None:
    server.script = lambda call: refusal(413, "too long") if "a fox in" in call.text else marks(call)
    completer = _completer(server, concurrency=1)
    summary = fill(["owl", "fox", "yak"], store, ARTICLE, completer)
    assert summary.failed == {"fox": "status 413: too long"}
    assert store.names() == ["owl", "yak"]
    assert store.history("fox") == []


def test_a_cut_answer_is_told(server: ScriptedServer, store: Store) -> None:
    server.script = lambda _: completion(" green skin\n- large ro", "length")
    summary = fill(["fox"], store, ARTICLE, _completer(server))
    assert summary.cut == ("fox",)
    (entry,) = store.entries()
    assert entry.descriptors == ("green skin",) == reparse(entry)


def test_struck_descriptors_are_not_offered_again(server: ScriptedServer, store: Store) -> None:
    store.append(Entry("fox", ("red fur",), origin="curated", rejected=("Long legs.",)))
    fill(["fox"], store, ARTICLE, _completer(server), refresh=True)
    generated = store.history("fox")[-1]
    assert generated.descriptors == MARKS[:2] == reparse(generated)
    assert generated.rejected == ("Long legs.",)
    current = store.get("fox")
    assert current is not None
    assert current.descriptors == ("red fur",)


def test_every_answer_parses_again_to_its_descriptors(server: ScriptedServer, store: Store) -> None:
    forms = [
        " a b\n- c d",
        "- a\n• b",
        "Sure, these:\n\n1. **a**\n2. b",
        "<think>- x</think> a\n- b",
        " a\n- b\n\nThat is it",
    ]
    server.script = lambda call: completion(
        forms[call.number % len(forms)], ["stop", "length"][call.number % 2]
    )
    fill([f"class {i}" for i in range(20)], store, ARTICLE, _completer(server))
    entries = list(Store(store.path).entries())
    assert len(entries) == 20
    assert all(reparse(entry) == entry.descriptors for entry in entries)


def test_samples_are_merged_by_agreement_and_all_kept(server: ScriptedServer, store: Store) -> None:
    answers = [" green skin\n- wings", " Green skin.\n- fins", " long legs\n- Wings!"]
    server.script = lambda call: completion(answers[call.number - 1])
    questions = replace(ARTICLE, temperature=0.8, seed=1, samples=3, keep=2)
    summary = fill(["fox"], store, questions, _completer(server, concurrency=1))
    (entry,) = store.entries()
    assert entry.descriptors == ("green skin", "wings")
    assert [answer["answer"] for answer in entry.answers] == ["-" + text for text in answers]
    assert entry.usage == {"prompt_tokens": 150, "completion_tokens": 30}
    assert summary.done == 1
    assert sorted(call.body["seed"] for call in server.calls) == [1, 2, 3]


def test_samples_already_paid_for_are_not_asked_again(server: ScriptedServer, store: Store) -> None:
    server.script = lambda call: marks(call) if call.number < 3 else refusal(402, "no money left")
    questions = replace(ARTICLE, temperature=0.8, seed=1, samples=3)
    with pytest.raises(EndpointError, match="no money left"):
        fill(["fox"], store, questions, _completer(server, concurrency=1))
    assert store.all_names() == []
    assert len(_pending_answers(store)) == 2
    server.script = marks
    fill(["fox"], Store(store.path, create=True), questions, _completer(server, concurrency=1))
    assert [call.body["seed"] for call in server.calls] == [1, 2, 3, 3]
    (entry,) = Store(store.path).entries()
    assert [answer["sample"] for answer in entry.answers] == [0, 1, 2]
    assert not run_path(store).exists()


def test_money_is_never_passed_and_nothing_answered_is_lost(server: ScriptedServer, store: Store) -> None:
    names = [f"class {i}" for i in range(50)]
    questions, budget = replace(ARTICLE, max_tokens=20), Budget(*WORTH, limit=0.31)
    summary = fill(names, store, questions, _completer(server, concurrency=8), budget=budget)
    assert 0.2 < (summary.cost or 0) <= 0.31
    assert summary.done == len(store) == len(server.calls)
    assert len(summary.left) == 50 - summary.done
    assert summary.signal is None


UNUSABLE = {"choices": [{"index": 0, "text": None}], "usage": {"prompt_tokens": 50, "completion_tokens": 10}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Reply(UNUSABLE),
        Reply({"choices": []}),
        Reply(b"{"),
        replace(GOOD, delay=0.6),
        replace(GOOD, reset_after=20),
        Reply({"error": "overloaded", "usage": UNUSABLE["usage"]}),
        Reply(b'"' + b"x" * (2 << 20) + b'"'),
    ],
    ids=["no text", "no choice", "no JSON", "late", "reset", "error", "too large"],
)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_money_limit_counts_tries_that_brought_no_answer(
    server: ScriptedServer, store: Store, fault: Reply, concurrency: int
) -> None:
    """The server counts what it is paid for: 50 tokens read and 10 written, an answer or not."""
    server.script = lambda call: marks(call) if call.number % 3 == 1 else fault
    completer = _completer(server, timeout=0.4, concurrency=concurrency)
    names = [f"class {number}" for number in range(20)]
    limit = 0.5
    summary = fill(names, store, ARTICLE, completer, budget=Budget(*WORTH, limit=limit))
    assert len(server.calls) * 0.015 <= limit
    assert (summary.cost or 0) <= limit
    assert summary.left
    assert summary.done == len(store.names())


def test_money_for_nothing_sends_nothing(server: ScriptedServer, store: Store) -> None:
    summary = fill(["fox"], store, ARTICLE, _completer(server), budget=Budget(*WORTH, limit=0.001))
    assert (summary.left, summary.requests, server.calls) == (("fox",), 0, [])


def test_a_forecast_sends_nothing(store: Store) -> None:
    store.append(Entry("owl", ("beak",)))
    ask = replace(ARTICLE, temperature=0.7, samples=3)
    sums = forecast(["fox", "owl"], store, ask, budget=Budget(*WORTH))
    assert (sums.left, sums.kept, sums.requests) == (("fox",), 1, 3)
    assert sums.usage.completion_tokens == 600
    assert sums.cost == pytest.approx(Budget(*WORTH).cost(sums.usage))
    assert forecast(["fox"], store, ask).cost is None
    assert store.names() == ["owl"]


def test_a_prompt_that_lacks_a_value_is_told_before_anything_is_sent(
    server: ScriptedServer, store: Store
) -> None:
    questions = replace(ARTICLE, prompt=Prompt.load("differential"))
    with pytest.raises(PromptError, match="no other is given"):
        fill(["fox"], store, questions, _completer(server))
    assert server.calls == []
    fill(["fox"], store, replace(questions, values={"other": "wolf"}), _completer(server))
    assert "from a photo of a similar wolf?" in server.calls[0].text


def test_a_disk_that_refuses_ends_the_run_in_one_line(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    store = Store(tmp_path / "folder" / "s.jsonl", create=True)
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").write_text("now a file")
    with pytest.raises(StoreError):
        fill(["fox"], store, ARTICLE, _completer(server))


def test_it_runs_in_a_thread_too(server: ScriptedServer, store: Store) -> None:
    summaries: list[Summary] = []
    thread = threading.Thread(
        target=lambda: summaries.append(fill(["fox"], store, ARTICLE, _completer(server)))
    )
    thread.start()
    thread.join()
    assert summaries[0].done == 1


def test_it_runs_where_a_loop_runs_already(server: ScriptedServer, store: Store) -> None:
    async def notebook() -> Summary:
        return fill(["fox"], store, ARTICLE, _completer(server))

    assert asyncio.run(notebook()).done == 1


@pytest.mark.slow
def test_ctrl_c_is_heard_where_a_loop_runs_already(server: ScriptedServer, store: Store) -> None:
    def answer(call: Call) -> Reply:
        if call.number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return replace(GOOD, delay=0.3)

    async def notebook() -> Summary:
        return fill(["fox", "owl", "yak"], store, ARTICLE, _completer(server, concurrency=1))

    server.script = answer
    summary = asyncio.run(notebook())
    assert (summary.signal, summary.done, summary.left) == (signal.SIGINT, 1, ("owl", "yak"))


def test_a_place_that_cannot_be_written_is_told_before_anything_is_sent(
    server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "s.jsonl", create=True)
    with pytest.raises(StoreError):
        fill(["fox"], store, ARTICLE, _completer(server))
    assert server.calls == []


class Backwards:
    """A completer of another kind: answers all it can pull, the last first."""

    model = "backwards"
    endpoint = None
    window = 10
    timeout = 60.0
    slowest = 0.0
    retrying = 0

    def drain(self) -> None:
        pass

    def leftovers(self) -> list[Outcome]:
        return []

    async def complete(
        self, questions: Iterable[Question], charge: Charge = unlimited
    ) -> AsyncGenerator[list[Outcome], None]:
        for question in reversed(list(questions)):
            if question.name == "owl":
                yield [(question, Failure("not today"))]
            else:
                yield [(question, question.answered(f"- {question.name}", "stop", None, "completions"))]


def test_any_completer_will_do(store: Store) -> None:
    summary = fill(["fox", "owl", "yak"], store, replace(ARTICLE, model="backwards"), Backwards())
    assert store.names() == ["fox", "yak"]  # the list's order, whatever that of the answers
    assert summary.failed == {"owl": "not today"}


PROGRAM = "from fieldmarks.cli import main; main()"


def _start(server: ScriptedServer, classes: Path, store: Path, *more: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "generate",
        str(classes),
        "--store",
        str(store),
        "--base-url",
        server.url,
    ]
    options = ["--model", "m", "--mode", "completions", "--concurrency", "8", *more]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for_calls(server: ScriptedServer, count: int) -> None:
    end = time.monotonic() + 60
    while len(server.calls) < count:
        assert time.monotonic() < end, "the run did not come that far"
        time.sleep(0.002)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"class {i:03}\n" for i in range(200)))
    return path


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(server: ScriptedServer, tmp_path: Path, classes: Path) -> None:
    server.script = lambda _: replace(GOOD, delay=0.02)
    store = tmp_path / "s.jsonl"
    kills = 0
    for calls in (1, 20, 60, 61, 150):
        process = _start(server, classes, store)
        _wait_for_calls(server, calls)
        time.sleep(calls % 7 * 0.004)
        process.kill()
        process.communicate()
        kills += 1
    process = _start(server, classes, store)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    entries = list(Store(store).entries())
    assert sorted(entry.name for entry in entries) == classes.read_text().splitlines()
    assert all(entry.descriptors == MARKS for entry in entries)
    assert all(len(Store(store).history(entry.name)) == 1 for entry in entries)
    asked = Counter(call.text for call in server.calls)
    assert len(asked) == 200
    # What is under way, and as many answers that have just arrived and are not yet on disk.
    assert len(server.calls) - 200 <= kills * 2 * 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_what_is_under_way(
    server: ScriptedServer, tmp_path: Path, classes: Path, number: signal.Signals
) -> None:
    server.script = lambda call: replace(GOOD, delay=0.0 if call.number <= 20 else 1.0)
    store = tmp_path / "s.jsonl"
    process = _start(server, classes, store)
    _wait_for_calls(server, 24)
    process.send_signal(number)
    out, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert out == ""
    done = len(Store(store))
    assert 24 <= done == len(server.calls)
    assert f"Interrupted with {200 - done} classes left; run the same command again to continue" in stderr
    server.script = marks
    process = _start(server, classes, store)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(server.calls) == 200


@pytest.mark.slow
def test_a_second_interrupt_waits_for_nothing(server: ScriptedServer, tmp_path: Path, classes: Path) -> None:
    server.script = lambda call: replace(GOOD, delay=0.0 if call.number <= 4 else 60.0)
    process = _start(server, classes, tmp_path / "s.jsonl")
    _wait_for_calls(server, 12)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert time.monotonic() - start < 30
    assert len(Store(tmp_path / "s.jsonl")) == 4


@pytest.mark.parametrize(
    ("interrupts", "seconds"), [(2, 1.2), pytest.param(1, 8.0, marks=pytest.mark.slow)], ids=["two", "one"]
)
def test_answers_that_arrive_while_the_store_is_in_use_survive_an_interrupt(
    server: ScriptedServer, store: Store, interrupts: int, seconds: float
) -> None:
    """The first answer waits for the lock, and the others in memory behind it."""
    server.script = lambda call: replace(GOOD, delay=0.2 + 0.05 * call.number)

    def hold() -> None:
        _wait_for_calls(server, 1)
        with Store(store.path, create=True).locked():
            time.sleep(0.8)
            for _ in range(interrupts):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)
            time.sleep(seconds - 0.8)

    thread = threading.Thread(target=hold)
    thread.start()
    names = [f"class {number}" for number in range(8)]
    summary = fill(names, store, ARTICLE, _completer(server, concurrency=8))
    thread.join()
    assert (summary.signal, summary.done, len(Store(store.path))) == (signal.SIGINT, 8, 8)


@pytest.mark.slow
def test_a_terminated_run_keeps_the_samples_of_unfinished_classes(
    server: ScriptedServer, tmp_path: Path, classes: Path
) -> None:
    server.script = lambda call: replace(GOOD, delay=0.0 if call.number <= 4 else 60.0)
    store = tmp_path / "s.jsonl"
    process = _start(server, classes, store, "--samples", "3")
    _wait_for_calls(server, 12)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    stored = Store(store, create=True)  # a class, where its three samples were among the first answers
    assert len(_pending_answers(stored)) + 3 * len(stored) == 4
    server.script = marks
    process = _start(server, classes, store, "--samples", "3")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(server.calls) == 12 + 600 - 4, "what was answered is not asked again"


@pytest.mark.slow
def test_a_full_disk_loses_nothing_and_is_told(server: ScriptedServer, tmp_path: Path, classes: Path) -> None:
    """A file size limit stands for the full disk: the write fails in the middle of a line."""
    store = tmp_path / "s.jsonl"
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    options = ["generate", str(classes), "--store", str(store), "--base-url", server.url, "--model", "m"]
    command = [sys.executable, "-c", limited + PROGRAM, *options, "--mode", "completions"]
    full = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert full.returncode == 1
    told = full.stderr.splitlines()[-1]
    assert re.match(rf"Error: {re.escape(str(store))}(\.run)? cannot be written: File too large", told)
    done = len(Store(store))
    assert 0 < done < 200
    if advice := re.search(r"\((cat .* >> .*)\)", told):  # the run file is as full as the store
        subprocess.run(advice[1], shell=True, check=True)
    process = _start(server, classes, store)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(Store(store)) == 200
    assert len(server.calls) - 200 <= 16


def test_the_callers_process_is_left_as_it_was(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with ScriptedServer() as server:
        fill(["fox"], Store(tmp_path / "s", create=True), ARTICLE, _completer(server))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
