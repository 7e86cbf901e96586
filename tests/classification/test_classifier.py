"""The classifier against the article's and the paper's own computations, and what it promises beside."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from fieldmarks.choices import Aggregation, Preset, words
from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.results import Failure, Prediction
from fieldmarks.errors import ImageError, StoreError, UsageError
from fieldmarks.records import Entry
from fieldmarks.store import Store

Classes = dict[str, list[str]]


class Seeds:
    """The computations of the article and the paper, written straight on transformers' CLIPModel."""

    def __init__(self, folder: Path) -> None:
        self.model = CLIPModel.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]

    def states(self, texts: list[str]) -> Tensor:
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        pooled: Tensor = self.model.text_model(**inputs).pooler_output
        return pooled

    def images(self, paths: list[Path]) -> Tensor:
        pictures = [Image.open(path).convert("RGB") for path in paths]
        pixels = self.processor(images=pictures, return_tensors="pt")
        embedded = self.model.visual_projection(self.model.vision_model(**pixels).pooler_output)
        unit: Tensor = embedded / embedded.norm(dim=-1, keepdim=True)
        return unit

    @torch.no_grad()
    def article(self, classes: Classes, paths: list[Path]) -> Tensor:
        """Mean of the pooled states, then the projection, unit length, times exp(logit_scale), softmax."""
        rows = [self.model.text_projection(self.states(own).mean(dim=0)) for own in classes.values()]
        weights = torch.stack([row / row.norm() for row in rows])
        return (self.model.logit_scale.exp() * self.images(paths) @ weights.T).softmax(dim=-1)

    @torch.no_grad()
    def scores(self, descriptors: list[str], path: Path) -> Tensor:
        """S(descriptor), the un-normalised score of each descriptor on one picture."""
        rows = self.model.text_projection(self.states(descriptors))
        unit = rows / rows.norm(dim=-1, keepdim=True)
        scores: Tensor = self.model.logit_scale.exp() * (self.images([path]) @ unit.T)[0]
        return scores

    @torch.no_grad()
    def paper(self, texts: list[list[str]], paths: list[Path]) -> Tensor:
        """The mean over a class's descriptors of the cosines, scaled, softmax."""
        images = self.images(paths)
        columns = []
        for own in texts:
            rows = self.model.text_projection(self.states(own))
            columns.append((images @ (rows / rows.norm(dim=-1, keepdim=True)).T).mean(dim=1))
        return (self.model.logit_scale.exp() * torch.stack(columns, dim=1)).softmax(dim=-1)

    @torch.no_grad()
    def plain(self, classes: Classes, paths: list[Path]) -> Tensor:
        """The baseline by CLIPModel.forward."""
        texts = self.tokenizer(
            [f"a photo of a {name}" for name in classes], padding=True, return_tensors="pt"
        )
        pixels = self.processor(
            images=[Image.open(path).convert("RGB") for path in paths], return_tensors="pt"
        )
        logits: Tensor = self.model(**texts, **pixels).logits_per_image
        return logits.softmax(dim=-1)


@pytest.fixture
def seeds(clip: Path) -> Seeds:
    """The seeds' computations on the same model."""
    return Seeds(clip)


def _probabilities(predictions: list[Prediction], names: list[str]) -> Tensor:
    rows = [{score.name: score.probability for score in prediction.scores} for prediction in predictions]
    return torch.tensor([[row[name] for name in names] for row in rows])


def _exact(clip: Path) -> Encoder:
    """A model in float32, on machines that would halve it too."""
    return Encoder(clip, device="cpu", dtype="float32")


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_preset_article_is_the_articles_computation(
    clip: Path, seeds: Seeds, classes: Classes, pictures: list[Path]
) -> None:
    classifier = Classifier(classes, clip=_exact(clip))
    ours = _probabilities(classifier.predict(pictures), list(classes))
    _close(ours, seeds.article(classes, pictures))


@pytest.mark.slow
def test_marks_are_the_articles_scores(
    clip: Path, seeds: Seeds, classes: Classes, pictures: list[Path]
) -> None:
    classifier = Classifier(classes, clip=_exact(clip))
    for path in pictures:
        explanation = classifier.explain(path)
        for side in (explanation.predicted, explanation.runner_up):
            assert sorted(mark.descriptor for mark in side) == sorted(classes[side[0].name])
            theirs = seeds.scores([mark.descriptor for mark in side], path)
            ours = torch.tensor([mark.logit for mark in side])
            _close(ours, theirs)
            assert list(theirs) == sorted(theirs, reverse=True)


@pytest.mark.slow
def test_preset_paper_is_the_papers_formula(
    clip: Path, seeds: Seeds, classes: Classes, pictures: list[Path]
) -> None:
    ours = Classifier(classes, clip=_exact(clip), preset="paper").predict(pictures)
    texts = [
        [
            "tree frog, which has protruding eyes",
            "tree frog, which is a wide mouth",
            "tree frog, which has sticky toe pads",
        ],
        ["owl, which has big eyes", "owl, which is a hooked beak"],
        ["newt, which is a long tail"],
    ]
    _close(_probabilities(ours, list(classes)), seeds.paper(texts, pictures))


@pytest.mark.slow
def test_the_plain_baseline_is_the_models_forward(
    clip: Path, seeds: Seeds, classes: Classes, pictures: list[Path]
) -> None:
    theirs = seeds.plain(classes, pictures)
    names = Classifier(list(classes), clip=_exact(clip))
    _close(_probabilities(names.predict(pictures), list(classes)), theirs)
    beside = Classifier(classes, clip=_exact(clip), baseline=True).predict(pictures)
    for prediction, row in zip(beside, theirs, strict=True):
        assert prediction.baseline is not None
        assert prediction.baseline.name == list(classes)[int(row.argmax())]
        assert prediction.baseline.probability == pytest.approx(row.max().item(), abs=1e-4)


@pytest.mark.slow
def test_one_descriptor_a_class_makes_all_aggregations_agree(clip: Path, pictures: list[Path]) -> None:
    classes = {"frog": ["big eyes"], "newt": ["a long tail"]}
    encoder = Encoder(clip)
    first, *others = (
        Classifier(classes, clip=encoder, aggregate=word).predict(pictures) for word in words(Aggregation)
    )
    for other in others:
        _close(_probabilities(other, list(classes)), _probabilities(first, list(classes)))


@pytest.mark.slow
def test_a_store_and_its_descriptors_are_the_same(
    tiny_clip: Path, classes: Classes, pictures: list[Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store.jsonl", create=True)
    store.append(*(Entry(name=name, descriptors=tuple(own)) for name, own in classes.items()))
    expected = Classifier(classes, clip=_exact(tiny_clip)).predict(pictures)
    for given in (store, store.path, str(store.path)):
        classifier = Classifier(given, clip=_exact(tiny_clip))
        assert [prediction.to_dict() for prediction in classifier.predict(pictures)] == [
            prediction.to_dict() for prediction in expected
        ]
    assert len(classifier.head.metadata["store_sha256"]) == 64


@pytest.mark.slow
def test_a_class_without_descriptors_is_read_by_its_name(tiny_clip: Path, pictures: list[Path]) -> None:
    empty = Classifier({"owl": [], "newt": []}, clip=_exact(tiny_clip)).predict(pictures)
    names = Classifier(["owl", "newt"], clip=_exact(tiny_clip)).predict(pictures)
    assert [prediction.to_dict() for prediction in empty] == [prediction.to_dict() for prediction in names]


def test_an_empty_store(tiny_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(StoreError, match="no class to choose from"):
        Classifier(tmp_path / "empty.jsonl", clip=_exact(tiny_clip))


@pytest.mark.slow
def test_every_kind_of_picture(tiny_clip: Path, classes: Classes, pictures: list[Path]) -> None:
    path = pictures[0]
    image = Image.open(path)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    classifier = Classifier(classes, clip=_exact(tiny_clip))
    given = classifier.predict([path, str(path), image, array, tensor])
    assert [prediction.image for prediction in given] == [
        str(path),
        str(path),
        "image 3",
        "image 4",
        "image 5",
    ]
    assert len({prediction.scores for prediction in given}) == 1


@pytest.mark.slow
def test_a_stream_goes_on_where_predict_raises(
    tiny_clip: Path, classes: Classes, pictures: list[Path]
) -> None:
    classifier = Classifier(classes, clip=_exact(tiny_clip))
    mixed = [pictures[0], "none.png", pictures[1], 7]
    results = list(classifier.stream(mixed))  # type: ignore[arg-type]
    assert [type(result) for result in results] == [Prediction, Failure, Prediction, Failure]
    assert results[1] == Failure("none.png", "cannot be read: No such file or directory")
    assert results[3] == Failure("image 4", "expected a path, PIL image, array or tensor, found int")
    with pytest.raises(ImageError, match=r"^none\.png: cannot be read: No such file or directory$"):
        classifier.predict(mixed)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_order_and_the_batch_do_not_matter(
    tiny_clip: Path, classes: Classes, pictures: list[Path]
) -> None:
    classifier = Classifier(classes, clip=_exact(tiny_clip))
    together = classifier.predict(pictures * 15)  # more than a batch and a window
    assert [prediction.image for prediction in together] == [str(path) for path in pictures * 15]
    alone = [classifier.predict([path])[0] for path in pictures]
    for prediction, other in zip(together, alone * 15, strict=True):
        assert prediction.label == other.label
        assert prediction.scores[0].probability == pytest.approx(other.scores[0].probability, abs=1e-5)


@pytest.mark.slow
def test_arrays_and_tables_of_predictions(tiny_clip: Path, classes: Classes, pictures: list[Path]) -> None:
    predictions = Classifier(classes, clip=_exact(tiny_clip)).predict(pictures)
    assert predictions.class_id.dtype == np.int64
    assert [list(classes)[index] for index in predictions.class_id] == [
        prediction.label for prediction in predictions
    ]
    assert predictions.confidence.tolist() == pytest.approx(
        [prediction.scores[0].probability for prediction in predictions]
    )
    pytest.importorskip("pandas")
    table = predictions.to_pandas()
    assert list(table.columns) == ["image", "label", "probability", "logit", "labels", "reason"]
    assert table["label"].tolist() == [prediction.label for prediction in predictions]


@pytest.mark.slow
def test_what_a_prediction_shows(tiny_clip: Path, classes: Classes, pictures: list[Path]) -> None:
    classifier = Classifier(classes, clip=_exact(tiny_clip))
    (first,) = classifier.predict(pictures[:1])
    assert [score.probability for score in first.scores] == sorted(
        (score.probability for score in first.scores), reverse=True
    )
    assert classifier.predict(pictures[:1], top=2)[0].scores == first.scores[:2]
    embedded = list(classifier.embedder.images(pictures[:1]))
    above = first.scores[0].probability + 1e-6
    (unsure,) = classifier.score(embedded, min_probability=above)
    assert isinstance(unsure, Prediction)
    assert (unsure.label, unsure.scores) == (None, first.scores)


@pytest.mark.slow
def test_the_marks_are_the_same_however_few_classes_are_shown(
    demo_clip: Path, classes: Classes, pictures: list[Path]
) -> None:
    classifier = Classifier(classes, clip=_exact(demo_clip))
    whole, short = (list(classifier.stream(pictures, top=top, explain=True)) for top in (None, 1))
    for prediction, other in zip(whole, short, strict=True):
        assert isinstance(prediction, Prediction)
        assert isinstance(other, Prediction)
        assert other.scores == prediction.scores[:1]
        assert other.explanation == prediction.explanation


@pytest.mark.slow
def test_what_decided_is_a_pair_of_like_marks(demo_clip: Path, pictures: list[Path]) -> None:
    classes = {
        "ulb": ["chequered skin", "three thin legs on each side"],
        "vok": ["six thin legs", "dark round spots"],
    }
    pairs = {("chequered skin", "dark round spots"), ("three thin legs on each side", "six thin legs")}
    pairs |= {(other, pair) for pair, other in pairs}
    classifier = Classifier(classes, clip=_exact(demo_clip))
    for path in pictures:
        explanation = classifier.explain(path)
        own = {mark.descriptor: mark.logit for mark in explanation.predicted}
        against = {mark.descriptor: mark.logit for mark in explanation.runner_up}
        leads = {
            (mark, other): own[mark] - against[other]
            for mark, other in pairs
            if mark in own and other in against
        }
        assert explanation.decided is not None
        assert tuple(mark.descriptor for mark in explanation.decided) == max(leads, key=leads.__getitem__)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["article", "paper"])
def test_a_descriptor_of_both_classes_decides_nothing(
    demo_clip: Path, pictures: list[Path], preset: Preset
) -> None:
    shared = {"ulb": ["a green body"], "vok": ["A green  body."]}
    own = {"ulb": "three thin legs on each side", "vok": "dark round spots"}
    clip = _exact(demo_clip)
    mixed = Classifier({name: [*shared[name], own[name]] for name in own}, clip=clip, preset=preset)
    same = Classifier(shared, clip=clip, preset=preset)
    pairs = set()
    for path in pictures:
        assert same.explain(path).decided is None
        if decided := mixed.explain(path).decided:
            pairs.add(frozenset(mark.descriptor for mark in decided))
    assert pairs == {frozenset(own.values())}


@pytest.mark.slow
def test_a_single_class_has_no_runner_up(tiny_clip: Path, pictures: list[Path]) -> None:
    explanation = Classifier({"owl": ["big eyes"]}, clip=_exact(tiny_clip)).explain(pictures[0])
    assert (len(explanation.predicted), explanation.runner_up, explanation.decided) == (1, (), None)


@pytest.mark.slow
def test_relative_marks_have_mean_0_over_the_pictures(
    tiny_clip: Path, classes: Classes, pictures: list[Path]
) -> None:
    two = {name: classes[name] for name in ("tree frog", "owl")}  # so that all marks are always shown
    classifier = Classifier(two, clip=_exact(tiny_clip))
    rows = list(classifier.embedder.images([*pictures, "none.png"]))
    scored = classifier.score(rows, explain=True, statistics=classifier.statistics(rows))
    results = [result for result in scored if isinstance(result, Prediction)]
    assert len(results) == len(pictures)
    sums: dict[str, float] = {}
    for prediction in results:
        assert prediction.explanation is not None
        for mark in (*prediction.explanation.predicted, *prediction.explanation.runner_up):
            assert mark.z is not None
            sums[mark.descriptor] = sums.get(mark.descriptor, 0) + mark.z
    assert list(sums.values()) == pytest.approx([0] * 5, abs=1e-3)
    assert all(math.isfinite(value) for value in sums.values())


def test_class_names_alone_and_a_catch_all(tiny_clip: Path, pictures: list[Path]) -> None:
    encoder = _exact(tiny_clip)
    plain = Classifier(["owl", "newt"], clip=encoder).predict(pictures)
    nothing = Classifier(["owl", "newt"], none=["a wall", "fog"], clip=encoder)
    assert nothing.classes == ("owl", "newt", "(none of these)")
    for before, prediction in zip(plain, nothing.predict(pictures, explain_top=3), strict=True):
        best = prediction.scores[0].name
        assert prediction.label == (None if best == "(none of these)" else best)
        assert prediction.shown_label == best
        logits = {score.name: score.logit for score in prediction.scores}
        assert {
            score.name: pytest.approx(score.logit, abs=1e-4) for score in before.scores
        }.items() <= logits.items()
        assert prediction.explanation is not None
        marks = {
            marks[0].name: [mark.descriptor for mark in marks] for marks in prediction.explanation.by_class
        }
        assert list(marks) == [score.name for score in prediction.scores]
        assert sorted(marks["(none of these)"]) == ["a wall", "fog"]
        assert marks["owl"] == ["a photo of a owl"]
    unsure = nothing.predict(pictures[0], min_probability=1.0)
    assert (unsure.label, unsure.abstained is None) == (None, False)


def test_the_baseline_of_a_catch_all_is_its_texts(tiny_clip: Path, pictures: list[Path]) -> None:
    classes: Classes = {"owl": ["big eyes"], "newt": ["a long tail"]}
    beside = Classifier(classes, none="a wall", baseline=True, clip=_exact(tiny_clip)).predict(pictures)
    names = Classifier(["owl", "newt"], none="a wall", clip=_exact(tiny_clip)).predict(pictures)
    for prediction, by_name in zip(beside, names, strict=True):
        assert prediction.baseline is not None
        assert prediction.baseline.name == by_name.scores[0].name
        assert prediction.baseline.probability == pytest.approx(by_name.scores[0].probability, abs=1e-4)


@pytest.mark.parametrize("options", [{"explain_top": 0}, {"top": 0}, {"min_probability": 2.0}])
def test_options_of_predict_are_checked(
    tiny_clip: Path, pictures: list[Path], options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Classifier(["owl"], clip=_exact(tiny_clip)).predict(pictures[0], **options)
