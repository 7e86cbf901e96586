"""The whole job on one machine without a network: describe, store, classify, show the marks.

Everything goes through the code that serves real models and photos; only the class names, the pictures
and the two toy models are the demo's own.
"""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import Creature, clip_folder, demo_species, lm_folder, trait_of
from fieldmarks.errors import FieldmarksError, GenerationError, ImageError
from fieldmarks.generation.local import LocalCompleter
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.request import Params
from fieldmarks.generation.run import generate
from fieldmarks.store import Store

PICTURES_PER_SPECIES: Final = 20
STORE: Final = "demo.jsonl"
CLASSES: Final = "classes.txt"
PICTURES: Final = "pictures"
MODELS: Final = "models"  # copies, so that every command can be tried by hand on plain folders
OURS: Final = {STORE, f".{STORE}.lock", CLASSES, PICTURES, MODELS}

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a run of the demo found; accuracies and recall are shares from 0 to 1."""

    descriptors: Mapping[str, tuple[str, ...]]
    images: int
    accuracy_descriptors: float
    accuracy_name: float
    descriptor_recall: float
    seconds: float
    store: Path
    images_dir: Path
    shown: Prediction  # one picture, with its marks

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as `fieldmarks demo --json` prints them."""
        return {
            "species": len(self.descriptors),
            "images": self.images,
            "accuracy_descriptors": self.accuracy_descriptors,
            "accuracy_name": self.accuracy_name,
            "descriptor_recall": self.descriptor_recall,
            "seconds": round(self.seconds, 2),
            "store": str(self.store),
            "images_dir": str(self.images_dir),
        }


def run_demo(out: Path, tell: Tell) -> DemoResult:
    """Run both stages in the folder `out`; `tell` hears each step as it begins.

    A folder of an earlier run is used again: descriptors already in its store are not asked again, and
    what was edited there counts. Raises FieldmarksError for a folder that holds anything else.
    """
    began = time.perf_counter()
    _claim(out)
    species = demo_species()
    _lay_out(out, list(species))
    tell(f"A toy language model describes {len(species)} invented species …")
    descriptors = _describe(list(species), out / STORE)
    tell(f"Drawing {PICTURES_PER_SPECIES} pictures of each …")
    labels = dict(_draw_all(species, out / PICTURES))
    tell(f"A toy CLIP classifies {len(labels)} pictures, by the class names and by the descriptors …")
    classifier = Classifier(out / STORE, clip=out / MODELS / "clip", baseline=True)
    predictions = [_read(result) for result in classifier.stream(labels)]
    return DemoResult(
        descriptors=descriptors,
        images=len(predictions),
        accuracy_descriptors=_share(one.label == labels[Path(one.image)] for one in predictions),
        accuracy_name=_share(
            one.baseline is not None and one.baseline.name == labels[Path(one.image)] for one in predictions
        ),
        descriptor_recall=_recall(species, descriptors),
        seconds=time.perf_counter() - began,
        store=out / STORE,
        images_dir=out / PICTURES,
        shown=_read(next(classifier.stream([predictions[0].image], explain=True))),
    )


def _claim(out: Path) -> None:
    """Make the folder, or accept one in which nothing but a demo's files lie."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strange = sorted(path.name for path in out.iterdir() if path.name not in OURS)
    except OSError as error:
        raise FieldmarksError(
            f"{out} cannot be the demo's folder: {error.strerror}: name another with --out"
        ) from error
    if strange:
        raise FieldmarksError(
            f"{out} holds {strange[0]!r}, which is not the demo's: name another folder with --out"
        )


def _lay_out(out: Path, names: list[str]) -> None:
    """Put the class list and the models where they are not there yet."""
    if not (out / CLASSES).exists():
        (out / CLASSES).write_text("\n".join(names) + "\n", encoding="utf-8")
    for name, folder in (("clip", clip_folder()), ("lm", lm_folder())):
        target = out / MODELS / name
        if not target.exists():
            partial = target.with_name(
                f"{name}.partial"
            )  # so that a model stopped half way is not taken for whole
            shutil.copytree(folder, partial, dirs_exist_ok=True)
            partial.rename(target)


def _describe(names: list[str], path: Path) -> dict[str, tuple[str, ...]]:
    """Generate what the store lacks; return each class's descriptors in force."""
    store = Store(path, create=True)
    summary = generate(
        names,
        store,
        Prompt.load("article"),
        LocalCompleter(path.parent / MODELS / "lm"),
        Params(max_tokens=120),
    )
    if summary.signal is not None:
        signal.raise_signal(summary.signal)  # now that what was answered is kept
    if summary.failed:
        name, reason = next(iter(summary.failed.items()))
        raise GenerationError(f"{len(summary.failed)} species have no descriptors, {name!r} first: {reason}")
    return {entry.name: entry.descriptors for name in names if (entry := store.get(name))}


def _draw_all(species: Mapping[str, Creature], folder: Path) -> Iterator[tuple[Path, str]]:
    """Draw what is not there yet; yield each picture's path with its species."""
    for name, creature in species.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(PICTURES_PER_SPECIES):
            path = folder / name / f"{number:02}.png"
            if not path.exists():
                draw(creature, random.Random(f"demo {name} {number}")).save(path)
            yield path, name


def _recall(species: Mapping[str, Creature], descriptors: Mapping[str, tuple[str, ...]]) -> float:
    """Return the share of the species' true traits that their descriptors name."""
    said = {name: {trait_of(one) for one in found} for name, found in descriptors.items()}
    return _share(
        trait in said.get(name, set()) for name, creature in species.items() for trait in creature.traits()
    )


def _read(result: Prediction | Failure) -> Prediction:
    if isinstance(result, Failure):
        raise ImageError(f"{result.image}: {result.error}: remove it, and the demo draws it again")
    return result


def _share(hits: Iterator[bool]) -> float:
    counted = list(hits)
    return sum(counted) / len(counted)
