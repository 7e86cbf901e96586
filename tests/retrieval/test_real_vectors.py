"""True CLIP vectors: names of things that are not there find nothing, names of things that are find them.

There are vectors of names, not of random words, so names that have nothing to do with the images stand in for
these: the set is calibrated with 500 of them, and searched by others.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.scoring import normalize
from fieldmarks.retrieval.calibration import NULL, compute, score
from fieldmarks.retrieval.scan import Scan

pytestmark = pytest.mark.slow

# Parts of LVIS's names that may be seen on CIFAR-10's aeroplanes, cars, birds, cats, deer, dogs, frogs …
RELATED = re.compile(
    "airplane|jet|plane|aircraft|helicopter|glider|blimp|car|van|bus|cab|jeep|limousine|motor|vehicle|pickup|ambulance"
    "|truck|engine|trailer|tow|tractor|freight|boat|ship|ferry|barge|canoe|yacht|kayak|gondola|dinghy|raft|vessel"
    "|bird|duck|owl|eagle|parrot|gull|pigeon|hen|rooster|penguin|ostrich|heron|vulture|flamingo|puffin|sparrow|crow"
    "|dove|canary|cock|goose|parakeet|cat|kitten|cougar|lion|tiger|deer|elk|moose|antler|gazelle|dog|puppy|shepherd"
    "|poodle|pug|dalmatian|frog|toad|lizard|horse|pony|foal"
)
CLASSES = {
    "airplane": 0,
    "bird": 2,
    "cat": 3,
    "deer": 4,
    "dog": 5,
    "frog": 6,
    "horse": 7,
    "boat": 8,
    "truck": 9,
}


def test_names_find_what_is_there_and_nothing_else(check_data: Path, tmp_path: Path) -> None:
    folder = check_data / "real-clip-embeddings"
    with np.load(folder / "real_clip_vitb32_embeddings.npz") as stored:
        np.savez(tmp_path / "cifar.npz", embeddings=stored["cifar_emb"])
        labels = stored["cifar_labels"]  # (500,)
        texts = normalize(stored["lvis_name_emb_raw"].astype(np.float32))  # (1203, 512)
    names = json.loads((folder / "texts.json").read_text("utf-8"))["lvis_names"]
    scan = Scan(EmbeddingSet(tmp_path / "cifar.npz").parts())
    unrelated = np.array([row for row, name in enumerate(names) if not RELATED.search(name)])
    alarms, precision, recall = [], [], []
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(unrelated)
        calibrated = compute(scan, texts[shuffled[:NULL]])
        others = score(scan, texts[shuffled[NULL:]], calibrated)
        alarms += calibrated.is_about_something(others).tolist()
        for name, label in CLASSES.items():
            scored = score(scan, texts[[names.index(name)]], calibrated)
            assert calibrated.is_about_something(scored).all(), name
            found, right = scored.cosines[0] >= calibrated.near, labels == label
            precision.append((found & right).sum() / found.sum())
            recall.append((found & right).sum() / right.sum())
    assert len(alarms) > 2000
    assert np.mean(alarms) <= 0.05
    assert np.mean(precision) >= 0.7
    assert np.mean(recall) >= 0.8
    print(f"alarms {np.mean(alarms):.1%}, precision {np.mean(precision):.0%}, recall {np.mean(recall):.0%}")
