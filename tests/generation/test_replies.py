"""Replies are unpacked and joined as they come, and nothing a server sends makes them large."""

import asyncio
import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmarks.generation import replies
from fieldmarks.generation.failures import Refused, Transient

REPLY = {"choices": [{"text": " green skin", "finish_reason": "stop"}], "usage": {"prompt_tokens": 5}}
DATA = json.dumps(REPLY).encode()


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": _raw_deflate,
}


def _read(data: bytes, coding: str = "", *, size: int = 65536, streamed: bool = False) -> bytes:
    headers = {"content-encoding": coding} if coding else {}
    if streamed:
        headers["content-type"] = "text/event-stream; charset=utf-8"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return asyncio.run(replies.read(chunks(), headers))


def _stream(*events: Any, end: str = "\n\n", done: bool = True) -> bytes:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}{end}" for text in [*texts, *(["[DONE]"] if done else [])]).encode()


def _delta(content: str | None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": {**delta, **more}, "finish_reason": finish_reason}]}


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize(
    "layers", [*([name] for name in PACK), ["gzip", "gzip"], ["deflate", "gzip", "gzip"]]
)
def test_what_is_packed_is_unpacked(layers: list[str], size: int) -> None:
    data = DATA
    for layer in layers:
        data = PACK[layer](data)
    assert _read(data, ", ".join(layer.removeprefix("raw ") for layer in layers), size=size) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_bomb_is_refused_in_little_memory_and_time(coding: str, layers: int, streamed: bool) -> None:
    data = b": %s\n" % (b"x" * 997) * 20_000 if streamed else b" " * (100 << 20)
    for _ in range(layers):
        data = PACK[coding](data)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(Refused, match="larger than any answer"):
        _read(data, ", ".join([coding] * layers), streamed=streamed)
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert seconds < 20  # tracing is slow


def test_layers_that_unpack_to_nothing_are_bounded() -> None:
    nothing = b"\x00\x00\x00\xff\xff" * (64 << 20 // 5)  # empty blocks of deflate
    data = gzip.compress(gzip.compress(nothing))
    start = time.process_time()
    with pytest.raises((Refused, Transient)):
        _read(data, "deflate, gzip, gzip")
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("data", "coding", "failure"),
    [
        (b"x" * (1 << 20), "", None),
        (b"x" * ((1 << 20) + 1), "", "larger than any answer"),
        (gzip.compress(DATA, mtime=0)[:-9], "gzip", "gzip data is damaged"),
        (b"not packed at all", "gzip", "gzip data is damaged"),
        (DATA, "deflate", "deflate data is damaged"),
        (DATA, "br", "compressed as 'br', which was not asked for"),
        (DATA, "zstd\x1b" * 9, "compressed as 'zstd"),
        (DATA, ", ".join(["gzip"] * 4), "compressed too many times"),
        (b"", "gzip", None),
        (gzip.compress(DATA, mtime=0) + b"what follows", "gzip", None),
    ],
)
def test_what_cannot_be_unpacked_is_named(data: bytes, coding: str, failure: str | None) -> None:
    if failure is None:
        _read(data, coding)
    else:
        with pytest.raises((Refused, Transient), match=failure):
            _read(data, coding)


def test_a_length_beyond_the_bound_is_not_waited_for() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    with pytest.raises(Refused, match="larger than any answer"):
        asyncio.run(replies.read(chunks(), {"content-length": str(10 << 30)}))


CHAT = _stream(
    _delta(None, role="assistant"),
    _delta("- green"),
    _delta(" skin\n"),
    _delta(None, "stop"),
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
)


@pytest.mark.parametrize("size", [1, 5, 65536])
@pytest.mark.parametrize(
    "data",
    [
        CHAT,
        CHAT.replace(b"\n", b"\r\n"),
        CHAT.replace(b"\n\n", b"\n"),
        CHAT.replace(b"data: ", b"data:"),
        CHAT.replace(b"data: ", b"event: message\nid: 7\ndata: "),
        b": ping\n\n" + CHAT.replace(b"\n\n", b"\n\n: ping\n\n"),
        CHAT.removesuffix(b"data: [DONE]\n\n"),
        CHAT.removesuffix(b"data: [DONE]\n\n").removesuffix(b"\n\n"),
        CHAT + b'data: {"choices": [{"delta": {"content": "after the end"}}]}\n\n',
        CHAT.replace(b'{"choices": [], "usage"', b'{"choices": [],\ndata: "usage"'),
    ],
    ids=[
        "plain",
        "CRLF",
        "no blank lines",
        "no space",
        "event and id",
        "comments",
        "no DONE",
        "cut",
        "more",
        "two lines",
    ],
)
def test_a_streams_deltas_are_joined(data: bytes, size: int) -> None:
    assert orjson.loads(_read(data, size=size, streamed=True)) == {
        "choices": [
            {
                "text": "",
                "message": {"role": "assistant", "content": "- green skin\n"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
    assert orjson.loads(replies.joined(data) or b"") == orjson.loads(_read(data, streamed=True))


def test_raw_completions_are_joined_too() -> None:
    data = _stream(
        {"choices": [{"text": " green"}]}, {"choices": [{"text": " skin", "finish_reason": "length"}]}
    )
    choice = orjson.loads(_read(data, streamed=True))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (" green skin", "length")


def test_thoughts_other_choices_and_a_repeated_whole_stay_out() -> None:
    data = _stream(
        _delta(None, reasoning_content="hm"),
        _delta("- a"),
        {"choices": [{"index": 1, "delta": {"content": "another"}}]},
        {"choices": [{"index": 0, "message": {"content": "- a"}, "finish_reason": "stop"}]},
    )
    message = orjson.loads(_read(data, streamed=True))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "- a", "reasoning_content": "hm"}


def test_a_packed_stream_is_read() -> None:
    assert _read(gzip.compress(CHAT), "gzip", streamed=True) == _read(CHAT, streamed=True)


def test_a_reply_that_is_no_stream_in_spite_of_its_name_is_returned() -> None:
    assert orjson.loads(_read(json.dumps(REPLY, indent=1).encode(), streamed=True)) == REPLY
    assert replies.joined(DATA) is None
    assert _read(b"", streamed=True) == b""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (_stream(_delta("- green"), done=False), "ended before the answer did"),
        (_stream("{not json"), "not JSON"),
        (_stream('{"a": "' + "x" * (1 << 20) + '"}'), "larger than any answer"),
        (b"data: " + b"x" * (2 << 20), "larger than any answer"),
        (b"data: x\n" * 200_000, "larger than any answer"),
        (_stream(*[_delta("x" * 1000)] * 1100), "larger than any answer"),
        (b": ping\n\n" * (3 << 20), "larger than any answer"),
        (b"<p>\n" * (1 << 20), "larger than any answer"),
    ],
    ids=[
        "cut",
        "not json",
        "large event",
        "no line end",
        "no event end",
        "long answer",
        "pings",
        "no stream",
    ],
)
def test_a_broken_or_endless_stream_is_named(data: bytes, failure: str) -> None:
    with pytest.raises((Refused, Transient), match=failure):
        _read(data, streamed=True)


@pytest.mark.parametrize(
    "events",
    [
        [{"error": {"message": "overloaded", "code": 503}}],
        [_delta("- gre"), {"error": {"message": "overloaded", "code": 503}}],
    ],
)
def test_an_error_in_a_stream_is_the_reply(events: list[Any]) -> None:
    assert orjson.loads(_read(_stream(*events), streamed=True)) == {
        "error": {"message": "overloaded", "code": 503}
    }


def test_events_of_odd_types_are_passed_over() -> None:
    odd: list[Any] = [
        [],
        5,
        None,
        {"choices": None},
        {"choices": [None, 5, {"delta": 5}, {"delta": {"content": []}}]},
    ]
    data = _stream(*odd, _delta("- a", "stop"))
    assert orjson.loads(_read(data, streamed=True))["choices"][0]["message"]["content"] == "- a"


@pytest.mark.slow
@given(st.text(), st.lists(st.integers(1, 40), min_size=1), st.sampled_from(["\n\n", "\r\n\r\n", "\n"]))
def test_however_a_text_is_cut_into_deltas_and_chunks_it_comes_back(
    text: str, sizes: list[int], end: str
) -> None:
    text = text.encode("utf-8", "replace").decode()
    deltas = [_delta(text[i : i + sizes[0]]) for i in range(0, len(text), sizes[0])]
    data = _stream(*deltas, _delta(None, "stop"), end=end)
    joined = orjson.loads(_read(data, size=sizes[-1], streamed=True))
    assert joined["choices"][0]["message"]["content"] == text


@given(st.binary(max_size=500), st.booleans())
def test_no_bytes_are_another_error(data: bytes, streamed: bool) -> None:
    for coding in ("", "gzip", "deflate"):
        with suppress(Refused, Transient):
            _read(data, coding, streamed=streamed)


def test_an_errors_body_is_cut_and_its_damage_does_not_matter() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    body = asyncio.run(replies.read_error(chunks(), {}))
    assert 0 < len(body) <= replies.MAX_ERROR
    assert asyncio.run(replies.read_error(chunks(), {"content-encoding": "gzip"})) == b""
