"""How long `fieldmarks --help` takes against a bare click program: `python tests/benchmarks/startup.py`."""

import statistics
import subprocess
import sys
import time

RUNS = 15
BARE = "import click\n@click.command()\ndef main(): 'Do nothing.'\nmain()"


def seconds(*command: str) -> float:
    """Return the wall time of one whole process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def pairs() -> list[tuple[float, float]]:
    """Run the two in turn, so that a drift of the machine's speed meets both alike."""
    return [
        (
            seconds(sys.executable, "-m", "fieldmarks", "--help"),
            seconds(sys.executable, "-c", BARE, "--help"),
        )
        for _ in range(RUNS + 1)
    ][1:]  # the first fills the disk cache


def main() -> None:
    """Print the two times and their ratio."""
    measured = pairs()
    ours, bare = (statistics.median(times) for times in zip(*measured, strict=True))
    ratio = statistics.median(ours / bare for ours, bare in measured)
    print(f"fieldmarks --help {ours:.3f} s, bare click {bare:.3f} s, ratio {ratio:.2f} (median of {RUNS})")


if __name__ == "__main__":
    main()
