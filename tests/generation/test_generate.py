"""`fieldmarks.generate`: the options a person can give, and those that are refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.generation.scripted_server import Reply, ScriptedServer, completion, marks, refusal

import fieldmarks as fm
from fieldmarks.errors import ClassNameError, UsageError
from fieldmarks.generation.question import Usage
from fieldmarks.generation.run import Progress, Summary

MARKS = ("green skin", "large round eyes", "long legs")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> fm.Store:
    return fm.Store(tmp_path / "s.jsonl", create=True)


def test_an_endpoint_fills_a_store(server: ScriptedServer, store: fm.Store) -> None:
    seen: list[Progress] = []
    summary = fm.generate(
        ["fox", " owl ", "fox"],
        store,
        model="m",
        base_url=server.url,
        api_key="sk-0123456789abcdef",
        headers={"x-team": "birds"},
        mode="completions",
        samples=2,
        keep=2,
        temperature=0.4,
        max_tokens=50,
        seed=7,
        concurrency=2,
        price_in=1.0,
        price_out=10.0,
        max_cost=1.0,
        progress=seen.append,
    )
    assert {entry.name: entry.descriptors for entry in store.entries()} == {"fox": MARKS, "owl": MARKS}
    assert (summary.done, summary.requests) == (2, 4)
    assert summary.cost == pytest.approx(4 * 150 / 1e6)
    assert seen[-1].done == 2
    call = next(call for call in server.calls if call.body["seed"] == 7)
    assert (call.headers["authorization"], call.headers["x-team"]) == ("Bearer sk-0123456789abcdef", "birds")
    assert (call.body["temperature"], call.body["max_tokens"]) == (0.4, 50)


def test_the_environment_names_endpoint_and_key(
    server: ScriptedServer, store: fm.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    assert fm.generate(["fox"], store, model="m", mode="completions").done == 1
    assert server.calls[0].headers["authorization"] == "Bearer sk-0123456789abcdef"


def test_several_samples_are_drawn_warm(server: ScriptedServer, store: fm.Store) -> None:
    fm.generate(["fox"], store, model="m", base_url=server.url, mode="completions", samples=2)
    assert [call.body["temperature"] for call in server.calls] == [0.7, 0.7]


def test_a_dry_run_sends_nothing(server: ScriptedServer, store: fm.Store) -> None:
    store.append(fm.Entry("owl", ("beak",)))
    options: dict[str, Any] = {"model": "m", "base_url": server.url, "price_in": 1.0, "price_out": 10.0}
    summary = fm.generate(["fox", "owl"], store, **options, dry_run=True)
    assert (summary.left, summary.kept, summary.requests) == (("fox",), 1, 1)
    assert summary.usage == Usage(53, 200)
    assert summary.cost == pytest.approx((53 + 2000) / 1e6)
    assert server.calls == []
    assert store.names() == ["owl"]


def test_it_works_where_an_event_loop_runs(server: ScriptedServer, store: fm.Store) -> None:
    async def cell() -> Summary:
        return fm.generate(["fox"], store, model="m", base_url=server.url, mode="completions")

    assert asyncio.run(cell()).done == 1


def test_a_local_model_fills_a_store(store: fm.Store, demo_lm: Path) -> None:
    summary = fm.generate(["zorblat", "vontle"], store, local=demo_lm)
    assert (summary.done, summary.cost) == (2, 0.0)
    assert [bool(entry.descriptors) for entry in store.entries()] == [True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no language model given: pass --local"),
        ({"base_url": "http://h/v1"}, "--base-url needs --model"),
        ({"local": "lm", "model": "m"}, "give either --local or --model"),
        (
            {"local": "lm", "base_url": "http://h/v1"},
            "--base-url is for endpoints: with --local nothing is sent",
        ),
        ({"local": "lm", "api_key": "k"}, "api_key is for endpoints"),
        ({"local": "lm", "headers": {"a": "b"}}, "--header is for endpoints"),
        ({"local": "lm", "rpm": 5}, "--rpm is for endpoints"),
        ({"local": "lm", "tpm": 5}, "--tpm is for endpoints"),
        ({"local": "lm", "timeout": 5}, "--timeout is for endpoints"),
        ({"local": "lm", "max_wait": 5}, "--max-wait is for endpoints"),
        ({"local": "lm", "mode": "prefix"}, "--mode prefix is for endpoints"),
        ({"local": "lm", "price_in": 1, "price_out": 1}, "--price-in and --price-out are for endpoints"),
        (
            {"local": "lm", "concept": "bird"},
            "--concept has no effect: the prompt 'article' has no {concept}",
        ),
        ({"local": "lm", "other": "jaguar"}, "--other has no effect: the prompt 'article' has no {other}"),
        ({"local": "lm", "mode": "instruckt"}, "mode: expected auto, .* or instruct, found 'instruckt'"),
        ({"local": "lm", "samples": 0}, "samples: expected an integer from 1 to 1,000,000, found 0"),
        ({"local": "lm", "samples": 2, "temperature": 0}, "--samples needs a --temperature above 0"),
        ({"local": "lm", "keep": 2}, "--keep 2 is more than --samples 1"),
        ({"local": "lm", "max_tokens": 1.5}, "max_tokens: expected an integer"),
        ({"local": "lm", "max_tokens": True}, "max_tokens: expected an integer"),
        ({"local": "lm", "seed": -1}, "seed: expected an integer from 0"),
        ({"local": "lm", "retries": -1}, "retries: expected an integer from 0"),
        ({"local": "lm", "concurrency": 0}, "concurrency: expected an integer from 1 to 1,000, found 0"),
        ({"local": "lm", "temperature": 2.5}, "temperature: expected a number from 0 to 2, found 2.5"),
        ({"local": "lm", "temperature": float("nan")}, "temperature: expected a number from 0 to 2"),
        ({"local": "lm", "temperature": "hot"}, "temperature: expected a number from 0 to 2, found 'hot'"),
        ({"model": "m", "base_url": "http://h/v1", "rpm": 0}, "--rpm: expected a number above 0, found 0"),
        (
            {"model": "m", "base_url": "http://h/v1", "price_in": 1},
            "pass both --price-in and --price-out",
        ),
        ({"model": "m", "base_url": "http://h/v1", "max_cost": 1}, "--max-cost needs --price-in"),
    ],
)
def test_what_has_no_effect_or_no_sense_is_refused(
    store: fm.Store, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fm.generate(["fox"], store, **options)
    assert not store.path.exists()


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ("fox", UsageError, "classes: expected a list of class names, found 'fox'"),
        (["fox", 5], UsageError, "classes: expected class names .strings., found 5"),
        (["fox", " "], ClassNameError, "a class name is empty"),
    ],
)
def test_classes_are_a_list_of_names(
    store: fm.Store, classes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fm.generate(classes, store, model="m", base_url="http://h/v1")


def test_a_store_is_a_store(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="store: expected a Store, found str: pass "):
        fm.generate(["fox"], str(tmp_path / "s.jsonl"), model="m", base_url="http://h/v1")  # type: ignore[arg-type]


def test_a_misspelt_option_is_refused(store: fm.Store) -> None:
    with pytest.raises(TypeError, match="modle"):
        fm.generate(["fox"], store, modle="m")  # type: ignore[call-arg]


def test_a_summary_survives_json(server: ScriptedServer, store: fm.Store) -> None:
    def script(call: Any) -> Reply:
        return refusal(413, "too long") if "a fox in" in call.text else marks(call)

    server.script = script
    summary = fm.generate(
        ["owl", "fox"], store, model="m", base_url=server.url, mode="completions", concurrency=1
    )
    assert Summary.from_dict(summary.to_dict()) == summary
    assert repr(summary) == "Summary(1 done, 0 already there, 1 failed, 2 requests)"
    server.script = lambda _: completion("- a")
    dry = fm.generate(["owl", "fox"], store, model="m", base_url=server.url, dry_run=True)
    assert repr(dry) == "Summary(0 done, 1 already there, 0 failed, 1 left, 1 request)"
    assert Summary.from_dict(dry.to_dict() | {"signal": 2}).signal == 2
