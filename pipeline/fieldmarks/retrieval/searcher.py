"""Searching a set: which of its images show what is looked for, best first.

    searcher = Searcher("photos.emb")
    result = searcher.find(["a red bicycle"], exclude=["snow"])
    for hit in result.hits:
        print(hit.rank, hit.image, hit.score)

A result's scores are z-scores: standard deviations from the mean over the set. Of several terms, the scores
are standardised, averaged (those of what is excluded with a minus) and standardised again.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fieldmarks import choices
from fieldmarks.choices import Device, DType, checks_keywords
from fieldmarks.classification.embedder import Clip, open_embedder
from fieldmarks.classification.embedding_set import EmbeddingSet
from fieldmarks.classification.scoring import Array, best_first
from fieldmarks.classification.sources import ImageInput, is_single
from fieldmarks.errors import ModelError, UsageError
from fieldmarks.hub import loaded_once, model_id
from fieldmarks.retrieval.calibration import Calibration, calibration, score, z_scores
from fieldmarks.retrieval.labels import Lookup
from fieldmarks.retrieval.query import Term, class_term, descriptor_term, image_terms, text_terms
from fieldmarks.retrieval.scan import Scan
from fieldmarks.store import Store
from fieldmarks.text import comparable


@dataclass(frozen=True, slots=True)
class Hit:
    """An image that was found: its place, from 1, its z-score, and its label where labels were given."""

    rank: int
    image: str
    score: float
    label: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        line: dict[str, Any] = {"rank": self.rank, "image": self.image, "score": self.score}
        return line if self.label is None else line | {"label": self.label}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Hit":
        """Return the hit that `to_dict` describes. Raises KeyError, TypeError, ValueError."""
        label = value.get("label")
        return cls(int(value["rank"]), str(value["image"]), float(value["score"]), label and str(label))


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, best first.

    `matched` images of `total` show what was looked for; `hits` are the first ones of them, or of all images
    where all were asked for. `unmatched` are the terms that fit the set no better than random words do.
    """

    query: str
    hits: tuple[Hit, ...]
    matched: int
    total: int
    unmatched: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __repr__(self) -> str:
        return f"<SearchResult of {self.query!r}: {self.matched} of {self.total} images>"

    def to_dict(self) -> dict[str, Any]:
        """Return the plain object."""
        return {
            "query": self.query,
            "matched": self.matched,
            "total": self.total,
            "unmatched": list(self.unmatched),
            "hits": [hit.to_dict() for hit in self.hits],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "SearchResult":
        """Return the result that `to_dict` describes. Raises KeyError, TypeError, ValueError."""
        hits = tuple(Hit.from_dict(hit) for hit in value["hits"])
        unmatched = tuple(map(str, value["unmatched"]))
        return cls(str(value["query"]), hits, int(value["matched"]), int(value["total"]), unmatched)

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each hit: rank, image, score. Raises ImportError."""
        rows = [(hit.rank, hit.image, hit.score) for hit in self.hits]
        return import_module("pandas").DataFrame(rows, columns=["rank", "image", "score"])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{hit.rank}</td><td>{escape(hit.image)}</td><td>{hit.score:+.2f}</td></tr>"
            for hit in self.hits
        )
        head = "<tr><th>rank</th><th>image</th><th>score</th></tr>"
        title = f"<caption>{escape(self.query)}</caption>"
        return f"<table>{title}<thead>{head}</thead><tbody>{rows}</tbody></table>"


class Searcher:
    """A set with its model, to search as often as wanted; safe to use from several threads.

    embeddings: an EmbeddingSet, or the path of one.
    clip, device, dtype, engine, cache: the model that reads texts, by default the one that made the set.

    Raises ImageError for a set that cannot be read or is empty, ModelError for another model than the set's,
    UsageError where the set does not name its model and none is given.
    """

    @checks_keywords
    def __init__(
        self,
        embeddings: EmbeddingSet | str | os.PathLike[str],
        *,
        clip: Clip | None = None,
        device: Device = "auto",
        dtype: DType = "auto",
        engine: choices.Engine = "auto",
        cache: bool = False,
    ) -> None:
        self.embeddings = embeddings if isinstance(embeddings, EmbeddingSet) else EmbeddingSet(embeddings)
        self.scan = Scan(self.embeddings.parts())
        made_with = self.embeddings.model
        if clip is None and made_with is None:
            raise UsageError(
                f"{self.embeddings.path} does not say which model made it: name it with clip (--clip)"
            )
        self.embedder = open_embedder(
            clip, default=made_with or "", device=device, dtype=dtype, engine=engine, cache=cache
        )
        self._check_model(made_with)

    def find(
        self,
        texts: str | Sequence[str] = (),
        *,
        exclude: str | Sequence[str] = (),
        like: ImageInput | Sequence[ImageInput] = (),
        class_name: str | None = None,
        descriptor: str | None = None,
        store: Store | str | Path | None = None,
        labels: str | Path | Mapping[str, str] | None = None,
        disagree: bool = False,
        top: int | None = None,
        show_all: bool = False,
    ) -> SearchResult:
        """Return the images that show what is looked for, best first; arguments as of `search`."""
        if top is not None and top < 1:
            raise UsageError(f"top: expected at least 1, found {top}")
        texts = _listed(texts)
        wanted = _disagreeing(texts, class_name, descriptor, labels, disagree)
        lookup = None if labels is None else Lookup.open(labels)
        terms = self._terms(texts, _listed(exclude), _inputs(like), class_name, descriptor, store)
        query = " and ".join(term.wording for term in terms)
        if not self.scan.rows:
            return SearchResult(query, (), 0, 0)
        found = self._found(terms)
        rows = np.flatnonzero(found.is_usable if show_all else found.is_shown)
        if lookup and disagree:
            given = [lookup.label(name) for name in self.scan.names(rows.tolist())]
            keep = [label is not None and not wanted(label) for label in given]
            rows = rows[np.array(keep, bool)]
        matched = int(np.count_nonzero(found.is_shown[rows]))
        rows = rows[best_first(found.scores[rows][None], top)[0]]
        names = self.scan.names(rows.tolist())
        each = zip(names, found.scores[rows].tolist(), strict=True)
        hits = (
            Hit(rank, name, value, lookup.label(name) if lookup else None)
            for rank, (name, value) in enumerate(each, 1)
        )
        return SearchResult(query, tuple(hits), matched, found.usable, found.unmatched)

    @loaded_once
    def calibration(self) -> Calibration:
        """The set's thresholds, computed on the first search and kept in its folder."""
        return calibration(self.scan, self.embedder, self.embeddings.path, self.embeddings.manifest)

    def _terms(
        self,
        texts: Sequence[str],
        exclude: Sequence[str],
        like: Sequence[ImageInput],
        class_name: str | None,
        descriptor: str | None,
        store: Store | str | Path | None,
    ) -> list[Term]:
        if (class_name is None and descriptor is None) != (store is None):
            raise UsageError("a class or descriptor and the store that has it go together: pass both or none")
        if not (texts or like or class_name or descriptor):
            raise UsageError("there is nothing to search for: pass a text, an image, a class or a descriptor")
        opened = store if isinstance(store, Store) or store is None else Store(store)
        terms = text_terms(texts, self.embedder)
        if opened and class_name is not None:
            terms.append(class_term(class_name, opened, self.embedder))
        if opened and descriptor is not None:
            terms.append(descriptor_term(descriptor, opened, self.embedder))
        terms += image_terms(like, self.embedder, self.scan)
        terms += text_terms(exclude, self.embedder, is_excluded=True)
        if self.scan.rows and len(terms[0].vector) != self.scan.dim:
            raise ModelError(
                f"{self.embeddings.path} has embeddings of {self.scan.dim} numbers, and"
                f" {self.embedder.encoder.name} makes {len(terms[0].vector)}: pass the set's model"
            )
        return terms

    def _found(self, terms: Sequence[Term]) -> "_Found":
        """Score all images by all terms in one pass, and judge which show them."""
        calibrated = self.calibration
        contrasts = [term.vector - term.contrast for term in terms if term.contrast is not None]
        scored = score(self.scan, np.stack([*(term.vector for term in terms), *contrasts]), calibrated)
        usable, is_meant = calibrated.inverse > 0, calibrated.is_about_something(scored)
        total = np.zeros(self.scan.rows, np.float32)
        lead = np.zeros(self.scan.rows, np.float32)
        shown, unmatched, contrast = usable.copy(), [], len(terms)
        for place, term in enumerate(terms):
            ranked = place
            if term.contrast is not None:
                ranked, contrast = contrast, contrast + 1
            z = scored.standardized(ranked)
            np.subtract(total, z, out=total) if term.is_excluded else np.add(total, z, out=total)
            margin = scored.cosines[place] - term.threshold(self.scan, calibrated)
            if term.is_excluded:
                shown &= margin < 0
                continue
            margin /= max(float(scored.deviation[place]), 1e-6)
            lead += margin
            if term.kind in ("text", "class") and not is_meant[place]:
                unmatched.append(term.name)
        if len(terms) > 1:
            total = standardized(total, usable)
        shown &= lead >= 0
        return _Found(total, usable, shown if not unmatched else np.zeros_like(shown), tuple(unmatched))

    def _check_model(self, made_with: str | None) -> None:
        """Raise ModelError where the set was made with another model than the one that reads texts."""
        manifest = self.embeddings.manifest
        name = self.embedder.encoder.model
        if manifest and self.embedder.encoder.provenance["fingerprint"] != manifest.fingerprint:
            version = "another version of " if name == manifest.model else ""
            raise ModelError(
                f"{self.embeddings.path} was made with {version}{manifest.model}, and its texts would be read"
                f" by {name}: pass the same model, or embed the images again"
            )
        if manifest is None and made_with and model_id(made_with) != name:
            raise ModelError(
                f"{self.embeddings.path} was made with {made_with}, not {name}: pass --clip {made_with}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """The z-scores of all images (N,), which of them are usable, and which show what was looked for."""

    scores: Array
    is_usable: np.ndarray[Any, Any]
    is_shown: np.ndarray[Any, Any]
    unmatched: tuple[str, ...]

    @property
    def usable(self) -> int:
        """How many images have an embedding that is one."""
        return int(np.count_nonzero(self.is_usable))


def standardized(scores: Array, usable: np.ndarray[Any, Any]) -> Array:
    """Return scores (N,) as z-scores over the usable images, 0 where they do not differ."""
    values = scores if usable.all() else scores[usable]
    if not len(values):
        return np.zeros_like(scores)
    return z_scores(scores, float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)))


def _listed(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _inputs(images: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    inputs: Any = [images] if is_single(images) else images
    return list(inputs)


def _disagreeing(
    texts: Sequence[str],
    class_name: str | None,
    descriptor: str | None,
    labels: object,
    disagree: bool,
) -> Callable[[str], bool]:
    """Return what says whether a label is the one that was looked for. Raises UsageError."""
    if not disagree:
        return lambda label: True
    names = [*texts, *([class_name] if class_name is not None else [])]
    if labels is None or len(names) != 1 or descriptor is not None:
        raise UsageError("disagree compares labels with one class or one text: pass labels, and one of these")
    return lambda label: comparable(label) == comparable(names[0])


@checks_keywords
def search(
    embeddings: EmbeddingSet | str | os.PathLike[str],
    texts: str | Sequence[str] = (),
    *,
    exclude: str | Sequence[str] = (),
    like: ImageInput | Sequence[ImageInput] = (),
    class_name: str | None = None,
    descriptor: str | None = None,
    store: Store | str | Path | None = None,
    labels: str | Path | Mapping[str, str] | None = None,
    disagree: bool = False,
    top: int | None = None,
    show_all: bool = False,
    clip: Clip | None = None,
    device: Device = "auto",
    dtype: DType = "auto",
    engine: choices.Engine = "auto",
    cache: bool = False,
) -> SearchResult:
    """Find the images of a set that show what is looked for, best first.

    embeddings: an EmbeddingSet that `embed` made, or its path.
    texts: one text or several, all of which an image has to show.
    exclude: texts that it must not show.
    like: an image, or several, that it has to resemble.
    class_name, descriptor: a class, or a descriptor, of `store`: a Store or its path.
    labels: a data set of the images (see `open_dataset`) or a mapping of image to label, to show labels;
        with `disagree`, only images that have another label than the text or class looked for.
    top: how many hits to return at most.
    show_all: also return the images below the cut-off.
    clip, device, dtype, engine, cache: the model that reads texts, by default the one that made the set.

        for hit in search("photos-embedded", "a red bicycle"):
            print(hit.rank, hit.image, hit.score)

    Scores are z-scores over the set. An image is found where the text fits it better than random words do;
    a text about nothing finds nothing. To search one set many times, keep a `search.searcher.Searcher`.
    Raises ImageError, ModelError, StoreError and UsageError.
    """
    searcher = Searcher(embeddings, clip=clip, device=device, dtype=dtype, engine=engine, cache=cache)
    return searcher.find(
        texts,
        exclude=exclude,
        like=like,
        class_name=class_name,
        descriptor=descriptor,
        store=store,
        labels=labels,
        disagree=disagree,
        top=top,
        show_all=show_all,
    )
