"""Classifying an embedding set shard by shard: in this process, or on Ray.

    with ResultFolder(Path("results"), EmbeddingSet("photos.emb")) as folder:
        folder.start(settings)
        for results in classify_shards(folder, folder.missing(), classifier, scoring):
            ...

Both ways run `shard_results` and write what it returns, so they differ in where it runs alone. Images and
their model are not needed: workers read the set's folder and get the classifier, and this process alone
writes. A run that ends early loses the shards that were under way.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.embedder import Embedder, Encoder
from fieldmarks.classification.embedding_manifest import Shard
from fieldmarks.classification.result_folder import (
    ResultFolder,
    Scoring,
    ShardResults,
    ShardSource,
    shard_results,
)
from fieldmarks.classification.results import Failure
from fieldmarks.errors import ImageError
from fieldmarks.scale import cluster


def classify_shards(
    folder: ResultFolder, shards: Sequence[Shard], classifier: Classifier, scoring: Scoring
) -> Iterator[ShardResults | Failure]:
    """Classify shards in this process, in their order, and yield what each gave once it is in the folder.

    A shard that cannot be read is a Failure, and is left for a later run. Raises ModelError, ReportError.
    """
    for shard in shards:
        yield _added(folder, shard, _attempt((classifier, scoring), folder.source(shard)))


def classify_on_ray(
    ray: Any, folder: ResultFolder, shards: Sequence[Shard], classifier: Classifier, scoring: Scoring
) -> Iterator[ShardResults | Failure]:
    """Classify shards on a cluster as `classify_shards` does, in any order. Raises ClusterError too."""
    head = classifier.head
    _ = head.scorer  # prepared once, and not by each worker
    # Without the device and precision that were asked for here: a worker embeds nothing.
    portable = Classifier.of_head(head, Embedder(Encoder(classifier.embedder.encoder.name)))
    sources = map(folder.source, shards)
    for number, results in cluster.spread(ray, _attempt, (portable, scoring), sources):
        yield _added(folder, shards[number], results)


def _attempt(shared: tuple[Classifier, Scoring], source: ShardSource) -> ShardResults | Failure:
    try:
        return shard_results(*shared, source)
    except ImageError as error:
        return Failure(source.shard.vectors, str(error))


def _added(folder: ResultFolder, shard: Shard, results: ShardResults | Failure) -> ShardResults | Failure:
    if isinstance(results, ShardResults):
        folder.add(shard, results.content)
    return results
