"""The run file: answers that are paid for but not yet in the store, and which process is asking what.

It is STORE.run, next to its store, and exists during a run and for as long as it holds answers of incomplete
classes. It is JSONL with three kinds of lines, appended under the store's lock. K, the key of a question, is
32 hex digits that identify a class, its rendered prompt, its model and its parameters.

    {"claim": K, "class", "owner": {"host", "pid", "started", "run"}, "at"}   before a request is sent
    {"answer": text, "key": K, "class", "sample": n, "finish_reason", "usage", "mode", "at"}   as it arrives
    {"end": K, "as": "stored" | "failed" | "released", "reason", "at"}   the claim is over

The last claim or end of a question is the current one. A host is a name, a boot and a namespace of process
ids: containers may share the first two and see different processes. A claim is void if its owner is a dead
process on this host. If its owner cannot be seen from here, it is void once it is older than twice a
request's timeout, or dated that far in the future; owners renew their claims.
Answers before an end "stored" are in the store. Each refresh reads only what was appended since the last.

A file that holds anything else is not ours: it is refused, and never written. An incomplete last line, which
a crash can leave, is ignored, and the next append cuts it off.
"""

import os
import secrets
import socket
import stat
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from fieldmarks.errors import StoreError
from fieldmarks.generation.question import Sample
from fieldmarks.records import now
from fieldmarks.store import durable

STORED: Final = "stored"
FAILED: Final = "failed"
RELEASED: Final = "released"
MAX_LINE: Final = 8 << 20  # bytes, as in a store


@dataclass(frozen=True, slots=True)
class Owner:
    """Identifies a run: its process, and a token, as a process may have several runs.

    Run files of earlier versions hold only the host's name, which counts as another host.
    """

    host: str
    pid: int
    started: str
    run: str

    @classmethod
    def here(cls) -> "Owner":
        """Return a new owner in this process."""
        pid = os.getpid()
        return cls(_host(), pid, process_start(pid) or "", secrets.token_hex(4))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Owner":
        """Read an owner from a claim; a part that is missing or mistyped matches no process."""
        pid = value.get("pid")
        texts = (str(value.get(part, "")) for part in ("host", "started", "run"))
        host, started, run = texts
        return cls(host, pid if type(pid) is int else -1, started, run)


@dataclass(slots=True)
class Pending:
    """The run file's record of one question."""

    name: str = ""  # the class
    owner: Owner | None = None  # of the current claim
    claimed_at: float = 0.0  # seconds since the epoch
    answers: list[Mapping[str, Any]] = field(default_factory=list)  # not in the store yet
    failure: str | None = None  # why the last request for it failed
    failed_at: int = -1  # offset in the file


class RunFile:
    """The run file of a store. Methods that write are called with the store's lock held."""

    def __init__(self, store: Path, lifetime: float) -> None:
        """Set the store, and the seconds after which a claim of another host expires."""
        self.path = store.with_name(f"{store.name}.run")
        self.owner = Owner.here()
        self._real = Path(os.path.realpath(store))
        self._real = self._real.with_name(f"{self._real.name}.run")
        self._lifetime = lifetime
        self._questions: dict[str, Pending] = {}
        self._end = 0  # bytes read
        self._identity: tuple[int, int] | None = None
        self._alive: dict[Owner, bool] = {}
        self._began: int | None = None  # where the file ended when it was first read

    def refresh(self) -> None:
        """Read what was appended since the last time. Raises StoreError for a file that is not a run file."""
        self._alive.clear()
        try:
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(self._real.lstat().st_mode):  # nor a link: its target is not ours
                    raise self._foreign("it is not a regular file")
                fd = os.open(self._real, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    self._read(fd)
                finally:
                    os.close(fd)
                return
            self._forget()
        except OSError as error:
            raise durable.unreadable(self.path, error) from error
        finally:
            if self._began is None:
                self._began = self._end

    def append(self, lines: Sequence[Mapping[str, Any]], *, sync: bool = True) -> None:
        """Append lines with one write, and one fsync if `sync`. Raises StoreError if the disk refuses."""
        if not lines:
            return
        begins = self._identity is None
        try:
            status = durable.append(self._real, self._end, _encoded(lines), sync=sync)
        except OSError as error:
            raise durable.unwritable(self.path, error) from error
        if begins and sync:
            durable.sync_folder(self._real.parent)
        self._identity = (status.st_dev, status.st_ino)
        for line in lines:
            self._take(line)
        self._end = status.st_size

    def samples(self, key: str) -> list[Sample]:
        """Return the answers to a question that are not in the store yet, in the order they came."""
        known = self._questions.get(key)
        samples = map(Sample.from_dict, known.answers) if known else ()
        return [sample for sample in samples if sample is not None]

    def is_claimed(self, key: str) -> bool:
        """Whether another run is asking a question now."""
        known = self._questions.get(key)
        if known is None or known.owner is None or known.owner == self.owner:
            return False
        return self._is_live(known.owner, known.claimed_at)

    def claimant(self, key: str) -> str:
        """Return who has claimed a question, and until when if it cannot be seen from here; "" for nobody."""
        known = self._questions.get(key)
        if known is None or known.owner is None:
            return ""
        owner = known.owner
        who = f"process {owner.pid} on {owner.host.partition('/')[0]}"
        if self._can_look(owner):
            return who
        until = datetime.fromtimestamp(known.claimed_at + self._lifetime).astimezone()
        return f"{who}, until {until:%H:%M:%S} unless it renews its claim"

    def failure(self, key: str) -> str | None:
        """Return why another run failed on a question since this one began, or None."""
        known = self._questions.get(key)
        return known.failure if known and known.failed_at >= (self._began or 0) else None

    def pending(self) -> list[tuple[str, str, set[str]]]:
        """Return K, class and texts of the questions with answers that are not in the store yet."""
        return [
            (key, known.name, {answer["answer"] for answer in known.answers})
            for key, known in self._questions.items()
            if known.answers
        ]

    def close(self) -> int:
        """End this run's claims, and remove the file if nothing in it is pending.

        Returns how many answers it keeps for a later run.
        """
        waiting = [answer for known in self._questions.values() for answer in known.answers]
        if any(self.is_claimed(key) for key in self._questions):
            mine = (key for key, known in self._questions.items() if known.owner == self.owner)
            self.append([end(key, RELEASED) for key in mine], sync=False)
        elif waiting:
            durable.replace(self._real, [_encoded(waiting)])
            self._forget()
        elif self._identity is not None:
            self._real.unlink(missing_ok=True)
            self._forget()
        return len(waiting)

    def exists(self) -> bool:
        """Whether anything exists at the run file's path."""
        return os.path.lexists(self._real)

    def _is_live(self, owner: Owner, claimed_at: float) -> bool:
        if not self._can_look(owner):
            return abs(time.time() - claimed_at) < self._lifetime
        if owner not in self._alive:
            self._alive[owner] = process_start(owner.pid) == owner.started
        return self._alive[owner]

    def _can_look(self, owner: Owner) -> bool:
        """Whether we can see if a claim's owner is alive; for other runs of this process we cannot."""
        here = self.owner
        same = (owner.pid, owner.started) == (here.pid, here.started)
        return owner.host == here.host and not same and not _is_hidden(owner.pid)

    def _forget(self) -> None:
        self._questions, self._end, self._identity = {}, 0, None
        if self._began is not None:
            self._began = 0

    def _read(self, fd: int) -> None:
        status = os.fstat(fd)
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity or status.st_size < self._end:
            self._forget()
            self._identity = identity
        first = self._end == 0
        with open(fd, "rb", closefd=False) as file:
            file.seek(self._end)
            number = 0
            while raw := file.readline(MAX_LINE + 1):
                number += 1
                if not raw.endswith(b"\n") and len(raw) <= MAX_LINE:
                    if self._end == 0:
                        raise self._foreign("its first line is incomplete")
                    break
                self._take(self._line(raw, number if first else None))
                self._end += len(raw)

    def _line(self, raw: bytes, number: int | None) -> Mapping[str, Any]:
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            line = None
        if not isinstance(line, dict) or not _is_ours(line):
            raise self._foreign(f"line {number} is of another kind" if number else "it was edited")
        return line

    def _take(self, line: Mapping[str, Any]) -> None:
        key = line.get("claim") or line.get("end") or line.get("key")
        known = self._questions.setdefault(str(key), Pending())
        known.name = str(line.get("class", known.name))
        if "answer" in line:
            known.answers.append(line)
        elif "claim" in line:
            own = line["owner"] is _owner_dict(self.owner)
            known.owner = self.owner if own else Owner.from_dict(line["owner"])
            known.claimed_at = seconds(str(line["at"]))
            known.failure = None
        else:
            known.owner = None
            if line["as"] == STORED:
                del self._questions[str(key)]  # the store has everything about it
            elif line["as"] == FAILED:
                known.failure, known.failed_at = str(line.get("reason", "")), self._end

    def _foreign(self, reason: str) -> StoreError:
        return StoreError(
            f"{self.path} exists and is not a run file of fieldmarks ({reason}); move it away to run"
        )


def claim(key: str, name: str, owner: Owner) -> dict[str, Any]:
    """Return the line that claims a question."""
    return {"claim": key, "class": name, "owner": _owner_dict(owner), "at": now()}


@cache
def _owner_dict(owner: Owner) -> dict[str, Any]:
    return asdict(owner)


def answer(key: str, name: str, sample: Sample) -> dict[str, Any]:
    """Return the line that saves an answer to a question."""
    return {"key": key, "class": name, "mode": sample.mode, **sample.to_dict(), "at": sample.at}


def end(key: str, how: str, reason: str | None = None) -> dict[str, Any]:
    """Return the line that ends a claim: "stored", "failed" with its reason, or "released"."""
    line = {"end": key, "as": how, "at": now()}
    return line if reason is None else line | {"reason": reason}


@lru_cache(maxsize=8)  # consecutive claims often have the same second
def seconds(text: str) -> float:
    """Return a line's time in seconds since the epoch; 0 for what is not a time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def process_start(pid: int) -> str | None:
    """Return when a process on this host started, in the system's own format; None if it is not running."""
    if pid <= 0:
        return None
    if _has_proc():
        try:
            status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return None
        fields = status.rpartition(")")[2].split()  # before it is the program's name
        return None if fields[0] in "ZX" else fields[19]  # a zombie is dead
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or None


@cache
def _host() -> str:
    """Return a name for this host that tells the processes visible here from all others.

    If /proc shows a different namespace than the process's own, the name is unique: no other process is
    visible.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    with suppress(OSError):
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            parts.append(secrets.token_hex(8))
    return "/".join(parts)


def _is_hidden(pid: int) -> bool:
    """Whether a process exists that /proc does not show, as it may hide those of other users."""
    if pid <= 0 or not _has_proc() or Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        pass
    return False


@cache
def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _encoded(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


def _is_ours(line: Mapping[str, Any]) -> bool:
    if "answer" in line:
        texts = isinstance(line["answer"], str) and isinstance(line.get("key"), str)
        return texts and type(line.get("sample")) is int
    if "claim" in line:
        return isinstance(line["claim"], str) and isinstance(line.get("owner"), dict) and "at" in line
    return isinstance(line.get("end"), str) and line.get("as") in (STORED, FAILED, RELEASED)
