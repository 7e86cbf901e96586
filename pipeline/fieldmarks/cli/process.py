"""The process that runs a command: standard streams that cannot break it, and signals that end it in order.

SIGINT and SIGTERM both unwind the command, so that temporary files go and what is finished stays. Commands
that install handlers of their own for a while, as `generate` does, get these back afterwards. Once the exit
code is decided, a further signal ends the process at once, without a word.
"""

import contextlib
import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED: Final = 130  # 128 + SIGINT, what shells expect
TERMINATED: Final = 143  # 128 + SIGTERM

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds as Ctrl-C does."""


def prepare() -> None:
    """Make the standard streams safe, and SIGINT and SIGTERM exceptions. Call it in the main thread."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be Unicode, nor a terminal UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = _Stderr(os.fdopen(2, "wb", closefd=False), "utf-8", "backslashreplace")
    elif isinstance(sys.stderr, io.TextIOWrapper) and not isinstance(sys.stderr, _Stderr):
        encoding = sys.stderr.encoding
        sys.stderr = _Stderr(sys.stderr.buffer, encoding, "backslashreplace", line_buffering=True)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, _terminate)):
        if signal.getsignal(number) != signal.SIG_IGN:  # as whoever started us may want it
            signal.signal(number, handler)
    sys.unraisablehook = _unraisable


def settle(code: int) -> None:
    """End the process at once, with `code`, at a signal from now on."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        os._exit(code)

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, leave)


def exit_code(error: BaseException | None) -> int:
    """Return the exit code of an interruption: 143 if SIGTERM is its cause, else 130."""
    while error is not None and not isinstance(error, Terminated):
        error = error.__cause__ or error.__context__
    return INTERRUPTED if error is None else TERMINATED


class _Stderr(io.TextIOWrapper):
    """A stderr that drops what it cannot write: a full disk under a log must not end the work it tells of."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _unraisable(unraisable: "UnraisableHookArgs") -> None:
    """Deliver again, a moment later, a signal that struck where exceptions are dropped, as in a finalizer."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        number = signal.SIGTERM if isinstance(unraisable.exc_value, Terminated) else signal.SIGINT
        threading.Timer(0.01, os.kill, [os.getpid(), number]).start()
    else:
        sys.__unraisablehook__(unraisable)


def _open_closed_streams() -> None:
    """Occupy closed standard streams, whose numbers the next opened file, a store, would get otherwise.

    Writing to a stdout that was closed fails, as it must; messages to a stderr that was closed are dropped.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # it gets the lowest number that is free: fd
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
