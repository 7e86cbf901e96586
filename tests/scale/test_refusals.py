"""Workers that differ: each says so in the place of what it was to do, and its row ends the command."""

from dataclasses import replace
from pathlib import Path

import pytest

from fieldmarks import __version__
from fieldmarks.classification.embedder import Encoder
from fieldmarks.scale import cluster
from fieldmarks.scale.blocks import Block
from fieldmarks.scale.passes import Preprocessing, decoded, encoded, is_refusal, to_row

pytest.importorskip("ray")
arrow = pytest.importorskip("pyarrow")


@pytest.fixture
def spec(demo_clip: Path) -> cluster.EncoderSpec:
    provenance = Encoder(str(demo_clip), dtype="float32", engine="torch").provenance
    return cluster.EncoderSpec(str(demo_clip), "cpu", "float32", "torch", provenance)


@pytest.mark.parametrize(
    ("change", "version", "says"),
    [
        ({}, "0.0.1", f"it has fieldmarks {__version__}, not 0.0.1: install the same version"),
        ({"model": "/no/model"}, __version__, "/no/model"),
        ({"provenance": {"fingerprint": "other"}}, __version__, "it embeds differently from the first one"),
    ],
)
def test_an_actor_that_differs_answers_with_a_refusal(
    spec: cluster.EncoderSpec, change: dict[str, object], version: str, says: str
) -> None:
    actor = cluster.EncodingActor(replace(spec, **change), version)  # type: ignore[arg-type]
    (row,) = actor(arrow.table({"block": [0]})).to_pylist()
    assert is_refusal(row)
    assert row["problem"].startswith("the worker ")
    assert says in row["problem"]


def test_a_reader_that_differs_passes_a_refusal_on(spec: cluster.EncoderSpec) -> None:
    reading = cluster._Decoding(Preprocessing.of(spec.open()), 8)
    reading._version = "0.0.1"
    row = to_row(0, Block("absent.tar", 1, ""))
    (table,) = reading(arrow.table({key: [value] for key, value in row.items()}))
    (row,) = table.to_pylist()
    assert is_refusal(encoded(row, spec.open()))
    assert "not 0.0.1" in row["problem"]


def test_a_block_that_cannot_be_had_is_no_refusal(spec: cluster.EncoderSpec) -> None:
    rows = list(decoded(to_row(0, Block("absent.tar", 1, "")), Preprocessing.of(spec.open()), 8))
    assert [is_refusal(row) for row in rows] == [False]
