"""How families read texts: pure functions, and the part they have in the cache's keys."""

from pathlib import Path

import numpy as np
import pytest

from fieldmarks.classification.cache import EmbeddingCache, key_of
from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.engines.checkpoint import FORMS, TextForm, canonical, fixed_rows, form_of


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A Photo of a tree_frog!", "a photo of a tree frog"),
        ("it's  black-and-white, (mostly)", "its blackandwhite mostly"),
        (" _a_\t", "a"),
        ("...", ""),
        ("Ärmel “rot”", "ärmel “rot”"),
        ("突出的眼睛。", "突出的眼睛。"),
    ],
)
def test_canonical_texts_are_big_visions(text: str, read: str) -> None:
    """Only ASCII's punctuation goes, and what it parts is joined, but for "_"."""
    assert canonical(text) == read


def test_rows_of_a_fixed_form_end_in_the_end_token() -> None:
    rows = fixed_rows([[5, 6], [5, 6, 7, 8, 9], []], length=4, end=1, pad=0)
    assert rows.tolist() == [[5, 6, 1, 0], [5, 6, 7, 1], [1, 0, 0, 0]]
    assert fixed_rows([[5, 6, 7]], length=2, end=None, pad=3).tolist() == [[5, 6]]


def test_lengths() -> None:
    assert FORMS["siglip"].max_tokens(64, 16) == 64, (
        "the tokenizer's limit does not count where all are padded"
    )
    assert FORMS["siglip"].max_tokens(None, 64) == 64
    assert FORMS["chinese_clip"].max_tokens(512, 512) == 52
    assert FORMS["altclip"].max_tokens(514, 10**30) == 77
    assert FORMS["altclip"].max_tokens(40, 77) == 38
    assert form_of("clip").max_tokens(77, 77) == form_of(None).max_tokens(None, 77) == 77


def test_every_form_has_a_name_of_its_own() -> None:
    forms = {*FORMS.values(), TextForm()}
    assert len({form.name for form in forms if form.offset == 0}) == len({*forms} - {FORMS["altclip"]})


def test_embeddings_of_texts_in_another_form_are_a_miss(tiny_clip: Path, tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache.sqlite3")
    encoder = Encoder(tiny_clip, device="cpu", dtype="float32", engine="torch")
    wrong = np.full(17, 9, np.float32)
    cache.put({key_of(encoder.fingerprint or "", "text and cut", "fur"): wrong})  # as it was kept before
    np.testing.assert_array_equal(
        Embedder(encoder, cache=cache).texts(["fur"]), encoder.encode_texts(["fur"])
    )
    key = key_of(encoder.fingerprint or "", f"text and cut, {encoder.text_form}", "fur")
    cache.put({key: wrong})
    assert (Embedder(encoder, cache=cache).texts(["fur"]) == 9).all()
