"""Run the whole pipeline offline: describe, store, classify, show the marks.

The code is the same as for real models and photos; only the class names, the drawings and the two toy models
are the demo's own.
"""

import logging
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import Creature, clip_folder, demo_species, lm_folder, trait_of
from fieldmarks.errors import FieldmarksError, GenerationError, ImageError
from fieldmarks.generation.generate import generate
from fieldmarks.report import cards, document, result_page
from fieldmarks.store import Store

IMAGES_PER_SPECIES: Final = 20
STORE: Final = "demo.jsonl"
CLASSES: Final = "classes.txt"
IMAGES: Final = "pictures"
MODELS: Final = "models"  # copies, so that every command can be tried on ordinary folders
PAGE: Final = "result.html"
OURS: Final = {STORE, f".{STORE}.lock", CLASSES, IMAGES, MODELS, PAGE}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The figures of a run and the files it wrote; accuracies and recall are from 0 to 1."""

    descriptors: Mapping[str, tuple[str, ...]]
    images: int
    accuracy_descriptors: float
    accuracy_name: float
    descriptor_recall: float
    seconds: float
    store: Path
    images_dir: Path
    page: Path  # every image with its marks
    shown: Prediction  # of one image, with its marks

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
            "page": str(self.page),
        }


def run_demo(out: Path) -> DemoResult:
    """Run both stages in the folder `out`, a new one or that of an earlier run.

    Classes that the folder's store already answers are not asked again, and edits to it are used. Raises
    FieldmarksError for a folder that holds anything else.
    """
    began = time.perf_counter()
    _claim(out)
    species = demo_species()
    document.check(out / PAGE)
    _lay_out(out, list(species))
    logger.info("A toy language model describes %d invented species …", len(species))
    descriptors = _describe(list(species), out / STORE)
    logger.info("Drawing %d images of each …", IMAGES_PER_SPECIES)
    labels = dict(_draw_all(species, out / IMAGES))
    logger.info("A toy CLIP classifies the %d images, by class name and by descriptors …", len(labels))
    classifier = Classifier(out / STORE, clip=out / MODELS / "clip", baseline=True)
    results = classifier.stream(
        labels, top=cards.CLASSES_SHOWN, explain=True, thumbnails=result_page.MAX_IMAGES
    )
    predictions = [_read(result) for result in results]
    _write_page(classifier, predictions, out / PAGE)
    return DemoResult(
        descriptors=descriptors,
        images=len(predictions),
        accuracy_descriptors=_share(
            prediction.label == labels[Path(prediction.image)] for prediction in predictions
        ),
        accuracy_name=_share(
            prediction.baseline is not None and prediction.baseline.name == labels[Path(prediction.image)]
            for prediction in predictions
        ),
        descriptor_recall=_recall(species, descriptors),
        seconds=time.perf_counter() - began,
        store=out / STORE,
        images_dir=out / IMAGES,
        page=out / PAGE,
        shown=_telling(predictions, labels),
    )


def _claim(out: Path) -> None:
    """Create the folder, or accept one that holds only a demo's files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strange = sorted(path.name for path in out.iterdir() if path.name not in OURS)
    except OSError as error:
        raise FieldmarksError(
            f"{out} cannot be used as the demo's folder: {error.strerror}: pass another with --out"
        ) from error
    if strange:
        raise FieldmarksError(
            f"{out} holds {strange[0]!r}, which the demo did not write: pass another folder with --out"
        )


def _lay_out(out: Path, names: list[str]) -> None:
    """Write the class list and copy the models, unless they are there already."""
    if not (out / CLASSES).exists():
        (out / CLASSES).write_text("\n".join(names) + "\n", encoding="utf-8")
    for name, folder in (("clip", clip_folder()), ("lm", lm_folder())):
        target = out / MODELS / name
        if not target.exists():
            partial = target.with_name(f"{name}.partial")  # so that half a copy is not taken for a model
            shutil.copytree(folder, partial, dirs_exist_ok=True)
            partial.rename(target)


def _describe(names: list[str], path: Path) -> dict[str, tuple[str, ...]]:
    """Generate the descriptors that the store lacks; return each class's current ones."""
    store = Store(path, create=True)
    summary = generate(names, store, local=path.parent / MODELS / "lm", max_tokens=120)
    if summary.signal is not None:
        signal.raise_signal(summary.signal)  # now that all answers are saved
    if summary.failed:
        name, reason = next(iter(summary.failed.items()))
        raise GenerationError(
            f"{len(summary.failed)} species have no descriptors, such as {name!r}: {reason}"
        )
    return {entry.name: entry.descriptors for name in names if (entry := store.get(name))}


def _draw_all(species: Mapping[str, Creature], folder: Path) -> Iterator[tuple[Path, str]]:
    """Draw the images that do not exist yet; yield each image's path with its species."""
    for name, creature in species.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(IMAGES_PER_SPECIES):
            path = folder / name / f"{number:02}.png"
            if not path.exists():
                draw(creature, random.Random(f"demo {name} {number}")).save(path)
            yield path, name


def _write_page(classifier: Classifier, predictions: Sequence[Prediction], path: Path) -> None:
    facts = result_page.provenance(classifier.head.metadata, STORE)
    result = result_page.ResultPage(classifier.classes, facts)
    for prediction in predictions:
        result.add(prediction)
    result.write(path)


def _telling(predictions: Sequence[Prediction], labels: Mapping[Path, str]) -> Prediction:
    """Return a prediction that is correct although the name alone is wrong, else the first."""
    for prediction in predictions:
        label = labels[Path(prediction.image)]
        if prediction.label == label and prediction.baseline and prediction.baseline.name != label:
            return prediction
    return predictions[0]


def _recall(species: Mapping[str, Creature], descriptors: Mapping[str, tuple[str, ...]]) -> float:
    """Return the share of the species' true traits that their descriptors name."""
    named = {name: {trait_of(descriptor) for descriptor in own} for name, own in descriptors.items()}
    return _share(
        trait in named.get(name, set()) for name, creature in species.items() for trait in creature.traits()
    )


def _read(result: Prediction | Failure) -> Prediction:
    if isinstance(result, Failure):
        raise ImageError(f"{result.image}: {result.error}: remove it, and the demo will draw it again")
    return result


def _share(hits: Iterator[bool]) -> float:
    values = list(hits)
    return sum(values) / len(values)
