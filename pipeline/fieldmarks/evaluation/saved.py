"""Arms of a saved classifier, from the embeddings that lie in it: no model is needed.

Other texts than its own cannot be embedded, so that only `photo` (its baseline), `descriptors` and `swapped`
are to be had.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fieldmarks.classification.head import Head
from fieldmarks.classification.texts import NAME_TEMPLATE, name_texts
from fieldmarks.evaluation.arms import OF_ONE_TEXT, Arm, Draw, Wanted
from fieldmarks.evaluation.waffle import derangement


def of_head(head: Head, wanted: Wanted) -> tuple[list[Arm], list[str]]:
    """Return the arms that a saved classifier can answer, and why the others are left out."""
    there = {
        "photo": _photo(head),
        "descriptors": Arm(
            "descriptors", _told(head), head.aggregate, (Draw(head.texts, None, head.embeddings),)
        ),
        "swapped": _swapped(head, wanted.seeds),
    }
    arms = [arm for name, arm in there.items() if name in wanted.arms and arm]
    why = {
        "photo": "it was saved without a baseline",
        "swapped": "its texts cannot change classes, as they hold class names or are of one class",
    }
    notices = [
        f"the arm {name} is left out of a saved classifier:"
        f" {why.get(name, 'it needs texts that are not in it')}"
        for name in wanted.arms
        if not there.get(name)
    ]
    return arms, notices


def described(head: Head) -> dict[str, list[str]]:
    """Return the descriptors of each class, without the prompts of its name."""
    prompts = dict(zip(head.classes, name_texts(head.classes).texts, strict=True))
    found: dict[str, list[str]] = {name: [] for name in head.classes}
    for row, descriptor in enumerate(head.texts.descriptors):
        name = head.classes[head.texts.owner[row]]
        found[name] += [] if descriptor in (name, prompts[name]) else [descriptor]
    return found


def _photo(head: Head) -> Arm | None:
    if head.baseline is None:
        return None
    return Arm("photo", NAME_TEMPLATE, OF_ONE_TEXT, (Draw(name_texts(head.classes), None, head.baseline),))


def _told(head: Head) -> str:
    return f"as saved, preset {head.about['preset']}" if "preset" in head.about else "as saved"


def _swapped(head: Head, seeds: int) -> Arm | None:
    """Return the arm whose classes have each other's descriptors; None where names would move with them."""
    have = [name for name, listed in described(head).items() if listed]
    if len(have) < 2 or head.texts.texts != head.texts.descriptors:
        return None
    return Arm(
        "swapped", f"{_told(head)}, of another class", head.aggregate, tuple(_draws(head, have, seeds))
    )


def _draws(head: Head, have: list[str], seeds: int) -> Iterator[Draw]:
    """Yield the classifier's texts, each under the class that got its list; prompts of a name stay."""
    own = described(head)
    place = {name: number for number, name in enumerate(head.classes)}
    for seed in range(seeds):
        order = derangement(len(have), seed)
        receiver = {have[other]: place[name] for name, other in zip(have, order, strict=True)}
        owner = np.array(
            [
                receiver[name] if head.texts.descriptors[row] in own[name] else place[name]
                for row, name in enumerate(head.classes[one] for one in head.texts.owner)
            ]
        )
        rows = np.argsort(owner, kind="stable")  # class after class
        moved = replace(
            head.texts,
            owner=tuple(owner[rows].tolist()),
            descriptors=tuple(head.texts.descriptors[row] for row in rows),
            texts=tuple(head.texts.texts[row] for row in rows),
        )
        yield Draw(moved, seed, head.embeddings[rows])
