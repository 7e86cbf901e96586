"""SIGTERM under load: every request that was accepted is answered, and the process ends."""

import http.client
import json
import threading
import time
from pathlib import Path

import pytest
from tests.serve.served import serving

pytestmark = pytest.mark.slow
MODEL = ("--dtype", "float32", "--engine", "torch", "--no-cache")


def test_no_accepted_request_is_lost(zoo: Path, demo_clip: Path) -> None:
    images = [(path.stem.rpartition("-")[0], path.read_bytes()) for path in sorted(zoo.glob("*.png"))]
    lost: list[object] = []
    answered = [0] * 16
    with serving("--store", str(zoo / "s.jsonl"), "--clip", str(demo_clip), *MODEL) as served:

        def client(number: int) -> None:
            at = number
            while True:
                label, data = images[at % len(images)]
                connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
                try:
                    connection.connect()
                except OSError:
                    return  # it takes no more connections
                try:
                    connection.request("POST", "/classify", data, {"Content-Type": "image/png"})
                    response = connection.getresponse()
                    line = json.loads(response.read())
                except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                    if stopping.is_set():
                        return  # it lay in the kernel's queue and was not accepted
                    lost.append("reset")
                    return
                except Exception as error:
                    lost.append(error)
                    return
                finally:
                    connection.close()
                if response.status != 200 or line["label"] != label:
                    lost.append((response.status, line))
                answered[number] += 1
                at += 1

        stopping = threading.Event()
        threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while sum(answered) <= 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        stopping.set()
        code, shown = served.stop()
        for thread in threads:
            thread.join(60)
    assert lost == []
    assert sum(answered) > 50
    assert code == 143
    assert f"Classified {sum(answered):,} images." in shown
