"""Measures the server: its speed beside the library's own, and a long run with hostile requests among others.

python -m tests.benchmarks.serve speed [IMAGES]     images/s of the library, and of 1, 8 and 32 clients
python -m tests.benchmarks.serve soak [REQUESTS]    requests lost or wrong, memory; 2% of them are hostile

Clients are threads of this process, and take processor time of the same machine, which is a part of what is
measured. Figures are therefore given as shares of the library's own, measured just before. A client alone
sends one image at a time, so it is compared with the library one image at a time too.
"""

import http.client
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from threading import local

from tests.kit import write_store
from tests.serve.served import Served, form, serving

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.results import Failure
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import clip_folder, demo_species, entry
from fieldmarks.store import Store

PER_SPECIES = 10
CLIENTS = (1, 8, 32)
HOSTILE = 50  # every so many requests, one is hostile
PNG = {"Content-Type": "image/png"}
# Each is a request that a stranger may send: method, path, body, headers, and the status it has to get.
Hostile = tuple[str, str, bytes, dict[str, str], int]


def hostile_requests(image: bytes) -> list[Hostile]:
    """Return requests that have to be refused, or answered with an error."""
    markup, kind = form([("<script>alert(1)</script>.png", b"no image")])
    return [
        ("POST", "/classify", b"no image", PNG, 422),
        ("POST", "/classify", image[: len(image) // 2], PNG, 422),
        ("POST", "/classify", b"", PNG, 400),
        ("POST", "/classify", markup, kind, 422),
        ("POST", "/classify", b"--x\r\nbroken", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
        ("POST", "/classify", b"{}", {"Content-Type": "application/json"}, 415),
        ("POST", "/classify?top=-1", image, PNG, 400),
        ("POST", "/classify", image, PNG | {"Host": "evil.example"}, 403),
        ("POST", "/classify", image, PNG | {"Origin": "https://evil.example"}, 403),
        ("GET", "/../../etc/passwd", b"", {}, 404),
        ("GET", "/page.css/..%2f..%2fetc/passwd", b"", {}, 404),
        ("POST", "/classify", bytes(5 * 2**20), PNG, 413),
    ]


class Clients:
    """Threads that ask one server, each on a connection that it keeps."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._own = local()

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Return the status and the body of an answer; on a busy server, of a later one."""
        while True:
            connection = self._connection()
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                status, read = response.status, response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                raise
            if status != 503:
                return status, read
            time.sleep(float(response.headers["Retry-After"]))

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", self._served.port, timeout=120)
        connection: http.client.HTTPConnection = self._own.connection
        return connection


def speed(served: Served, classifier: Classifier, images: Sequence[bytes], folder: Path, count: int) -> None:
    """Print images/s and the times of requests, by the number of clients."""
    paths = sorted(folder.glob("*.png"))
    chosen = [paths[number % len(paths)] for number in range(count)]
    rates: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    own, single = list[float](), list[float]()
    times: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    for turn in range(4):  # the first one warms up
        rate = count / _seconds(lambda: list(classifier.stream(chosen, top=5)))
        own += [rate] if turn else []
        rate = count / _seconds(lambda: [classifier.predict(path, top=5) for path in chosen])
        single += [rate] if turn else []
        for clients in CLIENTS:
            asking = Clients(served)
            took: list[float] = []

            def send(number: int, asking: Clients = asking, took: list[float] = took) -> None:
                began = time.perf_counter()
                status, _ = asking.ask("POST", "/classify", images[number % len(images)], PNG)
                assert status == 200
                took.append(time.perf_counter() - began)

            with ThreadPoolExecutor(clients) as pool:
                seconds = _seconds(partial(_send_all, pool, send, count))
            rates[clients] += [count / seconds] if turn else []
            times[clients] += took if turn else []
    print(f"library: {median(own):.0f} images/s, and {median(single):.0f} one at a time")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for clients in CLIENTS:
        share = median(rate / most for rate, most in zip(rates[clients], own, strict=True))
        shown = f"{median(rates[clients]):.0f} images/s, {share:.0%} of the library's"
        if clients == 1:
            share = median(rate / most for rate, most in zip(rates[clients], single, strict=True))
            shown += f", {share:.0%} of one at a time"
        middle, late = median(times[clients]), quantiles(times[clients], n=20)[-1]
        print(
            f"{clients:>2} clients: {shown};"
            f" median {1000 * middle:.0f} ms, p95 {1000 * late:.0f} ms, {late / middle:.1f} x the median"
        )


def _send_all(pool: ThreadPoolExecutor, send: Callable[[int], None], count: int) -> None:
    for _ in pool.map(send, range(count)):
        pass


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def soak(served: Served, classifier: Classifier, images: Sequence[bytes], folder: Path, count: int) -> None:
    """Print how many of many requests were lost or answered wrongly, and how the server's memory grew."""
    expected = []
    for result in classifier.stream(sorted(folder.glob("*.png")), top=5):
        assert not isinstance(result, Failure)
        expected.append(result.label)
    attacks, asking = hostile_requests(images[0]), Clients(served)
    came: Counter[str] = Counter()

    def send(number: int) -> None:
        place, attack = number % len(images), attacks[number // HOSTILE % len(attacks)]
        is_hostile = number % HOSTILE == 0
        request = attack[:4] if is_hostile else ("POST", "/classify", images[place], PNG)
        try:
            status, body = asking.ask(*request)
        except (OSError, http.client.HTTPException) as error:
            came[f"lost: {'hostile ' if is_hostile else ''}{type(error).__name__}"] += 1
            return
        if is_hostile:
            came["refused" if status == attack[4] else f"wrong: {attack[:2]} {status}"] += 1
        elif status != 200 or json.loads(body)["label"] != expected[place]:
            came["wrong"] += 1
        else:
            came["right"] += 1

    memory = []
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, count, max(1, count // 10)):
            list(pool.map(send, range(start, min(count, start + max(1, count // 10)))))
            memory.append(served.memory() / 2**20)
    print(f"{count:,} requests: {dict(sorted(came.items()))}")
    print(f"memory in MiB after each tenth: {', '.join(f'{size:.0f}' for size in memory)}")
    assert served.process.poll() is None, "the server has ended"


def main(what: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_store(folder / "s.jsonl", {name: list(entry(name)) for name in demo_species()})
        for name, creature in demo_species().items():
            for number in range(PER_SPECIES):
                draw(creature, random.Random(f"{name} {number}")).save(folder / f"{name}-{number}.png")
        images = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
        classifier = Classifier(
            Store(folder / "s.jsonl"), clip=str(clip_folder()), dtype="float32", engine="torch", cache=False
        )
        options = ("--dtype", "float32", "--engine", "torch", "--no-cache", "--max-body", "4")
        with serving("--store", str(folder / "s.jsonl"), "--clip", str(clip_folder()), *options) as served:
            (speed if what == "speed" else soak)(served, classifier, images, folder, count)


if __name__ == "__main__":
    asked, *numbers = sys.argv[1:]
    main(asked, int(numbers[0]) if numbers else {"speed": 1_000, "soak": 10_000}[asked])
