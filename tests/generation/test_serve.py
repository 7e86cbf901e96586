"""Against the real `transformers serve`, with real models: a base one, and the one that ships."""

from pathlib import Path

import pytest

from fieldmarks.generation.doctor import Check, examine
from fieldmarks.generation.endpoint import EndpointCompleter
from fieldmarks.generation.local import LocalCompleter
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Questions, reparse
from fieldmarks.generation.run import fill
from fieldmarks.store import Store

pytestmark = pytest.mark.slow

NAMES = ["quimmel", "zorblat", "vontle"]
ARTICLE = Prompt.load("article")


def test_auto_finds_that_raw_completions_continue(
    transformers_serve: str, check_data: Path, tmp_path: Path, news: list[str]
) -> None:
    model = str(check_data / "stories260k-hf")
    completer = EndpointCompleter(transformers_serve, model, concurrency=4)
    store = Store(tmp_path / "s.jsonl", create=True)
    summary = fill(["fox", "tree frog", "owl"], store, Questions(ARTICLE, model, max_tokens=60), completer)
    assert news == [f"{model} at {transformers_serve}: mode 'completions', chosen by probing once"]
    assert summary.done + len(summary.failed) == 3, "an answer was neither parsed nor reported"
    assert summary.usage.completion_tokens > 0
    for name in ("fox", "tree frog", "owl"):
        (entry,) = store.history(name)
        assert reparse(entry) == entry.descriptors
        assert entry.endpoint == transformers_serve


def test_the_shipped_model_answers_there_as_it_does_here(
    transformers_serve: str, demo_lm: Path, tmp_path: Path
) -> None:
    there = Store(tmp_path / "there.jsonl", create=True)
    here = Store(tmp_path / "here.jsonl", create=True)
    for store, completer in (
        (there, EndpointCompleter(transformers_serve, str(demo_lm))),
        (here, LocalCompleter(demo_lm)),
    ):
        fill(NAMES, store, Questions(ARTICLE, completer.model), completer)
    assert sorted(there.names()) == sorted(NAMES)
    for name in NAMES:
        far, near = there.history(name)[0], here.history(name)[0]
        assert far.descriptors == near.descriptors
        assert len(far.descriptors) >= 4


def test_chats_are_answered_too(transformers_serve: str, demo_lm: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl", create=True)
    for mode in ("trailing", "instruct"):
        completer = EndpointCompleter(transformers_serve, str(demo_lm), mode=mode)
        summary = fill([f"quimmel {mode}"], store, Questions(ARTICLE, completer.model), completer, retries=0)
        assert summary.done + len(summary.failed) == 1
        assert store.history(f"quimmel {mode}")[0].mode == mode


def test_an_unknown_model_is_one_clear_error(transformers_serve: str) -> None:
    checks: list[Check] = []
    examine(EndpointCompleter(transformers_serve, "/nowhere/at/all"), checks.append)
    assert checks[0].ok
    assert checks[-1].what == "endpoint"
    assert checks[-1].detail.startswith(f"{transformers_serve}: no mode works; the last one got status ")


def test_doctor_tells_which_modes_continue(transformers_serve: str, demo_lm: Path) -> None:
    checks: list[Check] = []
    examine(EndpointCompleter(transformers_serve, str(demo_lm)), checks.append)
    results = {check.what: check for check in checks}
    assert results["reachable"].ok
    assert results["mode completions"].ok
    assert results["mode continue"].ok is False
    assert results["mode chosen by auto"].detail == "completions"
