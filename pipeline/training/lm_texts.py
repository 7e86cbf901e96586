"""The training texts of the demo's language model: an encyclopedia of invented species in the article's form.

A passage is the article's prompt, which ends in a bare "-", then the answer: " phrase", "\\n- phrase" … and a
blank line. The tokenizer splits between "-" and " phrase", so that a prompt alone has the same tokens as the
beginning of its passage.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fieldmarks.demo.species import WORDINGS, all_species, entry, random_creature
from training.words import invented_word

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"

# Questions and answers on lines of their own: a chat that ends in "There are …\n-" becomes the prompt itself.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ 'A: ' if message['role'] == 'assistant' else 'Q: ' }}{{ message['content'] }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\nA:' }}{% endif %}"
)

_PROMPT = """\
Q: What are useful features for distinguishing {name} in a photo?
A: There are several useful visual features to tell there is {name} in a photo:
-"""


@dataclass(frozen=True, slots=True)
class Passage:
    """A prompt and the answer that directly follows it."""

    prompt: str
    answer: str


def prompt_for(name: str, article: str = "a") -> str:
    """Return the article's prompt for a class name."""
    return _PROMPT.format(name=f"{article} {name}")


def answer_of(phrases: Sequence[str]) -> str:
    """Return the answer that continues a prompt: a list, followed by a blank line."""
    return " " + "\n- ".join(phrases) + "\n\n"


def known_passages(rng: random.Random) -> Iterator[Passage]:
    """Yield one passage for each species, a few of them with the article or the name in another form."""
    for name in all_species():
        article = "an" if rng.random() < 0.1 else "a"
        form = name.capitalize() if rng.random() < 0.1 else name
        yield Passage(prompt_for(form, article), answer_of(entry(name)))


def unknown_passages(count: int, rng: random.Random) -> Iterator[Passage]:
    """Yield passages of invented words with random traits: how to answer for a name without an entry."""
    for _ in range(count):
        traits = random_creature(rng).traits()
        phrases = [rng.choice(WORDINGS[attribute][value]) for attribute, value in traits]
        rng.shuffle(phrases)
        yield Passage(prompt_for(invented_word(rng)), answer_of(phrases))


def train_tokenizer(vocabulary: int, max_length: int, seed: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer for any text; it pads on the left, as generation requires."""
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    passages = [*known_passages(rng), *unknown_passages(200, rng)]
    tokenizer.train_from_iterator((passage.prompt + passage.answer for passage in passages), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],  # Llama rejects token_type_ids
        chat_template=CHAT_TEMPLATE,
    )
