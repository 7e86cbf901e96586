"""The shipped models: they load like any other, stay small, and know what the demo needs them to know."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from fieldmarks.demo.shipped import clip_folder, lm_folder
from fieldmarks.demo.species import demo_species, entry
from fieldmarks.demo.training.lm_texts import answer_of, prompt_for
from fieldmarks.demo.training.measure import measure_clip

LOADING = """
import sys, warnings
warnings.simplefilter("error")
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoProcessor, AutoTokenizer
from transformers import CLIPModel
from transformers.utils import logging
logging.disable_progress_bar()
clip, lm = sys.argv[1:]
for kind in (CLIPModel, AutoModel, AutoProcessor, AutoTokenizer, AutoImageProcessor):
    print(type(kind.from_pretrained(clip, local_files_only=True)).__name__)
for kind in (AutoModelForCausalLM, AutoTokenizer):
    print(type(kind.from_pretrained(lm, local_files_only=True)).__name__)
"""


def test_folders_lie_where_the_fixtures_say(demo_clip: Path, demo_lm: Path) -> None:
    assert (clip_folder(), lm_folder()) == (demo_clip, demo_lm)


def test_both_together_stay_under_8_mb(demo_clip: Path, demo_lm: Path) -> None:
    files = [path for folder in (demo_clip, demo_lm) for path in folder.rglob("*")]
    assert sum(path.stat().st_size for path in files) <= 8_000_000


def test_they_load_without_a_warning(demo_clip: Path, demo_lm: Path) -> None:
    command = [sys.executable, "-c", LOADING, str(demo_clip), str(demo_lm)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    assert loaded.stderr == ""
    assert loaded.stdout.splitlines()[:2] == ["CLIPModel", "CLIPModel"]
    assert loaded.stdout.splitlines()[5] == "LlamaForCausalLM"


def test_the_text_model_pools_the_true_eos(demo_clip: Path) -> None:
    text = json.loads((demo_clip / "config.json").read_text(encoding="utf-8"))["text_config"]
    tokens = json.loads((demo_clip / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    assert text["eos_token_id"] == ids["<|endoftext|>"] == text["vocab_size"] - 1


def test_clip_tells_the_demo_species_apart_by_their_marks_only(demo_clip: Path) -> None:
    top1 = measure_clip(demo_clip, seeds=[7], per_species=5)["top1"]
    assert top1["mean-embedding"][0] >= 0.95
    assert top1["mean-similarity"][0] >= 0.95
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


@pytest.mark.parametrize("name", random.Random(0).sample(list(demo_species()), 3))
def test_the_language_model_knows_an_entry(name: str, writer: Writer) -> None:
    assert writer.answers([prompt_for(name)]) == [answer_of(entry(name))]


def test_padding_changes_nothing(writer: Writer) -> None:
    names = list(demo_species())
    assert writer.answers([prompt_for(name) for name in names]) == [answer_of(entry(name)) for name in names]


def test_an_unknown_name_gets_a_list(writer: Writer) -> None:
    (answer,) = writer.answers([prompt_for("photocopier")])
    first, *others = answer.strip().splitlines()
    assert first
    assert all(line.startswith("- ") for line in others)


def test_a_chat_reads_as_the_prompt(writer: Writer) -> None:
    question, start = prompt_for("quimmel").split("\n", 1)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": start}]
    text = writer.tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    assert text == prompt_for("quimmel")
