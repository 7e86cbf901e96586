"""A language model in this process answers like itself, whatever stands beside it in a batch."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fieldmarks.errors import ModelError
from fieldmarks.generation.local import LocalCompleter, row_bytes
from fieldmarks.generation.parse import parse
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Failure, Outcome, Question, Sample

ARTICLE = Prompt.load("article")
NAMES = ["fox", "a much longer name of a class than that", "owl", "zorblat", "quimmel", "yak"]


def _request(name: str, **options: Any) -> Question:
    return Question(name, ARTICLE.render(name), ARTICLE.stop, **{"max_tokens": 48, **options})


def _ask(completer: LocalCompleter, requests: Sequence[Question]) -> dict[Question, Sample | Failure]:
    async def go() -> list[Outcome]:
        return [outcome async for group in completer.complete(requests) for outcome in group]

    answers = asyncio.run(go())
    assert len(dict(answers)) == len(answers) == len(requests)
    return dict(answers)


def _texts(completer: LocalCompleter, requests: Sequence[Question]) -> list[str]:
    answers = _ask(completer, requests)
    return [outcome.text for request in requests if isinstance(outcome := answers[request], Sample)]


@pytest.mark.slow
def test_greedy_answers_do_not_depend_on_the_batch(demo_lm: Path) -> None:
    requests = [_request(name) for name in NAMES]
    together = _texts(LocalCompleter(demo_lm, batch_size=6), requests)
    alone = _texts(LocalCompleter(demo_lm, batch_size=1), requests)
    assert together == alone
    assert all(text.startswith("-") for text in together)


@pytest.mark.slow
def test_sampled_answers_depend_on_their_seed_and_not_on_the_batch(demo_lm: Path) -> None:
    completer = LocalCompleter(demo_lm, batch_size=6)
    drawn = [_request("quimmel", temperature=4.0, seed=seed) for seed in (1, 2, 3)]
    greedy = _request("quimmel")
    first = _texts(completer, [*drawn, greedy])
    assert len(set(first)) == 4
    assert _texts(completer, [greedy, *reversed(drawn)]) == [first[3], first[2], first[1], first[0]]
    fresh = [_request("quimmel", temperature=4.0, sample=i) for i in range(4)]
    assert len(set(_texts(completer, fresh))) > 1


def test_answers_end_at_stop_texts_and_are_counted(demo_lm: Path) -> None:
    completer = LocalCompleter(demo_lm)
    request = Question("quimmel", ARTICLE.render("quimmel"), ("\n- ",), max_tokens=48)
    (answer,) = _ask(completer, [request]).values()
    assert isinstance(answer, Sample)
    assert "\n" not in answer.text
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens < 48
    (cut,) = _ask(completer, [_request("quimmel", max_tokens=9)]).values()
    assert isinstance(cut, Sample)
    assert (cut.finish_reason, cut.usage and cut.usage.completion_tokens) == ("length", 9)


def test_rows_of_one_batch_end_by_limits_of_their_own(demo_lm: Path) -> None:
    short, long = _request("quimmel", max_tokens=5), _request("quimmel", max_tokens=40)
    answers = _ask(LocalCompleter(demo_lm), [short, long])
    assert isinstance(a := answers[short], Sample)
    assert isinstance(b := answers[long], Sample)
    assert b.text.startswith(a.text)
    assert a.text != b.text


def test_a_chat_template_is_continued(demo_lm: Path) -> None:
    completer = LocalCompleter(demo_lm, mode="continue")
    (answer,) = _ask(completer, [_request("quimmel")]).values()
    assert isinstance(answer, Sample)
    assert answer.mode == "continue"
    assert parse(answer.text).descriptors


@pytest.mark.slow
def test_prompts_too_long_for_the_context_fail_alone(check_data: Path) -> None:
    completer = LocalCompleter(check_data / "stories260k-hf")
    long, short = _request("日本" * 140), _request("fox", max_tokens=600)
    answers = _ask(completer, [long, short])
    assert isinstance(refused := answers[long], Failure)
    assert refused.reason.endswith("tokens, too many for a context of 512")
    assert isinstance(answer := answers[short], Sample)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 512


@pytest.mark.slow
def test_more_requests_than_are_pulled_at_once(demo_lm: Path) -> None:
    completer = LocalCompleter(demo_lm, batch_size=2)
    requests = [_request(f"name {i}", max_tokens=2) for i in range(40)]
    pulled = 0

    def pull() -> Any:
        nonlocal pulled
        for request in requests:
            pulled += 1
            yield request

    async def go() -> int:
        done = most = 0
        async for outcomes in completer.complete(pull()):
            done += len(outcomes)
            most = max(most, pulled - done)
        assert done == 40
        return most

    assert asyncio.run(go()) <= 16


WAYS: list[dict[str, Any]] = [{}, {"stop_by_tokens": True}, {"compile_after": 0.0}, {"batch_size": 5}]


@pytest.mark.slow
def test_answers_do_not_depend_on_how_stop_texts_are_found_and_numbers_are_kept(demo_lm: Path) -> None:
    stops = ("\n- ",)  # which end some answers in the middle of others
    requests = [Question(name, ARTICLE.render(name), stops, max_tokens=40) for name in NAMES]
    requests += [Question(name, ARTICLE.render(name), ("\nQ:", "ta"), max_tokens=40) for name in NAMES]
    requests += [Question(name, ARTICLE.render(name), (), max_tokens=20) for name in NAMES]
    requests += [
        Question(name, ARTICLE.render(name), stops, max_tokens=40, temperature=2.0, seed=3) for name in NAMES
    ]
    found = []
    for way in WAYS:
        completer = LocalCompleter(demo_lm, **way)
        answers = _ask(completer, requests)
        assert completer._compiled_size == (16 if "compile_after" in way else 0)
        samples = [answer for request in requests if isinstance(answer := answers[request], Sample)]
        found.append([(sample.text, sample.finish_reason, sample.usage) for sample in samples])
    assert len(found[0]) == len(requests)
    assert all(other == found[0] for other in found)
    assert any(reason == "stop" for _, reason, _ in found[0])


@pytest.mark.slow
def test_rows_end_at_their_stop_text_by_tokens_as_by_text(demo_lm: Path, check_data: Path) -> None:
    texts = ["a", "\nQ", "\nQ:", "x\nQ: y", "\n\nQ:", "\nQ :", "- Q:\n", "one\n- two\nQ:", "é\nQ:"]
    for folder in (demo_lm, check_data / "stories260k-hf"):
        completer = LocalCompleter(folder, stop_by_tokens=True)
        for text in texts:
            ids = completer._tokenizer(text, add_special_tokens=False)["input_ids"]
            questions = [_request("a", max_tokens=8)]
            by_tokens = completer._shown_by_tokens(questions)
            assert by_tokens
            ends = [bool(by_tokens(torch.tensor([ids[:end]]))) for end in range(1, len(ids) + 1)]
            read = [
                bool(completer._shown(questions, torch.tensor([ids[:end]]))) for end in range(1, len(ids) + 1)
            ]
            assert any(ends) == any(read), text
            assert not any(ends) or ends.index(True) == read.index(True), text


def test_a_row_takes_memory_for_its_tokens(demo_lm: Path) -> None:
    config = LocalCompleter(demo_lm)._network.config
    short, long = (row_bytes(config, tokens, 2) for tokens in (100, 200))
    width = config.hidden_size * config.num_key_value_heads // config.num_attention_heads
    assert long - short == 2 * 100 * 2 * config.num_hidden_layers * width * 2


@pytest.mark.slow
def test_a_run_that_is_left_stops_the_batch_under_way(demo_lm: Path) -> None:
    completer = LocalCompleter(demo_lm)

    async def go() -> None:
        answers = completer.complete([_request("quimmel", max_tokens=900, seed=1, temperature=2.0)])
        task = asyncio.ensure_future(anext(answers))
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await answers.aclose()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_model_is_named_by_its_folder_and_what_is_in_it(demo_lm: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(demo_lm, tmp_path / demo_lm.name)
    assert LocalCompleter(copy).model == LocalCompleter(demo_lm).model
    assert LocalCompleter(copy).model.startswith("lm@")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    assert LocalCompleter(copy).model != LocalCompleter(demo_lm).model
    (copy / "config.json").write_text((demo_lm / "config.json").read_text())
    names = {LocalCompleter(copy).model}
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1  # the last byte, whatever the size
    (copy / "model.safetensors").write_bytes(weights)
    names.add(LocalCompleter(copy).model)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    names.add(LocalCompleter(copy).model)
    (copy / "README.md").write_text("nothing that is loaded")
    assert len(names | {LocalCompleter(copy).model}) == 3
    assert LocalCompleter("owner/model").model == "owner/model"


@pytest.fixture
def spoiled(demo_lm: Path, tmp_path: Path) -> Path:
    """A copy of a model's folder to spoil."""
    return shutil.copytree(demo_lm, tmp_path / "lm")


def _refusal(model: str | Path) -> str:
    with pytest.raises(ModelError) as refused:
        LocalCompleter(model).load()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.slow
def test_what_is_no_language_model_is_told(demo_clip: Path, tmp_path: Path, check_data: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "empty", check_data / "clip-tokenizer"):
        assert _refusal(folder) == f"{folder} is not a model folder: it has no config.json"
    assert _refusal(demo_clip).startswith(f"{demo_clip} is not a causal language model (")
    assert len(_refusal(demo_clip)) < 400
    above = demo_clip.parent
    assert _refusal(above).endswith(f"; it holds {demo_clip.name}: name {demo_clip}")
    weights = demo_clip / "model.safetensors"
    assert _refusal(weights) == f"{weights} is not a folder: pass the model's folder, {demo_clip}"
    for wrong in (str(tmp_path / "missing"), str(tmp_path / "file"), "./nowhere"):
        assert _refusal(wrong) == f"{wrong} is not a folder: pass a model's folder, or a Hugging Face id"
    assert _refusal("nobody/no-model").startswith(
        "nobody/no-model is neither a local folder nor in the Hugging Face cache, and could not be "
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model_type": "llama", "hidden_size": "x"}'])
def test_a_damaged_configuration_is_told(spoiled: Path, content: bytes) -> None:
    (spoiled / "config.json").write_bytes(content)
    assert "cannot be loaded" in _refusal(spoiled)


def test_damaged_or_pickled_weights_are_not_opened(spoiled: Path) -> None:
    weights = spoiled / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in _refusal(spoiled)
    weights.rename(spoiled / "pytorch_model.bin")
    assert "has pickled weights only, which may run code and are not opened" in _refusal(spoiled)


def test_a_strangers_code_is_not_run(spoiled: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (spoiled / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((spoiled / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"},
    }
    (spoiled / "config.json").write_text(json.dumps(config))
    assert "cannot be loaded" in _refusal(spoiled)
    assert not marker.exists()


def test_a_model_without_a_chat_template_is_told(check_data: Path) -> None:
    completer = LocalCompleter(check_data / "stories260k-hf", mode="continue")
    with pytest.raises(ModelError, match=r"has no usable chat template .*: use --mode completions$"):
        _ask(completer, [_request("fox")])
