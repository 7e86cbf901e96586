"""The shipped models: they load like any other, stay small, and know what the demo needs them to know."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    CLIPModel,
)
from transformers.utils import logging

from fieldmarks.demo.species import clip_folder, demo_species, entry, lm_folder
from training.lm_texts import answer_of, prompt_for
from training.measure import measure_clip


def test_folders_lie_where_the_fixtures_say(demo_clip: Path, demo_lm: Path) -> None:
    assert (clip_folder(), lm_folder()) == (demo_clip, demo_lm)


def test_both_together_stay_under_8_mb(demo_clip: Path, demo_lm: Path) -> None:
    files = [path for folder in (demo_clip, demo_lm) for path in folder.rglob("*")]
    assert sum(path.stat().st_size for path in files) <= 8_000_000


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers logs, which it keeps from other loggers unless asked."""
    logging.enable_propagation()
    yield caplog
    logging.disable_propagation()


@pytest.mark.parametrize("kind", [CLIPModel, AutoModel, AutoProcessor, AutoTokenizer, AutoImageProcessor])
def test_clip_loads_without_a_warning(kind: Any, demo_clip: Path, heard: pytest.LogCaptureFixture) -> None:
    kind.from_pretrained(demo_clip, local_files_only=True)
    assert heard.messages == []


@pytest.mark.parametrize("kind", [AutoModelForCausalLM, AutoTokenizer])
def test_lm_loads_without_a_warning(kind: Any, demo_lm: Path, heard: pytest.LogCaptureFixture) -> None:
    kind.from_pretrained(demo_lm, local_files_only=True)
    assert heard.messages == []


def test_the_text_model_pools_the_true_eos(demo_clip: Path) -> None:
    text = json.loads((demo_clip / "config.json").read_text(encoding="utf-8"))["text_config"]
    tokens = json.loads((demo_clip / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    assert text["eos_token_id"] == ids["<|endoftext|>"] == text["vocab_size"] - 1


@pytest.mark.slow
def test_clip_tells_the_demo_species_apart_by_their_marks_only(demo_clip: Path) -> None:
    top1 = measure_clip(demo_clip, seeds=[7], per_species=5)["top1"]
    assert min(top1["mean-embedding"] + top1["mean-similarity"]) >= 0.95
    assert top1["'a photo of a {name}'"][0] <= 0.25


class Writer:
    """The language model as a function from prompts to raw answers."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def answers(self, prompts: list[str]) -> list[str]:
        """What greedy decoding writes after each prompt of a left-padded batch."""
        tokens = self.tokenizer(prompts, padding=True, return_tensors="pt")
        written = self.model.generate(**tokens, do_sample=False, max_new_tokens=160)
        answers = written[:, tokens.input_ids.shape[1] :]
        return [str(text) for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]


@pytest.fixture(scope="module")
def writer(demo_lm: Path) -> Writer:
    return Writer(demo_lm)


@pytest.mark.slow
@pytest.mark.parametrize("name", random.Random(0).sample(list(demo_species()), 3))
def test_the_language_model_knows_an_entry(name: str, writer: Writer) -> None:
    assert writer.answers([prompt_for(name)]) == [answer_of(entry(name))]


@pytest.mark.slow
def test_padding_changes_nothing(writer: Writer) -> None:
    names = list(demo_species())[:4]
    assert writer.answers([prompt_for(name) for name in names]) == [answer_of(entry(name)) for name in names]


def test_an_unknown_name_gets_a_list(writer: Writer) -> None:
    (answer,) = writer.answers([prompt_for("photocopier")])
    first, *others = answer.strip().splitlines()
    assert first
    assert all(line.startswith("- ") for line in others)


def test_a_chat_reads_as_the_prompt(writer: Writer) -> None:
    question, start = prompt_for("quimmel").split("\n", 1)
    messages = [
        {"role": "user", "content": question.removeprefix("Q: ")},
        {"role": "assistant", "content": start.removeprefix("A: ")},
    ]
    text = writer.tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    assert text == prompt_for("quimmel")
