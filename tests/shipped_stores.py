"""Checks the stores that ship, and compares them with the paper's descriptor files.

    python tests/shipped_stores.py

`official_labels.json` holds the labels of each data set as its copies have them: folder names, WordNet ids or
numbers. The paper's files (Menon & Vondrick, classify_by_description_release) are read from
FIELDMARKS_CHECK_DATA where that is set. "Shared" is the share of descriptor uses whose text occurs in more
than one class; "over 32 tokens" that of the texts of both presets.
"""

import itertools
import json
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmarks.classification.texts import PRESETS, descriptor_texts
from fieldmarks.data.labels import match
from fieldmarks.store import Store
from fieldmarks.store.lint import lint
from fieldmarks.text import comparable

LABELS = Path(__file__).with_name("official_labels.json")
CHECK_DATA = os.environ.get("FIELDMARKS_CHECK_DATA")
NAMES = {
    "caltech101": "Caltech-101",
    "cifar100": "CIFAR-100",
    "cub": "CUB-200-2011",
    "dtd": "DTD",
    "eurosat": "EuroSAT",
    "flowers102": "Flowers-102",
    "food101": "Food-101",
    "imagenet": "ImageNet-1k",
    "pets": "Oxford-IIIT Pets",
}
HEDGE = re.compile(r"\b(may|might|can|could|often|usually|sometimes|typically|generally|commonly)\b")


@dataclass(frozen=True)
class Figures:
    """What is counted of one list of descriptors."""

    classes: int
    uses: int
    median: float
    fewest: int
    shared: float  # of descriptor uses
    equal_lists: int  # classes whose list another class has too
    hedges: int
    empty: int


def figures(descriptors: Mapping[str, Sequence[str]]) -> Figures:
    """Count what can be told from the texts alone."""
    lists = {name: tuple(dict.fromkeys(map(str.casefold, texts))) for name, texts in descriptors.items()}
    classes_with = Counter(text for texts in lists.values() for text in texts)
    uses = sum(map(len, lists.values()))
    equal = Counter(frozenset(texts) for texts in lists.values() if texts)
    lengths = [len(texts) for texts in lists.values()]
    return Figures(
        classes=len(lists),
        uses=uses,
        median=statistics.median(lengths),
        fewest=min(lengths),
        shared=sum(classes_with[text] > 1 for texts in lists.values() for text in texts) / uses,
        equal_lists=sum(count for count in equal.values() if count > 1),
        hedges=sum(bool(HEDGE.search(text)) for texts in lists.values() for text in texts),
        empty=lengths.count(0),
    )


def overlapping(descriptors: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return the pairs of classes that share more than half of the shorter list."""
    sets = {name: frozenset(map(str.casefold, texts)) for name, texts in descriptors.items()}
    by_text: dict[str, list[str]] = {}
    for name, texts in sets.items():
        for text in texts:
            by_text.setdefault(text, []).append(name)
    common = Counter(pair for names in by_text.values() for pair in itertools.combinations(sorted(names), 2))
    return [pair for pair, count in common.items() if 2 * count > min(len(sets[name]) for name in pair)]


def token_lengths(descriptors: Mapping[str, Sequence[str]], tokenizer_folder: str) -> list[int]:
    """Return how many of CLIP's tokens each text of both presets has."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    texts = [
        text for preset in PRESETS.values() for text in descriptor_texts(descriptors, preset.template).texts
    ]
    return [len(ids) for ids in tokenizer(texts)["input_ids"]]


def problems(name: str) -> Iterator[str]:
    """Yield what a shipped store falls short of."""
    store = Store(name)
    descriptors = {entry.name: entry.descriptors for entry in store.entries()}
    for finding in lint(store.entries()):
        yield f"lint: {finding.to_dict()}"
    lengths = list(map(len, descriptors.values()))
    if min(lengths) < 6 or max(lengths) > 8:
        yield f"{min(lengths)} to {max(lengths)} descriptors a class"
    counted = figures(descriptors)
    if counted.equal_lists or counted.hedges or counted.empty:
        yield f"equal lists, hedges, empty classes: {counted}"
    for left, right in overlapping(descriptors):
        yield f"{left} and {right} share more than half"
    for entry in store.entries():
        rivals = entry.confused_with
        if not 2 <= len(rivals) <= 3 or set(rivals) - set(descriptors) or entry.name in rivals:
            yield f"{entry.name}: confused_with {rivals}"
        for rival in rivals:
            if rival in descriptors and len(set(entry.descriptors) - set(descriptors[rival])) < 2:
                yield f"{entry.name}: nothing tells it from {rival}"
        if comparable(entry.name) in map(comparable, entry.descriptors):
            yield f"{entry.name}: its own name"
    for form, labels in json.loads(LABELS.read_text("utf-8"))[name].items():
        matching = match(labels, list(descriptors), ids=store.ids())
        if len(set(matching.class_of.values())) != len(labels):
            yield f"{form}: {len(matching.class_of)} of {len(labels)} labels: {matching.unknown_labels[:5]}"
        if matching.unused_classes and form != "without the background class":
            yield f"{form}: without a label: {matching.unused_classes[:5]}"
        if matching.folded and form in ("folders", "numbers", "WordNet ids", "files"):
            yield f"{form}: matched by folding alone: {matching.folded[:5]}"


def table(tokenizer: Path | None) -> str:
    """Return the figures of our stores and of the paper's files as a table in Markdown."""
    rows = []
    for name, title in NAMES.items():
        descriptors = {entry.name: entry.descriptors for entry in Store(name).entries()}
        rows.append((title, "ours", descriptors))
        path = Path(CHECK_DATA or "") / "descriptors" / f"descriptors_{name}.json"
        if CHECK_DATA and path.is_file():
            rows.append((title, "the paper's", json.loads(path.read_text("utf-8"))))
    lines = [
        "| data set | lists | classes | median | fewest | shared | equal lists | hedges | longest text |"
        " over 32 tokens |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for title, whose, descriptors in rows:
        counted = figures(descriptors)
        longest = over = "not counted"
        if tokenizer:
            lengths = token_lengths(descriptors, str(tokenizer))
            longest, over = str(max(lengths)), f"{sum(n > 32 for n in lengths) / len(lengths):.1%}"
        lines.append(
            f"| {title} | {whose} | {counted.classes} | {counted.median:g} | {counted.fewest}"
            f" | {counted.shared:.1%} | {counted.equal_lists} | {counted.hedges} | {longest} | {over} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table, and what is wrong."""
    wrong = [f"{name}: {problem}" for name in NAMES for problem in problems(name)]
    print(table(Path(CHECK_DATA) / "clip-tokenizer" if CHECK_DATA else None))
    print("\n".join(wrong) or "\nnothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
