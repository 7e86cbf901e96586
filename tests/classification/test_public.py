"""The classifier as people meet it in Python: what it takes, what it refuses, what its results become."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from tests.kit import logged

import fieldmarks as fm
from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.results import Explanation, Predictions, Score
from fieldmarks.errors import ImageError, UsageError

Classes = dict[str, list[str]]


@pytest.fixture
def classifier(tiny_clip: Path, classes: Classes) -> fm.Classifier:
    """A classifier by torch in float32."""
    return fm.Classifier(classes, clip=tiny_clip, dtype="float32", engine="torch")


def test_a_path_is_one_prediction_and_a_list_or_folder_a_list(
    classifier: fm.Classifier, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures[0].parent)
    prediction = classifier.predict(pictures[0])
    assert isinstance(prediction, fm.Prediction)
    assert classifier.predict(str(pictures[0])) == prediction
    assert classifier.predict(Image.open(pictures[0])).scores == prediction.scores
    assert classifier.predict(np.asarray(Image.open(pictures[0]))).scores == prediction.scores
    for several in ([pictures[0]], pictures[0].parent, "picture-0*", [str(pictures[0].parent)]):
        results = classifier.predict(several)
        assert isinstance(results, Predictions)
        assert (results[0].image[-9:], results[0].label) == (prediction.image[-9:], prediction.label)
        assert results[0].scores[0].logit == pytest.approx(prediction.scores[0].logit, abs=1e-4)
    assert len(list(classifier.predict(pictures[0].parent))) == len(pictures)  # type: ignore[call-overload]
    assert classifier.predict([]) == []
    with pytest.raises(ImageError, match=r"^none\.png: cannot be read: No such file"):
        classifier.predict("none.png")


def test_what_a_folder_holds_besides_is_logged(classifier: fm.Classifier, pictures: list[Path]) -> None:
    (pictures[0].parent / "notes.txt").write_text("text")
    with logged() as messages:
        classifier.predict(pictures[0].parent)
    assert messages == [f"{pictures[0].parent}: 5 images; left out: 1 .txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agregate": "mean-embedding"}, "unknown option 'agregate' .did you mean 'aggregate'."),
        ({"aggregate": "mean"}, "aggregate: expected mean-embedding, .* found 'mean'"),
        ({"preset": "papr"}, "preset: expected article or paper, found 'papr' .did you mean 'paper'."),
        ({"device": "gpu"}, "device: expected auto, cpu, cuda, cuda:N or mps, found 'gpu'"),
        ({"dtype": "float23"}, "dtype: expected .* found 'float23' .did you mean 'float32'."),
        ({"engine": "onnx"}, "engine: expected auto, torch or openvino, found 'onnx'"),
        ({"batch": 0}, "batch: expected 1 to 4096, found 0"),
        ({"concept": "pet"}, "concept has no effect: the text '{descriptor}' does not contain {concept}"),
        ({"concept": "pet", "text": "a {class}"}, "concept has no effect"),
    ],
)
def test_options_that_cannot_be_used(
    tiny_clip: Path, classes: Classes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fm.Classifier(classes, clip=tiny_clip, **options)


def test_options_without_effect_on_an_encoder_made_before(tiny_clip: Path, classes: Classes) -> None:
    encoder = Encoder(tiny_clip, device="cpu", engine="torch")
    with pytest.raises(UsageError, match="dtype has no effect: clip is an Encoder that has its own"):
        fm.Classifier(classes, clip=encoder, dtype="float32")
    with pytest.raises(UsageError, match="batch has no effect: clip is an Embedder that has its own"):
        fm.Classifier(classes, clip=Embedder(encoder), batch=3)
    fm.Classifier(classes, clip=encoder, batch=3)


@pytest.mark.parametrize("options", [{"top": 0}, {"min_probability": 2.0}, {"tops": 3}])
def test_arguments_of_predict_are_checked(
    classifier: fm.Classifier, pictures: list[Path], options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        classifier.predict(pictures[0], **options)


def test_results_become_plain_data_and_come_back(classifier: fm.Classifier, pictures: list[Path]) -> None:
    for prediction in classifier.predict(pictures, explain=True):
        again = fm.Prediction.from_dict(prediction.to_dict())
        assert again.to_dict() == prediction.to_dict()
        assert again.explanation == prediction.explanation
        assert (again.image, again.label, again.scores) == (
            prediction.image,
            prediction.label,
            prediction.scores,
        )
    marks = (fm.Mark("owl", "beak", 2.0, 0.5), fm.Mark("newt", "tail", 1.0, -0.5))
    whole = Explanation(marks[:1], marks[1:], (marks[0], marks[1]))
    baseline = Score("newt", 0.5, 1.0)
    prediction = fm.Prediction("a.png", None, (Score("owl", 0.5, 1.0),), baseline, whole)
    assert fm.Prediction.from_dict(prediction.to_dict()) == prediction


def test_results_in_a_notebook_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    explanation = Explanation((fm.Mark(evil, evil, 1.0),), (), None)
    prediction = fm.Prediction(evil, evil, (Score(evil, 0.75, 1.0),), None, explanation)
    for html in (prediction._repr_html_(), Predictions([prediction], (evil,))._repr_html_()):
        assert "<script>" not in html
        assert "&lt;script&gt;" in html
        assert "75.0%" in html
    assert repr(prediction) == f"<Prediction {evil!r}: {evil!r} 75.0%>"
    unsure = fm.Prediction("a.png", None, (Score("owl", 0.5, 1.0),))
    assert repr(unsure) == "<Prediction 'a.png': 'owl' 50.0% (unsure)>"


def test_a_prediction_as_a_table(classifier: fm.Classifier, pictures: list[Path]) -> None:
    pytest.importorskip("pandas")
    prediction = classifier.predict(pictures[0])
    table = prediction.to_pandas()
    assert list(table.columns) == ["class", "probability", "logit"]
    assert table["class"].tolist() == [score.name for score in prediction.scores]


def test_its_repr_says_what_it_is(classifier: fm.Classifier, tiny_clip: Path) -> None:
    assert repr(classifier) == f"<Classifier of 3 classes, 6 texts, mean-embedding, {tiny_clip}>"


def _same_from_eight_threads(make: Callable[[], fm.Classifier], pictures: list[Path]) -> None:
    """Use a classifier that has not loaded what embeds images from eight threads at once."""
    expected = make().predict(pictures)
    classifier = make()
    with ThreadPoolExecutor(8) as pool:
        every = list(pool.map(lambda _: classifier.predict(pictures), range(16)))
    for predictions in every:
        assert [prediction.label for prediction in predictions] == [item.label for item in expected]
        for prediction, reference in zip(predictions, expected, strict=True):
            assert [score.logit for score in prediction.scores] == pytest.approx(
                [score.logit for score in reference.scores], abs=1e-4
            )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_many_threads_use_one_classifier(
    tiny_clip: Path, classes: Classes, pictures: list[Path], tmp_path: Path, engine: Any
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    options: dict[str, Any] = {"dtype": "float32", "engine": engine, "device": "cpu"}
    _same_from_eight_threads(lambda: fm.Classifier(classes, clip=tiny_clip, **options), pictures)
    fm.Classifier(classes, clip=tiny_clip, **options).save(tmp_path / "frogs.safetensors")
    _same_from_eight_threads(lambda: fm.Classifier.load(tmp_path / "frogs.safetensors", **options), pictures)


def test_many_threads_make_classifiers_of_one_encoder(tiny_clip: Path, classes: Classes) -> None:
    encoder = Encoder(tiny_clip, device="cpu", dtype="float32", engine="torch")
    with ThreadPoolExecutor(8) as pool:
        heads = list(pool.map(lambda _: fm.Classifier(classes, clip=encoder).head, range(16)))
    for head in heads[1:]:
        assert_allclose(head.embeddings, heads[0].embeddings, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_encoders_and_classifiers_can_be_pickled(
    tiny_clip: Path, classes: Classes, pictures: list[Path], engine: Any
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    encoder = Encoder(tiny_clip, device="cpu", dtype="float32", engine=engine)
    images = [encoder.prepare(Image.open(path).convert("RGB")) for path in pictures]
    vectors = encoder.encode_images(images)
    assert vectors.shape == (len(images), 16)
    again = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(again.encode_images(images), vectors)
    classifier = fm.Classifier(classes, clip=Embedder(encoder))
    expected = classifier.predict(pictures)
    predictions = pickle.loads(pickle.dumps(classifier)).predict(pictures)
    assert [prediction.to_dict() for prediction in predictions] == [item.to_dict() for item in expected]


def test_embed_makes_a_set_that_is_classified(
    classifier: fm.Classifier, tiny_clip: Path, pictures: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    options: dict[str, Any] = {"clip": tiny_clip, "dtype": "float32", "engine": "torch"}
    with logged() as messages:
        embeddings = fm.embed([*pictures, "none.png"], tmp_path / "out", **options)
    assert messages == ["none.png: cannot be read: No such file or directory"]
    assert embeddings.vectors.shape == (len(pictures), 16)
    assert embeddings.images == [str(path) for path in pictures]
    assert embeddings.model == str(tiny_clip)
    scored = [result for result in classifier.score(embeddings) if isinstance(result, fm.Prediction)]
    expected = classifier.predict(pictures)
    assert [prediction.label for prediction in scored] == [item.label for item in expected]
    again = fm.embed(pictures, tmp_path / "out", **options)  # which adds nothing
    assert again.images == embeddings.images
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ImageError, match="already exists and is not empty; choose a new folder"):
        fm.embed(pictures, tmp_path / "mine", **options)
    with pytest.raises(UsageError, match="did you mean 'device'"):
        fm.embed(pictures, tmp_path / "other", devise="cpu")  # type: ignore[call-arg]


def test_a_model_is_recorded_by_its_absolute_path(
    tiny_clip: Path, classes: Classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_clip.parent)
    fm.Classifier(classes, clip=tiny_clip.name, engine="torch").save(tmp_path / "frogs.safetensors")
    monkeypatch.chdir(tmp_path)
    again = fm.Classifier.load("frogs.safetensors", engine="torch")
    assert again.head.metadata["model"] == str(tiny_clip)
    assert again.embedder.encoder.logit_scale > 0
    assert len(again.head.metadata["fingerprint"]) == 64
    assert again.head.metadata["created"].endswith("+00:00")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_eight_threads_get_800_equal_results(demo_clip: Path, tmp_path: Path, engine: Any) -> None:
    """Every call decodes, embeds and scores anew, as there is no cache."""
    pytest.importorskip("openvino" if engine == "openvino" else "torch")
    pictures = [
        Image.effect_mandelbrot((70, 60), (-2, -1.5, n / 9, 1.5), 50).convert("RGB") for n in range(8)
    ]
    options: dict[str, Any] = {"dtype": "float32", "engine": engine, "device": "cpu", "cache": False}
    fm.Classifier({"a": ["fur", "big eyes"], "b": ["a long tail"]}, clip=demo_clip, **options).save(
        tmp_path / "demo.safetensors"
    )
    classifier = fm.Classifier.load(tmp_path / "demo.safetensors", **options)
    expected = [classifier.predict(picture).to_dict() for picture in pictures]

    def equal(thread: int) -> int:
        numbers = [(thread + call) % len(pictures) for call in range(100)]
        return sum(classifier.predict(pictures[n]).to_dict() == expected[n] for n in numbers)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(equal, range(8))) == 800


_RACE = """
import sys, threading
sys.setswitchinterval(1e-5)
from PIL import Image
from fieldmarks.classification.embedder import Encoder
encoder = Encoder(sys.argv[1], device="cpu", dtype="float32", engine=sys.argv[2])
picture, errors = Image.new("RGB", (80, 60), "red"), []
def tried(work):
    try: work()
    except BaseException as error: errors.append(repr(error))
work = [lambda: encoder.prepare(picture)] * 8 + [lambda: encoder.encode_texts(["fur"])]
threads = [threading.Thread(target=tried, args=(part,)) for part in work]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(errors)
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_threads_that_load_at_once_do_not_race(demo_clip: Path, engine: str) -> None:
    """transformers imports its parts when they are first used, which two threads must not do at once."""
    pytest.importorskip("openvino" if engine == "openvino" else "torch")
    command = [sys.executable, "-c", _RACE, str(demo_clip), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
