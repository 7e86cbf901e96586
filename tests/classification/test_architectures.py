"""Every family of CLIP-like models that is promised, as a small model of random weights in a real folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoModel, AutoProcessor, PreTrainedModel

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.engines.openvino import TOLERANCE, cosine_error

WORDS = ["big", "eyes", "wet", "skin", "four", "legs", "fur", "a", "photo", "of", "frog", "dog"]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = SMALL | {"image_size": 32, "patch_size": 8}


def _save(folder: Path, model: PreTrainedModel, tokenizer: Any, image_processor: Any) -> None:
    for part in (model, tokenizer, image_processor):
        part.save_pretrained(folder)


def _gemma_tokenizer() -> Any:
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *sorted(set("".join(WORDS)))]
    return transformers.GemmaTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[])


def chinese_clip(folder: Path) -> None:
    tokenizer = transformers.BertTokenizer(
        vocab={token: n for n, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])},
        model_max_length=52,
    )
    config = transformers.ChineseCLIPConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer)}, vision_config=VISION, projection_dim=16
    )
    size = {"height": 32, "width": 32}
    pixels = transformers.models.chinese_clip.image_processing_pil_chinese_clip.ChineseCLIPImageProcessorPil(
        size=size, crop_size=size
    )
    _save(folder, transformers.ChineseCLIPModel(config), tokenizer, pixels)


def metaclip_2(folder: Path) -> None:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*((token, 0.0) for token in special), *((f"▁{word}", -1.0) for word in WORDS)]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=tokens, model_max_length=77)
    ends = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = transformers.MetaClip2Config(
        text_config=SMALL | ends | {"vocab_size": len(tokenizer)}, vision_config=VISION, projection_dim=16
    )
    pixels = transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=32
    )
    _save(folder, transformers.MetaClip2Model(config), tokenizer, pixels)


def siglip(folder: Path) -> None:
    """SigLIP's architecture with Gemma's tokenizer, which is what SigLIP 2 of a fixed size is."""
    tokenizer = _gemma_tokenizer()
    config = transformers.SiglipConfig(
        text_config=SMALL
        | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32},
        vision_config=VISION,
    )
    pixels = transformers.models.siglip.image_processing_pil_siglip.SiglipImageProcessorPil(
        size={"height": 32, "width": 32}
    )
    _save(folder, transformers.SiglipModel(config), tokenizer, pixels)


def siglip2(folder: Path) -> None:
    """SigLIP 2 of free size: pictures become patches, with a mask and their shape."""
    tokenizer = _gemma_tokenizer()
    config = transformers.Siglip2Config(
        text_config=SMALL
        | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32},
        vision_config=SMALL | {"patch_size": 16, "num_patches": 256},
    )
    pixels = transformers.models.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil(
        patch_size=16, max_num_patches=256
    )
    _save(folder, transformers.Siglip2Model(config), tokenizer, pixels)


def _pictures() -> list[Image.Image]:
    areas = [(-2, -1.5, 1, 1.5), (-1, -1, 0, 0), (-0.5, 0, 0.5, 1)]
    return [Image.effect_mandelbrot((50, 40), area, 50).convert("RGB") for area in areas]


@pytest.fixture(params=[chinese_clip, metaclip_2, siglip, siglip2], ids=lambda build: build.__name__)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model folder of each family."""
    build: Callable[[Path], None] = request.param
    torch.manual_seed(0)
    build(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_scores_are_the_models_own(folder: Path) -> None:
    """Our cosines, scaled, are `logits_per_image` of the model's own forward, but for SigLIP's bias."""
    names = ["frog", "dog"]
    pictures = _pictures()
    encoder = Encoder(folder, device="cpu", dtype="float32")
    ours = Classifier.from_names(names, clip=encoder)
    model = AutoModel.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    padding = "max_length" if "Siglip" in type(model).__name__ else True
    inputs = processor(
        text=[f"a photo of a {name}" for name in names],
        images=pictures,
        padding=padding,
        max_length=encoder.max_tokens,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        theirs = model(**inputs).logits_per_image - getattr(model, "logit_bias", torch.zeros(1))
    vectors = encoder.encode_images([encoder.prepare(picture) for picture in pictures])
    np.testing.assert_allclose(ours.head.logits(vectors), theirs, rtol=0, atol=1e-4)
    sums = [sum(score.probability for score in prediction.scores) for prediction in ours.predict(pictures)]
    assert sums == pytest.approx([1, 1, 1])


@pytest.mark.slow
def test_openvino_computes_those_that_it_converts(folder: Path) -> None:
    pytest.importorskip("openvino")
    texts, pictures = ["frog", "a photo of a dog", "big eyes " * 50], _pictures()
    exact = Encoder(folder, device="cpu", dtype="float32", engine="torch")
    for dtype, tolerance in TOLERANCE.items():
        encoder = Encoder(folder, device="cpu", dtype=dtype)  # type: ignore[arg-type]
        assert encoder.engine_name == ("torch" if encoder.engine.least is None else "openvino")
        assert cosine_error(encoder.encode_texts(texts), exact.encode_texts(texts)) <= tolerance
        ours, theirs = (
            item.encode_images([item.prepare(picture) for picture in pictures]) for item in (encoder, exact)
        )
        assert cosine_error(ours, theirs) <= tolerance


@pytest.mark.slow
def test_texts_over_the_limit_are_cut(folder: Path) -> None:
    embedder = Embedder(Encoder(folder, device="cpu", dtype="float32"))
    embedder.texts(["frog " * 100])
    assert len(embedder.notices) == 1
