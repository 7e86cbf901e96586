"""Embedding many images into a set: blocks of archives and tables, in this process or on Ray.

    with SetWriter(out, provenance, of_blocks=True) as writer:
        for result in embed_blocks(writer, blocks_of(sources), embedder):
            ...

A block is part of the set as one shard, once all of its images are embedded, and is not read again. A run
that ends early, by whatever cause, loses the blocks that were under way.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from fieldmarks.classification.embedder import Embedded, Embedder
from fieldmarks.classification.embedding_writer import SetWriter
from fieldmarks.classification.results import Failure
from fieldmarks.classification.sources import ImageInput, name_of
from fieldmarks.scale import cluster
from fieldmarks.scale.blocks import Block, SourceError, read
from fieldmarks.scale.cluster import EncoderSpec, Workers
from fieldmarks.scale.passes import Assembly, Files, Preprocessing, Source

logger = logging.getLogger(__name__)

FILES: Final = 8192  # image files of a block at most
_BLOCKS_PER_READER: Final = 4  # at least, where there are few files

Result = Embedded | Failure


def missing_blocks(writer: SetWriter, blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks that a set does not have, and count the images of the others as present."""
    known = writer.blocks
    missing = []
    for block in blocks:
        if block.key in known:
            writer.present += known[block.key]
        else:
            missing.append(block)
    return missing


def embed_blocks(writer: SetWriter, blocks: Sequence[Block], embedder: Embedder) -> Iterator[Result]:
    """Embed blocks in this process, in their order, and yield the results of each once it is in the set.

    A block whose file cannot be had is a Failure, and is left for a later run.
    """
    for block in blocks:
        try:
            rows = list(embedder.images(read(block)))
        except SourceError as error:
            yield Failure(block.name, str(error))
            continue
        yield from _added(writer, block, rows)


def embed_on_ray(
    ray: Any,
    writer: SetWriter,
    sources: Sequence[Source],
    spec: EncoderSpec,
    preprocessing: Preprocessing,
    batch: int,
    workers: Workers,
) -> Iterator[Result]:
    """Embed blocks on a cluster, and yield the results of each once it is in the set, in any order.

    Raises ClusterError and what workers raise; what was complete before is in the set.
    """
    assembly = Assembly()
    if not sources:
        return
    for row in cluster.embedded(ray, sources, spec, preprocessing, batch, workers):
        if (complete := assembly.take(row)) is None:
            continue
        number, rows, problem = complete
        source = sources[number]
        if problem is not None:
            yield Failure(source.name, problem)
        elif isinstance(source, Files):
            yield from writer.take(rows)
            writer.flush()
        else:
            yield from _added(writer, source, rows)


def file_blocks(
    writer: SetWriter, images: Iterable[ImageInput | Failure], batch: int, readers: int
) -> tuple[list[Files], list[Failure]]:
    """Return the image files that a set does not have as blocks, and what is no file.

    Blocks are of whole passes, so that passes are the same as in one process.
    """
    failures: list[Failure] = []
    files: list[tuple[str, str]] = []
    for image in writer.missing(images):
        if isinstance(image, Failure):
            failures.append(image)
        else:
            files.append((name_of(image, 0), str(Path(str(image)).absolute())))
    size = min(FILES, -(-len(files) // (_BLOCKS_PER_READER * max(1, readers))))
    size = max(batch, -(-size // batch) * batch)
    remaining = iter(files)
    return [Files(part) for part in iter(lambda: tuple(islice(remaining, size)), ())], failures


def _added(writer: SetWriter, block: Block, rows: list[Result]) -> Iterator[Result]:
    if not rows:
        yield Failure(block.name, "it has no images")
        return
    writer.add_block(block.key, rows)
    yield from rows
