"""Measures the server: its speed beside the library's own, and a long run with hostile requests among others.

python -m tests.benchmarks.serve speed [IMAGES [CLIP]]  images/s of the library, and of 1, 8 and 32 clients
python -m tests.benchmarks.serve soak [REQUESTS]        requests lost or wrong, memory; 2% of them are hostile

The library runs in this process, set up as the command line sets its own, on the same images in batches of
its own choice. Clients are threads of this process too, each on a connection that it keeps, which write a
request and read an answer with little else. They take processor time of the machine that the server runs on,
so theirs is shown beside the server's. A client alone sends one image at a time, so it is compared with the
library one image at a time too. Turns alternate. A share of images/s compares two moments of a machine that
may have other work; a share of processor time says what is left of the library's images/s where every core
is busy.
"""

import http.client
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from threading import local

from tests.kit import write_store
from tests.serve.served import Served, form, serving

from fieldmarks.classification.classifier import Classifier
from fieldmarks.classification.results import Failure
from fieldmarks.classification.threads import cores
from fieldmarks.demo.drawing import draw
from fieldmarks.demo.species import clip_folder, demo_species, entry
from fieldmarks.hub import own_process
from fieldmarks.store import Store

PER_SPECIES = 10
CLIENTS = (1, 8, 32)
TURNS = 3
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


@dataclass
class Turn:
    """What some images took, in seconds: in all, of processor time here and in the server, each request."""

    seconds: float
    here: float
    served: float
    requests: list[float]


def speed(served: Served, classifier: Classifier, images: Sequence[bytes], folder: Path, count: int) -> None:
    """Print images/s, processor time and the times of requests, by the number of clients."""
    paths = sorted(folder.glob("*.png"))
    chosen = [paths[number % len(paths)] for number in range(count)]
    whole, single = list[Turn](), list[Turn]()
    turns: dict[int, list[Turn]] = {clients: [] for clients in CLIENTS}
    for number in range(TURNS + 1):  # the first one warms up
        began = [
            _timed(served, lambda: list(classifier.stream(chosen, top=5))),
            _timed(served, lambda: [classifier.predict(path, top=5) for path in chosen]),
            *(_clients_turn(served, images, clients, count) for clients in CLIENTS),
        ]
        if number:
            for kept, turn in zip((whole, single, *turns.values()), began, strict=True):
                kept.append(turn)
    print(f"load {os.getloadavg()[0]:.1f} on {cores()} cores; {count} images, {TURNS} turns")
    for name, measured in (("library", whole), ("library, one image at a time", single)):
        busy = _each(measured, count, "here")
        print(f"{name}: {_rates(measured, count)}; {busy} ms of processor time an image")
    for clients, measured in turns.items():
        middle = median(took for turn in measured for took in turn.requests)
        late = quantiles([took for turn in measured for took in turn.requests], n=20)[-1]
        print(
            f"{clients} client{'s' * (clients > 1)}: {_rates(measured, count)};"
            f" median {1000 * middle:.0f} ms, p95 {1000 * late:.0f} ms, {late / middle:.1f} x the median\n"
            f"  {_each(measured, count, 'served')} ms of processor time an image, and the client's own"
            f" {_each(measured, count, 'here')} ms"
        )
        for name, own in (("the library", whole), *([("one at a time", single)] if clients == 1 else [])):
            pairs = list(zip(own, measured, strict=True))
            rate = median(library.seconds / turn.seconds for library, turn in pairs)
            with_clients = median(library.here / (turn.served + turn.here) for library, turn in pairs)
            alone = median(library.here / turn.served for library, turn in pairs)
            print(
                f"  beside {name}: {rate:.0%} of the images/s; by processor time {with_clients:.0%} with the"
                f" clients on the same cores, {alone:.0%} without them"
            )


def _rates(turns: Sequence[Turn], count: int) -> str:
    rates = [count / turn.seconds for turn in turns]
    return f"{median(rates):.0f} images/s, best {max(rates):.0f}"


def _each(turns: Sequence[Turn], count: int, field: str) -> str:
    return f"{1000 * median(getattr(turn, field) for turn in turns) / count:.2f}"


def _timed(served: Served, work: Callable[[], object], requests: list[float] | None = None) -> Turn:
    began, here, there = time.perf_counter(), time.process_time(), _processor_time(served.process.pid)
    work()
    seconds, own = time.perf_counter() - began, time.process_time() - here
    return Turn(seconds, own, _processor_time(served.process.pid) - there, requests or [])


def _clients_turn(served: Served, images: Sequence[bytes], clients: int, count: int) -> Turn:
    """Send images by so many clients at once."""
    took: list[float] = []

    def ask(first: int) -> None:
        with socket.create_connection(("127.0.0.1", served.port), timeout=120) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(first, count, clients):
                began = time.perf_counter()
                _exchange(connection, served.port, images[number % len(images)])
                took.append(time.perf_counter() - began)

    with ThreadPoolExecutor(clients) as pool:
        return _timed(served, lambda: list(pool.map(ask, range(clients))), took)


def _exchange(connection: socket.socket, port: int, image: bytes) -> None:
    """Send an image and read the answer, which has to be one of success."""
    head = f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: image/png\r\n"
    connection.sendall(f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head_of_answer, _, body = data.partition(b"\r\n\r\n")
    assert head_of_answer.startswith(b"HTTP/1.1 200 "), head_of_answer
    length = int(head_of_answer.lower().partition(b"content-length:")[2].split(None, 1)[0])
    while len(body) < length:
        body += _received(connection)


def _received(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    assert part, "the server has closed the connection"
    return part


def _processor_time(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def main(what: str, count: int, clip: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_store(folder / "s.jsonl", {name: list(entry(name)) for name in demo_species()})
        for name, creature in demo_species().items():
            for number in range(PER_SPECIES):
                draw(creature, random.Random(f"{name} {number}")).save(folder / f"{name}-{number}.png")
        images = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
        classifier = Classifier(
            Store(folder / "s.jsonl"), clip=clip, dtype="float32", engine="torch", cache=False
        )
        options = ("--dtype", "float32", "--engine", "torch", "--no-cache", "--max-body", "4")
        with serving("--store", str(folder / "s.jsonl"), "--clip", clip, *options) as served:
            (speed if what == "speed" else soak)(served, classifier, images, folder, count)


if __name__ == "__main__":
    asked, *numbers = sys.argv[1:]
    own_process()  # as the command line does
    main(
        asked,
        int(numbers[0]) if numbers else {"speed": 1_000, "soak": 10_000}[asked],
        numbers[1] if numbers[1:] else str(clip_folder()),
    )
