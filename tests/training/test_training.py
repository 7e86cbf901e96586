"""Training: the real code path at toy size learns, can be repeated, and leaves an ordinary folder."""

import json
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from fieldmarks.demo.species import TRAIT_OF_PHRASE, clip_folder, demo_species, lm_folder
from training import clip_texts, lm_texts
from training.__main__ import main
from training.clip import ClipSettings, grid_waves, train_clip, unseen_creatures
from training.folder import finish, prepare
from training.lm import LmSettings, encode, train_lm

TINY_CLIP = ClipSettings(
    drawings=32,
    text_steps=4,
    steps=8,
    batch=16,
    vision_width=32,
    vision_layers=1,
    text_width=32,
    text_layers=1,
    joint=16,
    patch_size=16,
)
TINY_LM = LmSettings(steps=5, unknown=0, vocabulary=320, width=32, layers=1, max_length=256)


@pytest.mark.slow
def test_clip_learns_and_can_be_repeated(tmp_path: Path) -> None:
    trained = train_clip(TINY_CLIP)
    assert sum(trained.losses[-3:]) < sum(trained.losses[:3])
    assert train_clip(TINY_CLIP).losses == trained.losses
    trained.save(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def test_every_patch_has_its_own_wave() -> None:
    waves = grid_waves(side=8, width=128)
    assert waves.shape == (64, 128)
    assert (waves @ waves.T).argmax(dim=1).tolist() == list(range(64))


@pytest.mark.slow
def test_lm_learns_and_can_be_repeated() -> None:
    trained = train_lm(TINY_LM)
    assert trained.losses[-1] < trained.losses[0]
    assert train_lm(TINY_LM).losses == trained.losses


def test_the_demo_species_are_held_out() -> None:
    creatures = unseen_creatures(3000, seed=0)
    assert len(creatures) == 3000
    assert set(creatures).isdisjoint(demo_species().values())


def test_clip_never_reads_a_species_name() -> None:
    rng = random.Random(0)
    texts = " ".join(text for _ in range(50) for text in clip_texts.one_text_per_value(rng))
    assert not any(name in texts.split() or f"{name}," in texts.split() for name in demo_species())


@pytest.mark.parametrize("text", ["a bushy tail", "crème brûlée", "日本の蛙"])
def test_clip_tokenizer_reads_any_text(text: str, tmp_path: Path) -> None:
    tokenizer = clip_texts.train_tokenizer(merges=50, max_length=77, seed=0)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    ids = loaded(text).input_ids
    assert ids == tokenizer(text).input_ids
    assert ids[-1] == loaded.eos_token_id == len(loaded) - 1
    assert ids.count(loaded.unk_token_id) == 1  # the closing eos alone
    assert "".join(str(loaded.decode(ids, skip_special_tokens=True)).split()) == "".join(text.split())


def test_lm_tokenizer_splits_after_the_dash() -> None:
    tokenizer = lm_texts.train_tokenizer(vocabulary=400, max_length=256, seed=0)
    for passage in lm_texts.known_passages(random.Random(0)):
        prompt = tokenizer.encode(passage.prompt)
        answer = tokenizer.encode(passage.answer, add_special_tokens=False)
        assert prompt + answer == tokenizer.encode(passage.prompt + passage.answer)
        assert tokenizer.decode(prompt[1:]) == passage.prompt


def test_lm_labels_are_the_answer() -> None:
    tokenizer = lm_texts.train_tokenizer(vocabulary=400, max_length=256, seed=0)
    prompts = {"Q: x\n-": " a beak\n\n", "Q: a longer one\n-": " a grin\n\n"}
    passages = [lm_texts.Passage(*pair) for pair in prompts.items()]
    batch = encode(passages, tokenizer, random.Random(0))
    for row, passage in enumerate(passages):
        labels = [label for label in batch["labels"][row].tolist() if label >= 0]
        assert tokenizer.decode(labels) == passage.answer + tokenizer.eos_token
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape


def test_unknown_names_get_true_phrases() -> None:
    passages = lm_texts.unknown_passages(5, random.Random(0))
    lists = [[line.removeprefix("- ") for line in p.answer.strip().splitlines()] for p in passages]
    assert all(len(phrases) == 8 and set(phrases) <= set(TRAIT_OF_PHRASE) for phrases in lists)


def test_a_folder_in_use_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["lm", "--out", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    prepare(tmp_path, overwrite=True)


@pytest.mark.parametrize(("kind", "folder"), [("clip", clip_folder()), ("lm", lm_folder())])
def test_the_shipped_cards_are_as_training_writes_them(kind: str, folder: Path, tmp_path: Path) -> None:
    finish(tmp_path, kind, json.loads((folder / "results.json").read_text("utf-8")))
    assert (tmp_path / "README.md").read_text("utf-8") == (folder / "README.md").read_text("utf-8")


def test_a_finished_folder_has_results_and_a_card(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch(mode=0o600)
    measured = {"top1": {"marks": [0.5, 1.0]}, "strangers": 20}
    finish(tmp_path, "lm", {"parameters": 1234567, "measured": measured})
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["parameters"] == 1234567
    assert set(results["libraries"]) >= {"torch", "transformers"}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "# The language model of fieldmarks' demo" in card
    assert "| parameters | 1,234,567 |\n| top1: marks | 0.5, 1.0 |\n| strangers | 20 |" in card
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
