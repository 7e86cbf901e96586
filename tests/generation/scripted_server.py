"""A loopback HTTP server that behaves as a script says: well, slowly, wrongly, or like a known product."""

import asyncio
import gzip
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

USAGE = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}


@dataclass(frozen=True)
class Call:
    """One request as the server got it; `number` counts from 1, `at` is monotonic seconds."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def text(self) -> str:
        """Everything the model would read."""
        messages = self.body.get("messages", [])
        return str(self.body.get("prompt") or "\n".join(message["content"] for message in messages))


@dataclass(frozen=True)
class Reply:
    """What the server does with a call."""

    body: Any = None  # bytes go out as they are, anything else as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the first byte
    drip: bool = False  # one byte a write
    reset_after: int | None = None  # bytes of the body, then the connection is reset
    packed: bool = False  # gzip

    def data(self) -> bytes:
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return gzip.compress(raw) if self.packed else raw


Script = Callable[[Call], Reply]


def completion(text: str, finish_reason: str = "stop", **more: Any) -> Reply:
    """A reply of /v1/completions."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    return Reply({"id": "c", "object": "text_completion", "choices": [choice], "usage": USAGE}, **more)


def chat(text: str | None, finish_reason: str = "stop", **message: Any) -> Reply:
    """A reply of /v1/chat/completions."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    return Reply({"id": "c", "object": "chat.completion", "choices": [choice], "usage": USAGE})


def refusal(status: int, message: str, **error: Any) -> Reply:
    """An error as OpenAI words it."""
    return Reply({"error": {"message": message, **error}}, status)


def marks(_: Call) -> Reply:
    """The well-behaved base model: goes on after the forced dash."""
    return completion(" green skin\n- large round eyes\n- long legs\n")


class ScriptedServer:
    """Serves a script on a free loopback port, in a thread of its own.

    `calls` holds what came, `connections` counts.
    """

    def __init__(self, script: Script = marks, *, port: int = 0) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.connections = 0
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self.serve())
        self._loop.close()

    async def serve(self) -> None:
        """Serve until stopped."""
        server = await asyncio.start_server(self._converse, "127.0.0.1", self._port, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while call := await self._read(reader):
                reply = self.script(call)
                await asyncio.sleep(reply.delay)
                if not await _write(writer, reply):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> Call | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split(" ")[1]
        call = Call(len(self.calls) + 1, path, headers, json.loads(body or b"{}"), time.monotonic())
        self.calls.append(call)
        return call


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Send a reply; False where the connection is to be left."""
    data = reply.data()
    packed = {"Content-Encoding": "gzip"} if reply.packed else {}
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **packed,
        **reply.headers,
    }
    head = f"HTTP/1.1 {reply.status} Scripted\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    if reply.reset_after is not None:
        writer.write(head.encode() + b"\r\n" + data[: reply.reset_after])
        await writer.drain()
        _reset(writer)
        return False
    whole = head.encode() + b"\r\n" + data
    for part in [whole[i : i + 1] for i in range(len(whole))] if reply.drip else [whole]:
        writer.write(part)
        await writer.drain()
        if reply.drip:
            await asyncio.sleep(0)
    return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST rather than FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def _begun(call: Call) -> str:
    """The text of a last message that is the assistant's, else nothing."""
    last = call.body["messages"][-1]
    return str(last["content"]) if last["role"] == "assistant" else ""


CONTINUED = " green skin\n- large round eyes\n- long legs"
FRESH = "Sure, here are useful features:\n\n- green skin\n- large round eyes\n- long legs\n\nAnything else?"


def like_openai(call: Call) -> Reply:
    """No raw completions, no continuing, `max_completion_tokens` and the usual temperature only."""
    if call.path.endswith("/v1/completions"):
        return refusal(404, "This is a chat model and not supported in the v1/completions endpoint.")
    if unknown := {"continue_final_message", "add_generation_prompt"} & call.body.keys():
        return refusal(400, f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
    if any("prefix" in message for message in call.body["messages"]):
        return refusal(400, "Unknown parameter: 'messages[1].prefix'.")
    if "max_tokens" in call.body:
        return refusal(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    if call.body.get("temperature", 1) != 1:
        return refusal(400, "Unsupported value: 'temperature' does not support 0 with this model.")
    return chat(FRESH)


def like_vllm_chat(call: Call) -> Reply:
    """A chat-only vLLM: continues with both of its flags, else begins anew."""
    if call.path.endswith("/v1/completions"):
        return refusal(404, "Not Found")
    flags = call.body.get("continue_final_message") is True, call.body.get("add_generation_prompt") is False
    return chat(CONTINUED if all(flags) and _begun(call) else FRESH)


def like_vllm(call: Call) -> Reply:
    """An instruct model behind vLLM: raw completions go on too."""
    return completion(CONTINUED) if call.path.endswith("/v1/completions") else like_vllm_chat(call)


def like_llama_cpp(call: Call) -> Reply:
    """Raw completions, and a last assistant message continued; a thinking template refuses that."""
    if call.path.endswith("/v1/completions"):
        return completion(CONTINUED)
    thinking = call.body.get("chat_template_kwargs", {}).get("enable_thinking", True)
    if _begun(call) and thinking:
        return refusal(400, "Assistant response prefill is incompatible with enable_thinking.")
    return chat(CONTINUED if _begun(call) else FRESH)


def like_mistral(call: Call) -> Reply:
    """No raw completions; unknown fields are refused; `prefix` is continued and repeated."""
    if call.path.endswith("/v1/completions"):
        return Reply({"detail": "Not Found"}, 404)
    if extra := {"continue_final_message", "add_generation_prompt", "seed"} & call.body.keys():
        detail = [
            {
                "type": "extra_forbidden",
                "loc": ["body", sorted(extra)[0]],
                "msg": "Extra inputs are not permitted",
            }
        ]
        return Reply({"object": "error", "message": {"detail": detail}}, 422)
    if _begun(call) and not call.body["messages"][-1].get("prefix"):
        return refusal(
            400, "Expected last role User or Tool (or Assistant with prefix True) but got assistant"
        )
    return chat(_begun(call) + CONTINUED if _begun(call) else FRESH)


def like_ollama_chat(call: Call) -> Reply:
    """Raw completions go through the chat template; unknown fields are ignored; a last message is
    continued.
    """
    if call.path.endswith("/v1/completions"):
        return completion(FRESH)
    flagged = "continue_final_message" in call.body or "prefix" in call.body["messages"][-1]
    return chat(CONTINUED if _begun(call) and not flagged else FRESH)


def like_claude(call: Call) -> Reply:
    """No raw completions; a last assistant message is refused by later models."""
    if call.path.endswith("/v1/completions"):
        return refusal(404, "not found")
    if _begun(call):
        return refusal(400, "This model does not support assistant message prefill.")
    return chat(FRESH)


def main() -> None:
    """Serve the well-behaved script as a program: prints its URL, takes the least and most seconds waited."""
    least, most = map(float, sys.argv[1:3])
    reply = marks(Call(0, "", {}, {}, 0.0))
    server = ScriptedServer(lambda _: Reply(reply.body, delay=random.uniform(least, most)))
    with server:
        print(server.url, flush=True)
        sys.stdin.read()  # until the parent leaves


if __name__ == "__main__":
    main()
