"""Processes that start warm: forks of one that has loaded what takes seconds to load.

    python -m tests.warm SOCKET     serves until its stdin ends

What it forks is a process as any other, with the arguments, the folder, the environment and the streams of
the program that asked for it, and runs the product's own code. It is for tests of what commands do; those of
how a process starts, or is struck by signals, start one by themselves.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TextIO

ROOT = Path(__file__).resolve().parents[1]
# Asks for a process with its own arguments, folder, environment and streams, and ends as that does.
CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect({address!r})
    about = json.dumps([{kind!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(asking, [len(about).to_bytes(4, "big")], [0, 1, 2])
    asking.sendall(about)
    code = asking.recv(1)
sys.exit(code[0] if code else 70)
"""


@contextmanager
def programs(folder: Path) -> Iterator[Path]:
    """Write the programs `fieldmarks` and `python` into a folder; they work until the block ends."""
    address = str(folder / "socket")
    for kind in ("fieldmarks", "python"):
        program = folder / kind
        program.write_text(f"#!{sys.executable} -IS\n{CLIENT.format(address=address, kind=kind)}")
        program.chmod(0o755)
    command = [sys.executable, "-m", "tests.warm", address]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as serving:
        assert serving.stdin
        assert serving.stdout
        assert serving.stdout.readline() == b"ready\n"
        try:
            yield folder
        finally:
            serving.stdin.close()


def _load() -> None:
    """Import what commands import, without computing anything: threads would not survive a fork."""
    import scipy.stats  # type: ignore[import-untyped]
    import torch
    import transformers

    from fieldmarks.cli import main

    main.import_all()
    assert torch, scipy
    for name in ("AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoImageProcessor", "CLIPModel"):
        getattr(transformers, name)


def _serve(address: str) -> None:
    _load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _wait_for_one(connection)
            connection.close()


def _wait_for_one(connection: socket.socket) -> NoReturn:
    """Start what is asked for in a process of its own, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as rest:
        kind, arguments, folder, environment = json.loads(rest.read(int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        held = _open_streams()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        _run(kind, arguments, held)
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    os._exit(0)


def _open_streams() -> tuple[TextIO, ...]:
    """Open the standard streams anew, to be held: one that is dropped closes what a later one writes to.

    The old ones know whether what was there before could be sought in.
    """
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    return sys.stdin, sys.stdout, sys.stderr


def _run(kind: str, arguments: Sequence[str], held: tuple[TextIO, ...]) -> NoReturn:
    """Run the product's command, or the script of `python -c`, and end.

    What is to happen at the end happens, but the memory that is shared with the first process is not taken
    down piece by piece, for which it would have to be copied.
    """
    sys.path[0] = ""
    code: object = 0
    try:
        if kind == "fieldmarks":
            from fieldmarks.cli import main

            sys.argv = ["fieldmarks", *arguments]
            main(prog_name="fieldmarks")
        option, script = arguments
        assert option == "-c", arguments
        sys.argv = ["-c"]
        sys.modules["__main__"] = module = ModuleType("__main__")
        exec(compile(script, "<string>", "exec"), vars(module))
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    _serve(sys.argv[1])
