"""CLIP's towers taken apart: transformers' numbers, beginnings once, compiled where that works."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from transformers import CLIPConfig, CLIPModel

from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.engines.towers import (
    ClipImageTower,
    ImageTower,
    Towers,
    channels_last,
    fuses_half_precision,
    product,
)
from fieldmarks.classification.engines.trees import STEP, Tree, batches_of, inputs_of, read_tokens, trees
from fieldmarks.classification.preprocess import Recipe
from fieldmarks.classification.scoring import cosines

END = 99
RECIPE = Recipe(40, (40, 40), 3, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
TOKENS = st.lists(st.integers(1, 6), max_size=12).map(lambda row: [0, *row, END])


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def network(request: pytest.FixtureRequest) -> Any:
    """A network with weights as large as those of trained ones, so that errors would show."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    common = sizes | {"hidden_act": request.param}
    text = common | {"vocab_size": 100, "eos_token_id": END, "bos_token_id": 0, "max_position_embeddings": 20}
    config = CLIPConfig(
        text_config=text, vision_config=common | {"image_size": 40, "patch_size": 8}, projection_dim=16
    )
    model: Any = CLIPModel(config)
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name and weight.ndim:
                weight.copy_(torch.randn_like(weight) * 0.2)
    return model


@pytest.fixture(scope="module")
def towers(network: Any) -> Towers:
    """The network taken apart."""
    return Towers.of(copy.deepcopy(network), RECIPE, "cpu", torch.float32)


def _unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _padded(texts: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = np.full((len(texts), max(map(len, texts))), END, np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    return rows


def _by_trees(towers: Towers, texts: Sequence[Sequence[int]], length: int, budget: int) -> Any:
    embeddings = np.zeros((len(texts), 16), np.float32)
    with torch.inference_mode():
        for batch in batches_of(list(trees(texts, length)), budget):
            inputs = {key: torch.from_numpy(each) for key, each in inputs_of(batch).items()}
            embeddings[[row for tree in batch for row in tree.rows]] = towers.texts(**inputs).numpy()
    return embeddings


@given(
    texts=st.lists(TOKENS, min_size=1, max_size=25),
    length=st.integers(1, 40),
    budget=st.integers(1, 200),
)
def test_texts_by_trees_are_the_texts_one_by_one(
    network: Any, towers: Towers, texts: list[list[int]], length: int, budget: int
) -> None:
    with torch.inference_mode():
        ids = torch.from_numpy(_padded(texts))
        plain = network.get_text_features(input_ids=ids).pooler_output
    found = _by_trees(towers, read_tokens(_padded(texts), END), length, budget)
    assert_allclose(_unit(found), _unit(plain), rtol=0, atol=1e-6)


@given(texts=st.lists(TOKENS, min_size=1, max_size=25), length=st.integers(1, 40))
def test_a_tree_holds_each_beginning_once(texts: list[list[int]], length: int) -> None:
    found = list(trees(texts, length))
    assert sorted(row for tree in found for row in tree.rows) == list(range(len(texts)))
    for tree in found:
        assert len(tree.ids) <= length or len(tree.ids) == len(texts[tree.rows[0]])
        paths = [_path(tree, place) for place in range(len(tree.ids))]
        assert len(set(paths)) == len(paths)
        assert [len(path) - 1 for path in paths] == tree.depths
        assert [paths[end] for end in tree.ends] == [tuple(texts[row]) for row in tree.rows]


def _path(tree: Tree, place: int) -> tuple[int, ...]:
    parent = tree.parents[place]
    return (*(_path(tree, parent) if parent >= 0 else ()), tree.ids[place])


def test_texts_of_a_class_cost_their_shared_beginning_once() -> None:
    shared = [0, 1, 2, 3, 4, 5]
    texts = [[*shared, 10 + number, END] for number in range(6)]
    assert [len(tree.ids) for tree in trees(texts)] == [len(shared) + 6 * 2]


@given(texts=st.lists(TOKENS, min_size=1, max_size=25), length=st.integers(1, 40), budget=st.integers(1, 200))
def test_passes_have_aligned_rows_and_keep_to_the_budget(
    texts: list[list[int]], length: int, budget: int
) -> None:
    batches = list(batches_of(list(trees(texts, length)), budget))
    assert sorted(row for batch in batches for tree in batch for row in tree.rows) == list(range(len(texts)))
    for batch in batches:
        rows, tokens = inputs_of(batch)["ids"].shape
        assert tokens % STEP == 0
        assert rows == 1 or rows * tokens <= budget


@pytest.mark.parametrize("swish", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_fused_product_is_the_layer_and_its_activation(swish: bool, bias: bool) -> None:
    """No further from float32 than the separate steps, of which each rounds."""
    if not fuses_half_precision():
        pytest.skip("this processor has no bfloat16 of its own")
    torch.manual_seed(0)
    exact = torch.nn.Linear(96, 48, bias=bias)
    half = copy.deepcopy(exact).to(torch.bfloat16)
    inputs = torch.randn(3, 7, 96).to(torch.bfloat16)
    with torch.inference_mode():
        expected = exact(inputs.float())
        separate = half(inputs)
        if swish:
            expected, separate = torch.nn.functional.silu(expected), torch.nn.functional.silu(separate)
        found = product(half, inputs, swish=swish)
        assert found.dtype == torch.bfloat16
        assert found.shape == (3, 7, 48)
        assert (found.float() - expected).abs().mean() <= 1.05 * (separate.float() - expected).abs().mean()
        assert_allclose(product(exact, inputs.float(), swish=swish), expected, rtol=0, atol=1e-6)


def test_where_clip_reads_a_text() -> None:
    ids = np.array([[0, 5, END, END], [0, 7, 8, END]], np.int64)
    assert read_tokens(ids, END) == [[0, 5, END], [0, 7, 8, END]]
    assert read_tokens(ids, 2) == [[0, 5, END], [0, 7, 8, END]]  # the highest token, in old configurations


def test_images_are_the_networks_own(network: Any, towers: Towers) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), np.uint8)
    scale, shift = RECIPE.scale_and_shift
    normal = torch.from_numpy(pixels * scale + shift).permute(0, 3, 1, 2)
    with torch.inference_mode():
        plain = network.get_image_features(pixel_values=normal).pooler_output
        found = towers.images(torch.from_numpy(pixels))
    assert_allclose(_unit(found), _unit(plain), rtol=0, atol=1e-6)


@pytest.mark.parametrize("is_clips_own", [True, False])
def test_channels_last_changes_the_order_in_memory_alone(network: Any, is_clips_own: bool) -> None:
    pixels = torch.randint(0, 256, (3, 40, 40, 3), dtype=torch.uint8)
    tower: Any = ImageTower(copy.deepcopy(network), RECIPE)
    if is_clips_own:
        tower = ClipImageTower(copy.deepcopy(network), RECIPE, torch.float32)
    with torch.inference_mode():
        before = tower(pixels)
        after = channels_last(tower)(pixels)
    (convolution,) = [part for part in tower.modules() if isinstance(part, torch.nn.Conv2d)]
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert_allclose(before, after, atol=1e-4)


def test_half_precision_is_closer_than_that_of_all_numbers(network: Any) -> None:
    """Products alone in bfloat16, against the network's own in bfloat16 throughout."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), np.uint8))
    exact, ours, rough = (
        Towers.of(copy.deepcopy(network), RECIPE, "cpu", dtype)
        for dtype in (torch.float32, torch.bfloat16, torch.bfloat16)
    )
    rough.images.to(torch.bfloat16)
    rough.images.normalise.to(torch.float32)
    with torch.inference_mode():
        truth = exact.images(pixels).numpy()
        errors = [
            float(np.abs(1 - np.diag(cosines(truth, towers.images(pixels).float().numpy()))).max())
            for towers in (ours, rough)
        ]
    assert errors[0] < 1e-3
    assert errors[0] <= errors[1] * 1.5


COMPILED = """
import sys, torch
from fieldmarks.classification.engines.torch import LongRun
run, pixels = LongRun(10.0), torch.ones(4, 3)
tower = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.SiLU())
with torch.inference_mode():
    expected = run(tower, pixels)
    before = run.compiled
    run.computed(11.0)
    found, last = run(tower, pixels), run(tower, pixels[:3])
assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(last, expected[:3], atol=1e-6)
print(before, run.compiled)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "compiled"), [(None, "False True"), ("no-such-compiler", "False False")]
)
def test_a_long_run_has_its_tower_compiled_where_that_works(
    tmp_path: Path, compiler: str | None, compiled: str
) -> None:
    if compiler is None and shutil.which("g++") is None:
        pytest.skip("there is no compiler")
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILED],
        env=environment | ({"CXX": compiler} if compiler else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == compiled


def test_a_gpu_takes_passes_ahead_and_a_cpu_does_not(tiny_clip: Path) -> None:
    encoder = Encoder(tiny_clip, device="cpu", engine="torch")
    assert encoder.under_way == 0
    assert encoder.batch == 32
    assert encoder.portable is None  # nothing is loaded to find out
    encoder.encode_texts(["fur"])
    assert encoder.portable is not None
