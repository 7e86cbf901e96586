"""A function called in a process of its own, over two pipes: for work that holds Python's lock too long.

The process is an ordinary `python -c`, so that it does not run the caller's program again, and lives no
longer than its pipe: it ends when the caller closes it, and when the caller is killed. It is in a session of
its own and so hears no Ctrl-C. Requests and answers are pickled, by the same program on both ends; the
numbers of arrays travel beside the pickle and are read into their place without a copy.

    with WorkerProcess(prepare) as worker:
        worker(path)          # prepare(path), computed there; what it raises is raised here
"""

import os
import pickle
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, Final

from fieldmarks.errors import FieldmarksError

_START: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from fieldmarks.classification.worker_process import serve; serve()"
)
_COUNT: Final = struct.Struct("<q")
_PATIENCE: Final = 0.2  # seconds for a process that has nothing more to do to end by itself
# Those of the computing libraries would each start a thread per core in every process.
_ALONE: Final = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


class WorkerDiedError(Exception):
    """A process ended while it had work."""


class WorkerProcess:
    """A process that calls `function`, which must be picklable, as must be its arguments and results.

    It starts in the background: `is_ready` says when it takes work. To be used by one thread at a time.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ALONE,
            start_new_session=True,
        )
        self._ready = False
        with suppress(BrokenPipeError):  # the first call says it
            pickle.dump(sys.path, self._requests)
            _send(self._requests, function)

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether the process has started. Raises WorkerDiedError if it could not."""
        if not self._ready:
            if not select.select([self._answers], [], [], 0)[0]:
                return False
            self._received()
            self._ready = True
        return self._ready

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Return what the function returns, or raise what it raises. Raises WorkerDiedError."""
        if not self._ready:
            self._received()
            self._ready = True
        try:
            _send(self._requests, (args, keywords))
        except (OSError, ValueError) as error:  # the latter of a pipe that `close` closed
            raise WorkerDiedError(self._status()) from error
        result = self._received()
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """End the process; what it computes at the moment is lost."""
        with suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    @property
    def _requests(self) -> BinaryIO:
        assert self._process.stdin is not None
        return self._process.stdin  # type: ignore[return-value]

    @property
    def _answers(self) -> BinaryIO:
        assert self._process.stdout is not None
        return self._process.stdout  # type: ignore[return-value]

    def _received(self) -> Any:
        try:
            return _receive(self._answers)
        except (EOFError, OSError, ValueError) as error:
            raise WorkerDiedError(self._status()) from error

    def _status(self) -> str:
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def serve() -> None:
    """Answer the requests on stdin until there are no more: what the process does."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not belong among the answers
    try:
        function = _receive(requests)
        _send(answers, None)  # ready
        while True:
            args, keywords = _receive(requests)
            try:
                result = function(*args, **keywords)
            except FieldmarksError as error:
                result = error
            except Exception as error:  # which another library's class may keep from being pickled
                result = RuntimeError(repr(error))
            _send(answers, result)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the caller is gone, or wants no more


def _send(pipe: BinaryIO, value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts: list[bytes | memoryview] = [head, *(buffer.raw() for buffer in buffers)]
    sizes = [len(part) for part in parts]
    pipe.write(b"".join(map(_COUNT.pack, [len(sizes), *sizes])))
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _receive(pipe: BinaryIO) -> Any:
    (count,) = _COUNT.unpack(_read(pipe, _COUNT.size))
    sizes = [_COUNT.unpack(_read(pipe, _COUNT.size))[0] for _ in range(count)]
    head, *buffers = [_read(pipe, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def _read(pipe: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = pipe.readinto(view)  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        view = view[got:]
    return data
