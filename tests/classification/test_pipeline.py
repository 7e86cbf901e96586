"""The pipeline: in order, in bounds, and nothing left behind whatever happens on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmarks.classification import memory
from fieldmarks.classification.cache import EmbeddingCache
from fieldmarks.classification.pipeline import Decoders, InProcess, Preparation, Prepared, ahead, run
from fieldmarks.classification.preprocess import Recipe, RecipePreprocessing
from fieldmarks.classification.results import Failure
from fieldmarks.classification.scoring import Array
from fieldmarks.classification.sources import Blob
from fieldmarks.classification.worker_process import WorkerDiedError, WorkerProcess
from fieldmarks.errors import ImageError

RECIPE = Recipe(8, (8, 8), 3, 1 / 255, None, None)
PREPARATION = Preparation(RecipePreprocessing(RECIPE, None))


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fieldmarks")]


def test_ahead_keeps_order_and_takes_no_more_than_its_window() -> None:
    taken = furthest = given = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    for given, value in enumerate(ahead(lambda number: 2 * number, items(), workers=2, most=10)):
        assert value == 2 * given
        furthest = max(furthest, taken - given)
    assert given == 199
    assert 4 < furthest <= 11


def test_fewer_are_ahead_where_they_are_large() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    results = ahead(lambda number: number, items(), workers=2, most=40, size=lambda _: 100, room=500)
    ahead_of = [taken - value for value in results]
    assert max(ahead_of) <= 5


def test_ahead_hands_an_error_on_and_ends_its_threads() -> None:
    def fail(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    results = ahead(fail, range(100), workers=2, most=8)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)
    assert _threads() == []


class Device:
    """A device that embeds an input as itself, and notes how many passes were under way at once."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.waiting = self.most = 0

    def start(self, inputs: Sequence[int]) -> Callable[[], Array]:
        self.started.append(len(inputs))
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return partial(self._finish, list(inputs))

    def _finish(self, inputs: list[int]) -> Array:
        self.waiting -= 1
        return np.array(inputs, np.float32)[:, None]


def _prepared(number: int) -> Prepared | Failure:
    """Every third comes from the cache, every seventh cannot be read."""
    if number % 7 == 6:
        return Failure(str(number), "broken")
    known = np.array([number], np.float32) if number % 3 == 2 else None
    return Prepared(str(number), None, known, None if known is not None else number, None, None)


def _rows(batches: Iterable[tuple[list[Prepared | Failure], Array | None]]) -> list[float | None]:
    rows: list[float | None] = []
    for items, fresh in batches:
        vectors = iter(() if fresh is None else fresh)
        for item in items:
            if isinstance(item, Failure):
                rows.append(None)
            else:
                rows.append(float((next(vectors) if item.vector is None else item.vector)[0]))
    return rows


@given(count=st.integers(0, 60), batch=st.integers(1, 20), under_way=st.integers(0, 2))
def test_every_image_comes_out_once_and_in_order(count: int, batch: int, under_way: int) -> None:
    device = Device()
    found = _rows(run(range(count), _prepared, device.start, batch=batch, under_way=under_way))
    assert found == [None if number % 7 == 6 else number for number in range(count)]
    assert device.waiting == 0
    assert device.most <= under_way + 1


def test_a_pass_is_fetched_when_the_next_is_under_way() -> None:
    device = Device()
    batches = run(
        range(100), lambda n: Prepared(str(n), None, None, n, None, None), device.start, batch=10, under_way=1
    )
    next(batches)
    assert (device.started, device.waiting) == ([10, 10], 1)
    batches.close()
    assert _threads() == []


def test_a_slow_image_holds_up_a_bounded_number_of_others() -> None:
    """And they go on being decoded while it is."""
    done: set[int] = set()
    slow = threading.Event()

    def prepare(number: int) -> Prepared:
        if number == 0:
            assert slow.wait(30)
        done.add(number)
        return Prepared(str(number), None, None, number, None, None)

    def first() -> None:
        found.extend(_rows(run(range(1000), prepare, Device().start, batch=8, under_way=1)))

    found: list[float | None] = []
    thread = threading.Thread(target=first)
    thread.start()
    until = time.monotonic() + 30
    while len(done) < 3 and time.monotonic() < until and (os.cpu_count() or 1) > 1:
        time.sleep(0.01)
    assert len(done) < 100
    slow.set()
    thread.join(60)
    assert found == list(range(1000))


def test_an_error_of_the_device_ends_it_all() -> None:
    def full(inputs: Sequence[Any]) -> Callable[[], Array]:
        raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        list(run(range(1000), _prepared, full, batch=10, under_way=1))
    assert _threads() == []


# Decoders with processes.


def _photo(path: Path, side: int = 40) -> Path:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def _decoders(preparation: Preparation = PREPARATION) -> Decoders:
    return Decoders(lambda: preparation, lambda: preparation, processes=True, after=0)


def _until_ready(decoders: Decoders, path: Path) -> None:
    """Decode until this thread's process has taken over."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        decoders("warm", path)
        if any(worker.is_ready for worker in decoders._started):
            return
    raise AssertionError("no process became ready")


@pytest.mark.slow
def test_a_process_prepares_what_a_thread_does(tmp_path: Path) -> None:
    path = _photo(tmp_path / "a.png")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.linspace(0, 4095, 1600).reshape(40, 40).astype(np.uint16)).save(deep)
    cache = EmbeddingCache(tmp_path / "cache.sqlite3")
    preparation = Preparation(RecipePreprocessing(RECIPE, None), cache, ("model", "kind"))
    decoders = _decoders(preparation)
    try:
        _until_ready(decoders, path)
        known = preparation("a", path)
        assert isinstance(known, Prepared)
        assert known.key
        for source in (path, deep, Blob("b", path.read_bytes()), tmp_path / "none.png", "no\0name"):
            ours, theirs = (make("x", source, small=True) for make in (preparation, decoders))
            assert repr(ours) == repr(theirs)
            if isinstance(ours, Prepared) and isinstance(theirs, Prepared):
                assert np.array_equal(ours.inputs, theirs.inputs)
        cache.put({known.key: np.ones(4, np.float32)})
        found, other = (decoders("a", path, dim=dim) for dim in (4, 5))
        assert isinstance(found, Prepared)
        assert isinstance(other, Prepared)
        assert np.array_equal(found.vector, np.ones(4))  # type: ignore[arg-type]
        assert other.vector is None
    finally:
        decoders.close()
        cache.close()


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_a_failure_and_the_run_goes_on(tmp_path: Path) -> None:
    path = _photo(tmp_path / "a.png")
    decoders = _decoders()
    try:
        _until_ready(decoders, path)
        (worker,) = decoders._started
        os.kill(worker.pid, signal.SIGKILL)
        time.sleep(0.1)
        died = decoders("a", path)
        assert died == Failure("a", "cannot be decoded: the process that decoded it was ended by signal 9")
        assert isinstance(decoders("a", path), Prepared)
    finally:
        decoders.close()


@pytest.mark.slow
def test_an_image_beyond_a_processs_share_is_decoded_beside_it(tmp_path: Path) -> None:
    path, large = _photo(tmp_path / "a.png"), _photo(tmp_path / "large.png", 2000)
    with WorkerProcess(InProcess(PREPARATION, 10**6)) as worker:
        assert isinstance(worker("a", path), Prepared)
        with pytest.raises(memory.BeyondShareError):
            worker("large", large)
        assert isinstance(worker("a", path), Prepared)


@pytest.mark.slow
def test_a_process_ends_with_the_program_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from fieldmarks.classification.worker_process import WorkerProcess\n"
        "worker = WorkerProcess(len)\n"
        "print(worker([1, 2]), worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program:
        answer, pid = map(int, program.stdout.readline().split())
        assert answer == 2
        program.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and _state(pid) != "Z" and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or _state(pid) == "Z"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.slow
def test_errors_cross_and_a_closed_process_says_so() -> None:
    with WorkerProcess(PREPARATION) as worker:
        assert worker("x", Failure("y", "why")) == Failure("y", "why")
        with pytest.raises(RuntimeError, match="TypeError"):
            worker()
    with pytest.raises(WorkerDiedError):
        worker("x", Failure("y", "why"))


def test_a_share_is_an_error_of_an_image() -> None:
    budget = memory.Budget(1000)
    budget.within(10)
    with budget.reserve(10):
        pass
    with pytest.raises(ImageError), budget.reserve(11):
        pass


INTERRUPTED = """
import itertools, sys, threading
import numpy as np
from fieldmarks.classification.pipeline import Decoders, Preparation, run
from fieldmarks.classification.preprocess import Recipe, RecipePreprocessing
preparation = Preparation(RecipePreprocessing(Recipe(8, (8, 8), 3, 1 / 255, None, None), None))
decoders = Decoders(lambda: preparation, lambda: preparation, processes=True, after=0)
def start(inputs):
    return lambda: np.zeros((len(inputs), 4), np.float32)
paths = itertools.repeat(sys.argv[1])
batches = run(paths, lambda path: decoders(path, path), start, batch=8, under_way=1, stop=decoders.close)
told = False
try:
    for _ in batches:
        workers = decoders._started
        if not told and workers and all(worker.is_ready for worker in workers):
            told = True
            print(*(worker.pid for worker in workers), flush=True)
except KeyboardInterrupt:
    batches.close()
    print([thread.name for thread in threading.enumerate() if thread.name.startswith("fieldmarks")])
"""


@pytest.mark.slow
def test_an_interrupt_leaves_no_thread_and_no_process(tmp_path: Path) -> None:
    path = _photo(tmp_path / "a.png", 300)
    program = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert pids
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert (program.returncode, out, err) == (0, "[]\n", "")
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists() and _state(pid) != "Z"] == []
