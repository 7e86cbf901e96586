"""What a rerun costs that has nothing to do, on a set of very many shards.

    python tests/benchmarks/many_shards.py CLIP [SHARDS]

A set of so many small shards is written, one for each of as many archives. Timed are `fieldmarks embed` of
the archives, twice, which finds nothing to do; `fieldmarks classify` of the set into a folder of results; and
the same again, which finds nothing to do either.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(folder: Path, clip: str, shards: int) -> None:
    """Write archives, the set that an earlier run made of them, and a classifier."""
    from tests.scale.archives import png, write_tar

    from fieldmarks.classification.classifier_file import ClassifierFile
    from fieldmarks.classification.embedder import Embedded, Encoder
    from fieldmarks.classification.embedding_writer import SetWriter
    from fieldmarks.classification.head import Head
    from fieldmarks.classification.texts import Texts
    from fieldmarks.scale.blocks import blocks_of

    (folder / "tars").mkdir()
    first = write_tar(folder / "tars" / "t-00000.tar", [("a.png", png(0))]).read_bytes()
    for number in range(1, shards):
        (folder / "tars" / f"t-{number:05d}.tar").write_bytes(first)
    encoder = Encoder(clip, dtype="float32", engine="torch")
    vector = np.ones(8, np.float32)
    with SetWriter(folder / "set", encoder.provenance, of_blocks=True) as writer:
        for block in blocks_of([str(folder / "tars")]):
            writer.add_block(block.key, [Embedded(f"{block.name}/a.png", vector)])
    texts = Texts.collect({name: [(name, name)] for name in ("owl", "newt")})
    head = Head(texts, np.eye(2, 8, dtype=np.float32), 100.0, metadata={"model": encoder.model})
    ClassifierFile(folder / "texts.safetensors").write(head)


def main() -> None:
    clip = str(Path(sys.argv[1]).resolve())
    shards = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        write(folder, clip, shards)
        print(f"wrote {shards:,} shards in {time.perf_counter() - began:.0f} s", flush=True)
        exact = ["--clip", clip, "--dtype", "float32", "--engine", "torch"]
        classify = [
            "classify",
            "--image-embeddings",
            "set",
            "--classifier",
            "texts.safetensors",
            "-o",
            "results",
        ]
        embed = ["embed", "tars", "--out", "set", *exact]
        for words in (embed, embed, classify, classify):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [sys.executable, "-m", "fieldmarks", *words]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{seconds:.1f} s ({cpu:.1f} s CPU): {done.stderr.splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
