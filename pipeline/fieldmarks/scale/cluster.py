"""Ray: connecting to a cluster, and what runs there.

Ray Data reads and decodes blocks in tasks and embeds them in actors, which hold the model. It limits what
waits between them, restarts what dies, and does a lost pass again. What comes back are embeddings; this
process alone writes the set, so the machines share no file system but for images and models that are named
by path.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, Final, TypeVar

from fieldmarks import __version__
from fieldmarks.classification.embedder import Encoder
from fieldmarks.classification.threads import cores, has_share, take_share
from fieldmarks.errors import ClusterError, FieldmarksError
from fieldmarks.extras import install
from fieldmarks.scale.notices import Messages, without_remarks
from fieldmarks.scale.passes import (
    Preprocessing,
    Row,
    Source,
    decoded,
    encoded,
    is_refusal,
    refusal,
    to_row,
)
from fieldmarks.scale.stalls import until_stalled

RAY: Final = "ray"
_LOCAL: Final = "local"  # Ray's word for a cluster that it starts
IN_MEMORY: Final = 32 * 2**20  # bytes of a part of Ray Data's stream
_CONNECT: Final = 10.0  # seconds
_STORE: Final = 2**30  # bytes of a local cluster's object store
# Of a CPU: without a GPU, decoding and encoding share the cores. The actors of a lost machine move to the
# others. With a real share of a CPU they could leave no room there for a reader, whose work they wait for.
_READER: Final = 0.5
_ACTOR: Final = 0.01
_AHEAD: Final = 2  # tasks of a CPU that are under way, so that none waits for the next one

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Workers:
    """How many processes work: `readers` decode, `actors` embed; 0 is as many as there are CPUs or GPUs."""

    actors: int = 0
    readers: int = 0


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as it is made on a worker, and the provenance that its embeddings must have."""

    model: str
    device: Any
    dtype: Any
    engine: Any
    provenance: Mapping[str, str]

    def open(self) -> Encoder:
        """Return the encoder. Raises ClusterError where this machine makes other embeddings."""
        encoder = Encoder(self.model, device=self.device, dtype=self.dtype, engine=self.engine)
        if self.provenance and encoder.provenance != dict(self.provenance):
            own = encoder.provenance
            differs = [key for key, value in self.provenance.items() if own.get(key) != value]
            raise ClusterError(
                f"it embeds differently from the first one, in {', '.join(differs)}: install the same model"
                " and packages on all workers, or pass --dtype and --engine"
            )
        return encoder


def address_of(on: str) -> str | None:
    """Return the address in "ray=ADDRESS", None for "ray", a cluster of this machine alone.

    Raises ClusterError for anything else.
    """
    name, _, address = on.partition("=")
    if name != RAY or on.endswith("="):
        raise ClusterError(f"expected --on ray or --on ray=ADDRESS, found {on!r}")
    return address or os.environ.get("RAY_ADDRESS") or None


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Give the module ray, connected to a cluster; one that was started here ends with this.

    Raises ClusterError where Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a thread of a job that ended connects to no other cluster
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise ClusterError(f"--on ray needs Ray: {install('ray')}") from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": _LOCAL, "object_store_memory": _STORE, "include_dashboard": False}
    else:
        options |= {"address": address}
    with redirect_stdout(Messages()):
        yield from _session(ray, options, address or "this machine")


def _session(ray: Any, options: Mapping[str, Any], where: str) -> Iterator[Any]:
    advice = "start one with `ray start --head`, or pass --on ray for this machine alone"
    try:
        if _is_listening(options["address"]):
            advice = (
                "something listens there: is it Ray of the same version, and does this process have its"
                " token (RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)?"
            )
        # A cluster that is started here would inherit what keeps remarks off.
        with nullcontext() if options["address"] == _LOCAL else without_remarks():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
        raise ClusterError(f"no Ray cluster at {where}: {_one_line(error)}; {advice}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _is_listening(address: str) -> bool:
    """Whether an address is HOST:PORT. Raises OSError where nothing listens; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return False
    socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    return True


def readers(ray: Any, workers: Workers) -> int:
    """Return how many processes will read, about."""
    return workers.readers or int(ray.cluster_resources().get("CPU", 1))


def embedded(
    ray: Any,
    sources: Sequence[Source],
    spec: EncoderSpec,
    preprocessing: Preprocessing,
    batch: int,
    workers: Workers,
) -> Iterator[Row]:
    """Yield the embedded passes of blocks, as they are done. Raises ClusterError, and what workers raise."""
    data = ray.data
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = IN_MEMORY
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # not that of its file
            handler.setLevel(logging.CRITICAL)  # an error is raised too
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    actors = workers.actors or int(ray.cluster_resources().get("GPU" if gpus else "CPU", 1))
    reading = data.TaskPoolStrategy(size=readers(ray, workers))
    items = [to_row(number, source) for number, source in enumerate(sources)]

    version = __version__

    class Actor(EncodingActor):
        """An actor without arguments: those would be in the object store, and could be lost with a node."""

        def __init__(self) -> None:
            super().__init__(spec, version)

    passes = (
        data.from_items(items, override_num_blocks=len(items))
        .map_batches(
            _Decoding(preprocessing, batch),
            batch_size=None,
            batch_format="pyarrow",
            compute=reading,
            num_cpus=1 if gpus else _READER,
        )
        .map_batches(
            Actor,
            batch_size=1,  # a pass; Ray asks for a number where there is a GPU
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=actors),
            num_cpus=0 if gpus else _ACTOR,  # a GPU limits actors, and readers need whole CPUs
            num_gpus=gpus,
        )
    )
    with _worker_errors(ray), ExitStack() as starting:
        starting.enter_context(without_remarks())
        tables = passes.iter_batches(batch_size=None, batch_format="pyarrow")
        for table in until_stalled(iter(tables), partial(_machines, ray)):
            starting.close()
            for row in table.to_pylist():
                if is_refusal(row):
                    raise ClusterError(row["problem"])
                yield row


def _machines(ray: Any) -> int:
    return sum(node["Alive"] for node in ray.nodes())


def spread(
    ray: Any, function: Callable[[Any, Item], Result], shared: Any, items: Iterable[Item]
) -> Iterator[tuple[int, Result]]:
    """Yield the numbers of items with function(shared, item), as they are done, each a task of one CPU.

    `shared` is sent to a machine once, and unpickled by a process once. A task whose worker or machine is
    lost is repeated; no more are under way than keep the cluster busy. Raises ClusterError, and what workers
    raise.
    """
    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_with_shared)
    numbers: dict[Any, int] = {}
    check_versions(ray)
    with _worker_errors(ray):
        reference = [ray.put(shared)]  # in a list, so that tasks are given the reference and not the value
        waiting = enumerate(items)
        while True:
            most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
            for number, item in islice(waiting, max(0, most - len(numbers))):
                numbers[task.remote(__version__, function, reference, item)] = number
            if not numbers:
                return
            (done, *_), _ = ray.wait([*numbers], num_returns=1)
            yield numbers.pop(done), ray.get(done)


def _with_shared(version: str, function: Callable[[Any, Any], Any], reference: list[Any], item: Any) -> Any:
    with _named():
        _check_version(version)
    if not has_share():
        take_share(cores())  # this task was given one
    key = reference[0].hex()
    if key not in _shared:
        _shared.clear()  # of another run, whose objects are gone
        _shared[key] = import_module("ray").get(reference[0])
    return function(_shared[key], item)


_shared: dict[str, Any] = {}  # what this worker has unpickled


def _check_version(expected: str) -> None:
    """Raise ClusterError on a worker with another version of fieldmarks than the command's."""
    if __version__ != expected:
        raise ClusterError(f"it has fieldmarks {__version__}, not {expected}: install the same version")


def check_versions(ray: Any) -> None:
    """Raise ClusterError for a machine of the cluster without this version of fieldmarks, before it works.

    What a machine gets later cannot even be unpickled where a name in it is not the same there.
    """

    def version() -> str:  # travels as code, not as a name in a package that may be missing
        return str(import_module("fieldmarks").__version__)

    nodes = _working(ray)
    answers = [_ask(ray, node, version) for node in nodes]
    for node, answer in zip(nodes, answers, strict=True):
        name = f"the worker {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        with _worker_errors(ray, name):
            found = ray.get(answer)
        if found != __version__:
            raise ClusterError(f"{name} has fieldmarks {found}, not {__version__}: install the same version")


def agreed(ray: Any, spec: EncoderSpec) -> EncoderSpec:
    """Return an encoder with the precision and engine that the first worker of a cluster chooses for it.

    Every machine that will embed is asked, so that one which differs is refused before the work begins.
    Raises ClusterError for such a worker, or one with another version of fieldmarks, ModelError for a model
    that is not there.
    """
    check_versions(ray)
    nodes = _working(ray)
    on_gpus = [node for node in nodes if node["Resources"].get("GPU")]
    first, *others = on_gpus or nodes
    with _worker_errors(ray):
        provenance = ray.get(_ask(ray, first, _probe, spec, gpus=bool(on_gpus)))
        agreed = replace(spec, dtype=provenance["dtype"], engine=provenance["engine"], provenance=provenance)
        ray.get([_ask(ray, node, _probe, agreed, gpus=bool(on_gpus)) for node in others])
    return agreed


def _working(ray: Any) -> list[Any]:
    """Return the machines of a cluster that can work."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    working = [node for node in nodes if node["Resources"].get("CPU") or node["Resources"].get("GPU")]
    if not working:
        raise ClusterError("no machine of the cluster has a CPU or GPU to work with: see `ray status`")
    return working


def _ask(ray: Any, node: Any, function: Callable[..., Any], *given: Any, gpus: bool = False) -> Any:
    """Return the reference to what a function returns on a machine, or on another where that one is lost."""
    affinity = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    where = affinity(node["NodeID"], soft=True)
    cpus = _ACTOR if node["Resources"].get("CPU") else 0
    task = ray.remote(num_cpus=cpus, num_gpus=int(gpus), scheduling_strategy=where)(function)
    return task.remote(*given)


def _probe(spec: EncoderSpec) -> Mapping[str, str]:
    with _named():
        return spec.open().provenance


@contextmanager
def _named() -> Iterator[None]:
    """Raise what a worker raises as a ClusterError with the name of its machine."""
    try:
        yield
    except Exception as error:  # whatever the libraries of a model raise
        raise ClusterError(f"the worker {_machine()}: {_told(error)}") from error


def _told(error: Exception) -> str:
    if isinstance(error, FieldmarksError):
        return str(error)
    problem = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    remedy = "install what fieldmarks needs there" if isinstance(error, ImportError) else "run it again"
    return f"{problem}; {remedy}"


def _machine() -> str:
    return f"{os.uname().nodename} ({import_module('ray').util.get_node_ip_address()})"


class _Decoding:
    """What a task does with a block: a table of one row becomes one of passes, one at a time.

    What it cannot do is a refusal among them, as Ray Data does not keep what caused an error.
    """

    def __init__(self, preprocessing: Preprocessing, size: int) -> None:
        self._preprocessing = preprocessing
        self._size = size
        self._version = __version__

    def __call__(self, table: Any) -> Iterator[Any]:
        try:
            with _named():
                _check_version(self._version)
                for row in table.to_pylist():
                    for part in decoded(row, self._preprocessing, self._size):
                        yield _table([part])
        except ClusterError as error:
            yield _table([refusal(str(error))])


class EncodingActor:
    """A process that holds the model and embeds passes; one that cannot answers with a refusal."""

    def __init__(self, spec: EncoderSpec, version: str) -> None:
        self._encoder: Encoder | None = None
        try:
            with _named():
                _check_version(version)
                self._encoder = spec.open()
        except ClusterError as error:
            self._problem = str(error)

    def __call__(self, table: Any) -> Any:
        return _table([self._embedded(row) for row in table.to_pylist()])

    def _embedded(self, row: Row) -> Row:
        if self._encoder is None:
            return encoded(refusal(self._problem), None)
        try:
            with _named():
                return encoded(row, self._encoder)
        except ClusterError as error:
            return encoded(refusal(str(error)), None)


def _table(rows: Sequence[Row]) -> Any:
    arrow = import_module("pyarrow")
    types = {"problem": arrow.string(), "items": arrow.large_binary(), "pixels": arrow.large_binary()}
    types |= {"vectors": arrow.large_binary()}
    columns = {key: arrow.array([row[key] for row in rows], types.get(key)) for key in rows[0]}
    return arrow.table(columns)


@contextmanager
def _worker_errors(ray: Any, name: str = "a worker") -> Iterator[None]:
    """Raise what a worker raised: our own errors as they are, all else as a ClusterError in one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        causes = list(_causes(error))
        raised = [cause for cause in causes if not isinstance(cause, ray.exceptions.RayError)]
        own = next((cause for cause in raised if isinstance(cause, FieldmarksError)), None)
        if own is not None:
            raise type(own)(str(own)) from error
        missing = next((cause for cause in raised if isinstance(cause, ImportError)), None)
        if missing is not None:
            raise ClusterError(
                f"{name} cannot import what it needs ({missing}): install fieldmarks there"
            ) from error
        said = next((cause for cause in causes if isinstance(cause, ray.exceptions.RayError)), error)
        raise ClusterError(
            f"Ray gave up: {_one_line(said)}; run the same command again to continue"
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [getattr(cause, "cause", None), cause.__cause__, cause.__context__]


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
