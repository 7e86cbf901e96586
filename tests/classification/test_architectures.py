"""Every family of CLIP-like models that is promised, as a small model of random weights in a real folder."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from PIL import Image
from tests.kit import write_store
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.engines.openvino import CONVERTIBLE, TOLERANCE, cosine_error
from fieldmarks.classification.scoring import Array
from fieldmarks.cli import main
from fieldmarks.errors import ModelError

HF: Any = transformers  # whose types are too narrow for its own keywords
WORDS = ["big", "eyes", "wet", "skin", "four", "legs", "fur", "a", "photo", "of", "frog", "dog"]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = SMALL | {"image_size": 32, "patch_size": 8}
LARGER: dict[str, Any] = {"initializer_factor": 8.0}  # of the usual random weights, so that texts differ
MODELS = HF.models


def _save(folder: Path, model: PreTrainedModel, tokenizer: Any, image_processor: Any) -> None:
    for part in (model, tokenizer, image_processor):
        part.save_pretrained(folder)


def _gemma_tokenizer() -> Any:
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *sorted(set("".join(WORDS)))]
    return HF.Siglip2Tokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[])


def _bert_tokenizer(length: int) -> Any:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return HF.BertTokenizer(vocab={token: n for n, token in enumerate(tokens)}, model_max_length=length)


def _xlm_tokenizer() -> Any:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*((token, 0.0) for token in special), *((f"▁{word}", -1.0) for word in WORDS)]
    return HF.XLMRobertaTokenizer(vocab=tokens)


def _clip_pixels() -> Any:
    return MODELS.clip.image_processing_pil_clip.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size=32
    )


def _siglip_pixels() -> Any:
    return MODELS.siglip.image_processing_pil_siglip.SiglipImageProcessorPil(size={"height": 32, "width": 32})


def _ends(tokenizer: Any) -> dict[str, Any]:
    """What a configuration of a text tower needs to know of the tokenizer."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return SMALL | {name: getattr(tokenizer, name) for name in names} | {"vocab_size": len(tokenizer)}


def clip(folder: Path, tokenizer: Any) -> None:
    config = HF.CLIPConfig(text_config=_ends(tokenizer), vision_config=VISION, projection_dim=16, **LARGER)
    _save(folder, HF.CLIPModel(config), tokenizer, _clip_pixels())


def clipseg(folder: Path, tokenizer: Any) -> None:
    config = HF.CLIPSegConfig(text_config=_ends(tokenizer), vision_config=VISION, projection_dim=16, **LARGER)
    size = {"height": 32, "width": 32}
    pixels = MODELS.vit.image_processing_pil_vit.ViTImageProcessorPil(size=size)
    _save(folder, HF.CLIPSegModel(config), tokenizer, pixels)


def groupvit(folder: Path, tokenizer: Any) -> None:
    vision = VISION | {"depths": [1, 1], "num_group_tokens": [8, 0], "num_output_groups": [4, 8]}
    config = HF.GroupViTConfig(
        text_config=_ends(tokenizer),
        vision_config=vision | {"num_hidden_layers": 2},
        projection_dim=16,
        projection_intermediate_dim=32,
    )
    _save(folder, HF.GroupViTModel(config), tokenizer, _clip_pixels())


def owlvit(folder: Path, tokenizer: Any) -> None:
    text = _ends(tokenizer) | {"max_position_embeddings": 16, "pad_token_id": 0}
    config = HF.OwlViTConfig(text_config=text, vision_config=VISION, projection_dim=16, **LARGER)
    size = {"height": 32, "width": 32}
    pixels = MODELS.owlvit.image_processing_pil_owlvit.OwlViTImageProcessorPil(
        size=size, do_center_crop=False
    )
    _save(folder, HF.OwlViTModel(config), tokenizer, pixels)


def chinese_clip(folder: Path, _: Any) -> None:
    _chinese_clip(folder, _bert_tokenizer(512))


def _chinese_clip(folder: Path, tokenizer: Any) -> None:
    config = HF.ChineseCLIPConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer)}, vision_config=VISION, projection_dim=16
    )
    size = {"height": 32, "width": 32}
    pixels = MODELS.chinese_clip.image_processing_pil_chinese_clip.ChineseCLIPImageProcessorPil(
        size=size, crop_size=size
    )
    _save(folder, HF.ChineseCLIPModel(config), tokenizer, pixels)


def blip(folder: Path, _: Any) -> None:
    tokenizer = _bert_tokenizer(512)
    config = HF.BlipConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer)}, vision_config=VISION, projection_dim=16
    )
    pixels = MODELS.blip.image_processing_pil_blip.BlipImageProcessorPil(size={"height": 32, "width": 32})
    _save(folder, HF.BlipModel(config), tokenizer, pixels)


def flava(folder: Path, _: Any) -> None:
    tokenizer = _bert_tokenizer(512)
    config = HF.FlavaConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer)},
        image_config=VISION,
        multimodal_config=SMALL,
        projection_dim=16,
    )
    pixels = MODELS.flava.image_processing_pil_flava.FlavaImageProcessorPil(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    )
    _save(folder, HF.FlavaModel(config), tokenizer, pixels)


def align(folder: Path, _: Any) -> None:
    tokenizer = _bert_tokenizer(512)
    vision = {
        "image_size": 32,
        "hidden_dim": 16,
        "in_channels": [32, 16],
        "out_channels": [16, 16],
        "kernel_sizes": [3, 3],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 6],
        "depthwise_padding": [],
        "squeeze_expansion_ratio": 0.25,
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
    }
    config = HF.AlignConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer)}, vision_config=vision, projection_dim=16
    )
    pixels = MODELS.efficientnet.image_processing_pil_efficientnet.EfficientNetImageProcessorPil(
        size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    )
    _save(folder, HF.AlignModel(config), tokenizer, pixels)


def altclip(folder: Path, _: Any) -> None:
    tokenizer = _xlm_tokenizer()
    config = HF.AltCLIPConfig(
        text_config=_ends(tokenizer) | {"project_dim": 16, "max_position_embeddings": 40},
        vision_config=VISION,
        projection_dim=16,
    )
    _save(folder, HF.AltCLIPModel(config), tokenizer, _clip_pixels())


def tipsv2(folder: Path, _: Any) -> None:
    tokens = ["<pad>", "<unk>", *(f"▁{letter}" for letter in "abcdefop"), *sorted(set("▁" + "".join(WORDS)))]
    tokenizer = HF.Tipsv2Tokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[])
    config = HF.Tipsv2Config(
        text_config=SMALL | {"vocab_size": len(tokenizer)},
        vision_config={"mlp_ratio": 2, "image_size": 32, "patch_size": 8}
        | {name: SMALL[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
    )
    _save(folder, HF.Tipsv2Model(config), tokenizer, _siglip_pixels())


def metaclip_2(folder: Path, _: Any) -> None:
    tokenizer = _xlm_tokenizer()
    config = HF.MetaClip2Config(text_config=_ends(tokenizer), vision_config=VISION, projection_dim=16)
    _save(folder, HF.MetaClip2Model(config), tokenizer, _clip_pixels())


def siglip(folder: Path, _: Any) -> None:
    """SigLIP's architecture with Gemma's tokenizer, which is what SigLIP 2 of a fixed size is."""
    tokenizer = _gemma_tokenizer()
    config = HF.SiglipConfig(
        text_config=SMALL | {"vocab_size": len(tokenizer), "projection_size": 32}, vision_config=VISION
    )
    _save(folder, HF.SiglipModel(config), tokenizer, _siglip_pixels())


def siglip2(folder: Path, _: Any) -> None:
    """SigLIP 2 of free size: images become patches, with a mask and their shape."""
    tokenizer = _gemma_tokenizer()
    config = HF.Siglip2Config(
        text_config=SMALL | {"vocab_size": len(tokenizer), "projection_size": 32},
        vision_config=SMALL | {"patch_size": 16, "num_patches": 256},
    )
    pixels = MODELS.siglip2.image_processing_pil_siglip2.Siglip2ImageProcessorPil(
        patch_size=16, max_num_patches=256
    )
    _save(folder, HF.Siglip2Model(config), tokenizer, pixels)


FAMILIES: dict[str, Callable[[Path, Any], None]] = {
    build.__name__: build
    for build in (
        *(clip, siglip, siglip2, metaclip_2, chinese_clip, altclip, tipsv2, align),
        *(clipseg, blip, groupvit, owlvit, flava),
    )
}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Callable[[str], Path]:
    """What gives the folder of a family's model, made when it is first asked for."""
    folders: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            torch.manual_seed(0)
            FAMILIES[name](folders[name], AutoTokenizer.from_pretrained(tiny_clip))
        return folders[name]

    return folder_of


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, built: Callable[[str], Path]) -> Path:
    """A model folder of each family."""
    return built(request.param)


def _pictures() -> list[Image.Image]:
    areas = [(-2, -1.5, 1, 1.5), (-1, -1, 0, 0), (-0.5, 0, 0.5, 1)]
    return [Image.effect_mandelbrot((50, 40), area, 50).convert("RGB") for area in areas]


NAMES = ["frog", "dog", "wet fur"]


def _own_inputs(folder: Path, model: Any, texts: list[str], most: int) -> dict[str, Any]:
    """Return a model's inputs as its family was trained, by transformers' parts and no code of ours."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = HF.AutoImageProcessor.from_pretrained(folder)
    pixels = dict(processor(images=_pictures(), return_tensors="pt"))
    if not model.config.model_type.startswith("siglip"):
        how = {"padding": True, "truncation": True, "max_length": most, "return_tensors": "pt"}
        return pixels | dict(tokenizer(texts, **how))
    ids = [[*tokenizer(text.lower(), add_special_tokens=False)["input_ids"], 1] for text in texts]
    return pixels | {"input_ids": torch.tensor([[*row, *[0] * (64 - len(row))] for row in ids])}


def _own_logits(model: Any, inputs: dict[str, Any]) -> Array:
    """Return logits_per_image of a model's own forward, without SigLIP's bias."""
    with torch.no_grad():
        if model.config.model_type == "flava":  # which has them in its training's forward only
            texts = {key: tensor for key, tensor in inputs.items() if key != "pixel_values"}
            text = model.text_projection(model.text_model(**texts).last_hidden_state[:, 0])
            states = model.image_model(pixel_values=inputs["pixel_values"]).last_hidden_state
            image = model.image_projection(states[:, 0])
            unit = torch.nn.functional.normalize
            logits = unit(image) @ unit(text).T * model.logit_scale.exp()
        else:
            logits = model(**inputs).logits_per_image - getattr(model, "logit_bias", torch.zeros(1))
    array: Array = logits.numpy()
    return array


@pytest.mark.slow
def test_scores_are_the_models_own(folder: Path) -> None:
    """Our cosines, scaled, are `logits_per_image` of the model's own forward, on every engine."""
    model = AutoModel.from_pretrained(folder).eval()
    family = model.config.model_type
    texts = [f"a photo of a {name}" for name in NAMES]
    first = Encoder(folder, device="cpu", dtype="float32", engine="torch")
    theirs = _own_logits(model, _own_inputs(folder, model, texts, first.max_tokens))
    assert np.ptp(theirs) > 1e-3, "texts and images must differ for this to tell anything"
    converts = family in CONVERTIBLE and first.engine.min_side is not None
    for engine in ("torch", "openvino")[: 2 if converts else 1]:
        encoder = Encoder(folder, device="cpu", dtype="float32", engine=engine)  # type: ignore[arg-type]
        ours = Classifier(NAMES, clip=encoder)
        vectors = encoder.encode_images([encoder.prepare(picture) for picture in _pictures()])
        np.testing.assert_allclose(ours.head.logits(vectors), theirs, rtol=0, atol=1e-4, err_msg=engine)
        sums = [sum(score.probability for score in found.scores) for found in ours.predict(_pictures())]
        assert sums == pytest.approx([1, 1, 1])


@pytest.mark.slow
def test_openvino_computes_those_that_it_converts(folder: Path) -> None:
    pytest.importorskip("openvino")
    texts, pictures = ["frog", "A Photo: of_a dog!", "big eyes " * 50], _pictures()
    exact = Encoder(folder, device="cpu", dtype="float32", engine="torch")
    for dtype, tolerance in TOLERANCE.items():
        encoder = Encoder(folder, device="cpu", dtype=dtype)  # type: ignore[arg-type]
        assert encoder.engine_name == ("torch" if encoder.engine.min_side is None else "openvino")
        assert cosine_error(encoder.encode_texts(texts), exact.encode_texts(texts)) <= tolerance
        ours, theirs = (
            item.encode_images([item.prepare(picture) for picture in pictures]) for item in (encoder, exact)
        )
        assert cosine_error(ours, theirs) <= tolerance


LENGTHS = {"chinese_clip": 52, "altclip": 38, "align": 64, "tipsv2": 64, "owlvit": 16, "blip": 512}
LENGTHS |= {"siglip": 64, "siglip2": 64, "clip": 77, "metaclip_2": 77, "flava": 77}


@pytest.mark.slow
def test_texts_over_the_limit_are_cut(folder: Path) -> None:
    encoder = Encoder(folder, device="cpu", dtype="float32", engine="torch")
    assert encoder.max_tokens == LENGTHS.get(AutoModel.from_pretrained(folder).config.model_type, 77)
    embedder = Embedder(encoder)
    embedder.texts(["frog " * 600, "dog", "fur " * 600])
    assert embedder.notices == [
        f"2 texts are longer than {encoder.max_tokens} tokens, the limit of {folder}, and truncated:"
        f" {'frog ' * 600!r:.60}"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_siglip_reads_the_canonical_form(family: str, built: Callable[[str], Path]) -> None:
    """Whichever way a text is written, it is read in lower case and without punctuation."""
    encoder = Encoder(built(family), device="cpu", dtype="float32")
    plain, written, spaced = encoder.encode_texts(
        ["a photo of frog", "A photo_of: FROG!", " a  photo of\tfrog"]
    )
    np.testing.assert_array_equal(plain, written)
    np.testing.assert_array_equal(plain, spaced)
    assert encoder.token_counts(["", "!?"]) == [1, 1], "the end token"
    ids = encoder.checkpoint.tokenize(["Dog!", "frog " * 100])["input_ids"]
    letters = dict(AutoTokenizer.from_pretrained(built(family)).get_vocab())
    assert ids.shape == (2, 64)
    assert ids[0].tolist() == [*(letters[letter] for letter in "dog"), 1, *[0] * 60]
    assert ids[1, -1] == 1, "the end token stays where a text is cut"


REFUSED = {
    "Blip2Config": "a BLIP-2 model, whose text features are a language model's and not comparable"
    " with images",
    "XCLIPConfig": "an X-CLIP model, which reads videos, not single images",
    "VideoPrismConfig": "a VideoPrism model, which reads videos, not single images",
    "ClapConfig": "a clap model, not one with CLIP's two encoders",
    "BertConfig": "a bert model, not one with CLIP's two encoders",
}


@pytest.mark.parametrize(("config", "what"), REFUSED.items())
def test_models_without_two_encoders_are_refused(
    config: str, what: str, tmp_path: Path, tiny_clip: Path
) -> None:
    getattr(HF, config)().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_clip).save_pretrained(tmp_path)
    _clip_pixels().save_pretrained(tmp_path)
    questions: list[Callable[[Encoder], object]] = [
        lambda encoder: encoder.encode_texts(["fur"]),
        lambda encoder: encoder.encode_images([encoder.prepare(_pictures()[0])]),
        lambda encoder: encoder.logit_scale,
    ]
    for ask in questions:
        with pytest.raises(ModelError) as caught:
            ask(Encoder(tmp_path, device="cpu", dtype="float32"))
        assert str(caught.value) == (
            f"{tmp_path} is {what}: pass a CLIP-like model such as openai/clip-vit-base-patch32"
        )


@pytest.mark.slow
@pytest.mark.parametrize("family", ["align", "tipsv2"])
def test_a_temperature_divides(family: str, built: Callable[[str], Path]) -> None:
    temperature = AutoModel.from_pretrained(built(family)).temperature.item()
    encoder = Encoder(built(family), device="cpu", dtype="float32")
    assert math.isclose(encoder.logit_scale, 1 / temperature, rel_tol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_chinese_descriptors_from_the_store_to_a_prediction(
    tmp_path: Path, engine: str, runner: CliRunner
) -> None:
    """A Chinese CLIP with a tokenizer of single characters reads a Chinese store."""
    pytest.importorskip("openvino" if engine == "openvino" else "torch")
    marks = {"树蛙": ["突出的眼睛", "圆形脚趾"], "猫头鹰": ["大眼睛", "红色的喙"], "蝾螈": ["细长的尾巴"]}
    text = "".join([*marks, *(mark for several in marks.values() for mark in several)])
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(text))]
    tokenizer = HF.BertTokenizer(vocab={token: n for n, token in enumerate(tokens)})
    assert tokenizer.tokenize("大眼睛") == ["大", "眼", "睛"]
    torch.manual_seed(0)
    _chinese_clip(tmp_path / "clip", tokenizer)
    write_store(tmp_path / "store.jsonl", marks)
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(_pictures()):
        picture.save(tmp_path / "images" / f"{number}.png")
    options = [
        "--clip",
        str(tmp_path / "clip"),
        "--engine",
        engine,
        "--dtype",
        "float32",
        "--format",
        "jsonl",
    ]
    command = ["classify", str(tmp_path / "images"), "--store", str(tmp_path / "store.jsonl"), *options]
    done = runner.invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 3
    model = AutoModel.from_pretrained(tmp_path / "clip").eval()
    encoder = Encoder(tmp_path / "clip", device="cpu", dtype="float32", engine=engine)  # type: ignore[arg-type]
    classifier = Classifier(marks, clip=encoder)
    processor = HF.AutoImageProcessor.from_pretrained(tmp_path / "clip")
    unit = torch.nn.functional.normalize
    with torch.no_grad():
        texts = [tokenizer(several, padding=True, return_tensors="pt") for several in marks.values()]
        weights = [model.get_text_features(**inputs).pooler_output.mean(dim=0) for inputs in texts]
        pixels = processor(images=_pictures(), return_tensors="pt")
        images = model.get_image_features(**pixels).pooler_output
        theirs = model.logit_scale.exp() * unit(images) @ unit(torch.stack(weights)).T
    vectors = encoder.encode_images([encoder.prepare(picture) for picture in _pictures()])
    np.testing.assert_allclose(classifier.head.logits(vectors), theirs, rtol=0, atol=1e-4)
    assert [result["label"] for result in results] == [list(marks)[int(row)] for row in theirs.argmax(dim=-1)]
