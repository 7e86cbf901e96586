"""`auto` finds the right mode on servers of every kind, asks once, and remembers."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.generation.scripted_server import (
    Call,
    Reply,
    Script,
    ScriptedServer,
    chat,
    like_claude,
    like_llama_cpp,
    like_mistral,
    like_ollama_chat,
    like_openai,
    like_vllm,
    like_vllm_chat,
    marks,
    refusal,
)

from fieldmarks.errors import EndpointError
from fieldmarks.generation.dialects import (
    EndpointProfile,
    Probe,
    Quirks,
    choose,
    forget,
    remember,
    remembered,
)
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Questions
from fieldmarks.generation.run import fill
from fieldmarks.paths import user_cache
from fieldmarks.store import Store

ARTICLE = Questions(Prompt.load("article"), "m")
MARKS = ("green skin", "large round eyes", "long legs")


async def _at_once(seconds: float) -> None:
    await asyncio.sleep(0)


def _fill(server: ScriptedServer, path: Path) -> Store:
    store = Store(path, create=True)
    completer = EndpointCompleter(server.url, "m", sleep=_at_once)
    summary = fill(["tree frog", "fox"], store, ARTICLE, completer)
    assert summary.done == 2
    return store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "mode"),
    [
        (marks, "completions"),
        (like_llama_cpp, "completions"),
        (like_vllm, "continue"),
        (like_vllm_chat, "continue"),
        (like_mistral, "prefix"),
        (like_ollama_chat, "trailing"),
        (like_openai, "instruct"),
        (like_claude, "instruct"),
    ],
)
def test_auto_takes_the_mode_that_continues(
    server: ScriptedServer, tmp_path: Path, news: list[str], script: Script, mode: str
) -> None:
    server.script = script
    store = _fill(server, tmp_path / "s.jsonl")
    assert {entry.mode for entry in store.entries()} == {mode}
    assert {entry.descriptors for entry in store.entries()} == {MARKS}
    assert news[-1] == f"m at {server.url}: mode {mode!r}, chosen by probing once"
    before = len(server.calls)
    _fill(server, tmp_path / "again.jsonl")
    assert len(server.calls) == before + 2, "what was remembered was probed again, or a quirk forgotten"


def test_a_chat_is_continued_on_a_thinking_template(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = like_llama_cpp
    store = Store(tmp_path / "s.jsonl", create=True)
    completer = EndpointCompleter(server.url, "m", mode="trailing", sleep=_at_once)
    assert fill(["fox"], store, ARTICLE, completer).done == 1
    assert server.calls[-1].body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_thinking_model_is_warned_of(server: ScriptedServer, tmp_path: Path, news: list[str]) -> None:
    def script(call: Call) -> Reply:
        if call.path.endswith("/v1/completions"):
            return refusal(404, "no")
        return chat("- green skin\n- large round eyes\n- long legs\n", reasoning_content="Let me see")

    server.script = script
    _fill(server, tmp_path / "s.jsonl")
    _fill(server, tmp_path / "t.jsonl")
    warning = "m thinks before it answers: allow for it with --max-tokens, say 2000"
    assert news.count(warning) == 2


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            lambda _: refusal(404, "no model m"),
            "no mode works; the last one got status 404: no model m: check",
        ),
        (lambda _: refusal(401, "bad key"), "status 401: bad key: check OPENAI_API_KEY or --header"),
        (lambda _: refusal(500, "broken"), "no mode works; the last one got status 500: broken"),
    ],
)
def test_nothing_is_remembered_of_a_refusal(
    server: ScriptedServer, tmp_path: Path, script: Script, message: str
) -> None:
    server.script = script
    with pytest.raises(EndpointError) as refused:
        _fill(server, tmp_path / "s.jsonl")
    assert str(refused.value).startswith(f"{server.url}: {message}")
    assert not (tmp_path / "s.jsonl").exists()
    assert not user_cache().joinpath("endpoints").exists()


def test_a_mode_that_the_key_may_not_use_is_passed_over(server: ScriptedServer, tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        if call.path.endswith("/v1/completions"):
            return refusal(403, "your key may not use this route")
        return like_vllm_chat(call)

    server.script = script
    store = _fill(server, tmp_path / "s.jsonl")
    assert {entry.mode for entry in store.entries()} == {"continue"}


def test_what_stopped_to_work_is_forgotten(server: ScriptedServer, tmp_path: Path) -> None:
    _fill(server, tmp_path / "s.jsonl")
    server.script = like_vllm_chat
    with pytest.raises(EndpointError, match="404"):
        _fill(server, tmp_path / "t.jsonl")
    store = _fill(server, tmp_path / "t.jsonl")
    assert {entry.mode for entry in store.entries()} == {"continue"}


def test_memory_is_by_endpoint_and_model_and_survives_damage() -> None:
    profile = EndpointProfile("prefix", Quirks(completion_tokens=True, left_out=("seed",)), thinks=True)
    remember("http://a/v1", "m", profile)
    assert remembered("http://a/v1", "m") == profile
    assert remembered("http://a/v1", "n") is None
    assert remembered("http://b/v1", "m") is None
    (file,) = user_cache().joinpath("endpoints").iterdir()
    for damage in (
        b"",
        b"{",
        b"[]",
        b'{"mode": "prefix"}',
        b'{"mode": "x", "quirks": {"left_out": []}, "thinks": 0}',
    ):
        file.write_bytes(damage)
        assert remembered("http://a/v1", "m") is None
    forget("http://a/v1", "m")
    assert not file.exists()


def test_a_cache_folder_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FIELDMARKS_CACHE", str(tmp_path / "file"))
    remember("http://a/v1", "m", EndpointProfile("prefix"))
    assert remembered("http://a/v1", "m") is None
    forget("http://a/v1", "m")


def test_what_continues_is_preferred_then_instruct_then_any() -> None:
    bad = Probe("completions", answers=False, note="status 404: no", advice="check --model")
    anew = Probe("trailing", answers=True)
    instruct = Probe("instruct", answers=True)
    assert choose([bad, anew, Probe("prefix", True, True)], "u") == "prefix"
    assert choose([bad, anew, instruct], "u") == "instruct"
    assert choose([bad, anew], "u") == "trailing"
    with pytest.raises(
        EndpointError, match=r"^u: no mode works; the last one got status 404: no: check --model$"
    ):
        choose([bad], "u")


def test_a_mode_that_fails_is_not_waited_for(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = lambda call: marks(call) if call.path.endswith("/v1/completions") else refusal(500, "no")
    _fill(server, tmp_path / "s.jsonl")
    assert Counter(call.path for call in server.calls) == {"/v1/completions": 3, "/v1/chat/completions": 3}


@pytest.mark.parametrize(
    "thought",
    [
        lambda: Reply({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 24}}),
        lambda: chat("<think>\nThe frog has", "length"),
        lambda: Reply(
            {
                "choices": [
                    {
                        "message": {"role": "assistant", "content": None, "reasoning_content": "The frog"},
                        "finish_reason": "length",
                    }
                ]
            }
        ),
    ],
)
def test_a_model_that_thinks_beyond_the_probe_gets_a_mode_that_works(
    server: ScriptedServer, tmp_path: Path, news: list[str], thought: Callable[[], Reply]
) -> None:
    def script(call: Call) -> Reply:
        if "messages" not in call.body:
            return refusal(404, "no such path")
        if call.body["max_tokens"] < 100:
            return thought()
        return chat("<think>The frog has:\n- long legs</think>\n- green skin\n- large round eyes")

    server.script = script
    store = _fill(server, tmp_path / "s.jsonl")
    assert [entry.mode for entry in store.entries()] == ["instruct"] * 2
    assert [entry.descriptors for entry in store.entries()] == [("green skin", "large round eyes")] * 2
    assert any("thinks before it answers" in line for line in news)
