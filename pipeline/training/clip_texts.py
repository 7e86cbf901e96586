"""The training texts of the demo's CLIP, and its tokenizer, of CLIP's own kind, trained on them.

Texts are trait phrases, bare or after an invented word as in "dobbick, which has a bushy tail". No species
name is among them, so "a photo of a {name}" tells the model nothing.
"""

import json
import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from fieldmarks.demo.species import TRAIT_OF_PHRASE, WORDINGS
from training.words import invented_word

END_OF_WORD = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def trait_text(phrase: str, rng: random.Random) -> str:
    """Return a phrase as a text for CLIP: mostly bare, else after an invented word as in the paper."""
    if rng.random() < 0.6:
        return phrase
    link = "which is" if phrase.startswith("a") and rng.random() < 0.5 else "which has"
    return f"{invented_word(rng)}, {link} {phrase}"


def one_text_per_value(rng: random.Random) -> list[str]:
    """Return a text for every value of every attribute, in the order of WORDINGS, in a random wording."""
    traits = [phrases for values in WORDINGS.values() for phrases in values.values()]
    return [trait_text(rng.choice(phrases), rng) for phrases in traits]


def _corpus(rng: random.Random) -> Iterator[str]:
    """Yield every phrase many times, then sentences with invented words."""
    for phrase in TRAIT_OF_PHRASE:
        yield from [phrase] * 20
    for _ in range(400):
        yield f"a photo of a {invented_word(rng)}, which has"


def train_tokenizer(merges: int, max_length: int, seed: int) -> CLIPTokenizer:
    """Train a CLIP tokenizer with up to `merges` merges for any text; its eos has the highest id."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        min_frequency=4,
        show_progress=False,
        initial_alphabet=alphabet,
        end_of_word_suffix=END_OF_WORD,
    )
    tokenizer.train_from_iterator(_corpus(random.Random(seed)), trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    return _clip_tokenizer([(left, right) for left, right in learnt], max_length)


def _clip_tokenizer(merges: list[tuple[str, str]], max_length: int) -> CLIPTokenizer:
    """Return the tokenizer of these merges; its vocabulary has every byte, alone and as a word's end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [byte + END_OF_WORD for byte in alphabet]
    merged = [left + right for left, right in merges]
    tokens = [*alphabet, *ends, *merged, "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)  # type: ignore[arg-type]
