"""What is sent in each mode, and what is read from the replies."""

from typing import Any

import pytest

from fieldmarks.generation.dialects import (
    ASK_FOR_BULLETS,
    CONTINUE,
    INSTRUCT,
    MODES,
    PREFIX,
    TRAILING,
    BadReply,
    Quirks,
    adapted,
    body,
    completion,
    path,
)
from fieldmarks.generation.prompt import Prompt
from fieldmarks.generation.question import Question, Usage

ARTICLE = Prompt.load("article")
ASKED = "What are useful features for distinguishing a fox in a photo?"
BEGUN = "There are several useful visual features to tell there is a fox in a photo:\n-"
REQUEST = Question("fox", ARTICLE.render("fox"), ARTICLE.stop, max_tokens=50)
COMMON = {"model": "m", "max_tokens": 50, "temperature": 0.0}


def _user(text: str = ASKED) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _chat(text: Any, **message: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}]
    }


def test_raw_completions_send_the_prompt_as_it_is() -> None:
    assert path("completions") == "/completions"
    assert body("completions", "m", REQUEST) == {
        **COMMON,
        "stop": ["\n\n", "\nQ:"],
        "prompt": f"Q: {ASKED}\nA: {BEGUN}",
    }


@pytest.mark.parametrize(
    ("mode", "flags", "last"),
    [
        (CONTINUE, {"continue_final_message": True, "add_generation_prompt": False}, {}),
        (PREFIX, {}, {"prefix": True}),
        (TRAILING, {}, {}),
    ],
)
def test_chats_end_in_the_answers_beginning(mode: str, flags: dict[str, bool], last: dict[str, bool]) -> None:
    begun = {"role": "assistant", "content": BEGUN, **last}
    assert path(mode) == "/chat/completions"
    assert body(mode, "m", REQUEST) == {**COMMON, **flags, "stop": ["\nQ:"], "messages": [_user(), begun]}


def test_instruct_asks_for_bullets() -> None:
    sent = body(INSTRUCT, "m", REQUEST)
    assert sent["messages"] == [_user(f"{ASKED}\n{ASK_FOR_BULLETS}")]


def test_instruct_asks_for_no_bullets_where_sentences_are_wanted() -> None:
    prompt = Prompt.load("sentences")
    request = Question("fox", prompt.render("fox"), style=prompt.style)
    for mode in (INSTRUCT, TRAILING, PREFIX):
        sent = body(mode, "m", request)["messages"]
        assert [message["role"] for message in sent] == ["user"]
        assert ASK_FOR_BULLETS not in sent[0]["content"]


def test_worked_examples_become_a_conversation() -> None:
    request = Question("fox", Prompt.load("two-shot").render("fox"))
    assert [message["role"] for message in body(TRAILING, "m", request)["messages"]] == [
        "user",
        "assistant",
    ] * 3


def test_what_a_server_refuses_is_left_out() -> None:
    request = Question("fox", "x\n-", stop=("END",), seed=7)
    quirks = Quirks(completion_tokens=True, no_thinking=True, left_out=("temperature", "seed", "stop"))
    sent = body(TRAILING, "m", request, quirks)
    assert sent.keys() == {"model", "max_completion_tokens", "chat_template_kwargs", "messages"}
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert body("completions", "m", request)["seed"] == 7


def test_a_stream_is_asked_for_with_its_usage_unless_that_is_refused() -> None:
    sent = body(INSTRUCT, "m", REQUEST, Quirks(stream=True))
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    refused = "Unknown parameter: 'stream_options'"
    learned = adapted(Quirks(stream=True), sent, refused)
    assert learned == Quirks(stream=True, left_out=("stream_options",))
    assert "stream_options" not in body(INSTRUCT, "m", REQUEST, learned)
    assert adapted(learned, body(INSTRUCT, "m", REQUEST, learned), "'stream' must be false") is None


@pytest.mark.parametrize(
    ("refusal", "learned"),
    [
        (
            "Unsupported parameter: 'max_tokens'… Use 'max_completion_tokens' instead.",
            Quirks(completion_tokens=True),
        ),
        ("'temperature' does not support 0.0 with this model.", Quirks(left_out=("temperature",))),
        ("Unrecognized field: seed", Quirks(left_out=("seed",))),
        ("'stop' is not supported with this model", Quirks(left_out=("stop",))),
        ("Assistant response prefill is incompatible with enable_thinking.", Quirks(no_thinking=True)),
        ("Stream must be set to true", Quirks(stream=True)),
        ("This model only support stream mode, please enable the stream parameter", Quirks(stream=True)),
        ("An unexpected upstream error", None),
        ("The prompt is too long", None),
        ("seedling is no model", None),
    ],
)
def test_refusals_are_learned_from(refusal: str, learned: Quirks | None) -> None:
    sent = {"max_tokens": 5, "temperature": 0.0, "seed": 1, "stop": ["\nQ:"], "messages": []}
    assert adapted(Quirks(), sent, refusal) == learned
    if learned:
        assert adapted(learned, {"messages": []}, refusal) is None


@pytest.mark.parametrize(
    ("mode", "text", "whole", "continued"),
    [
        ("completions", " green\n- long", "- green\n- long", True),
        ("completions", f"Q: {ASKED}\nA: {BEGUN} green", "- green", True),  # echoed
        (CONTINUE, "green\n- long", "-green\n- long", True),
        (PREFIX, f"{BEGUN} green\n- long", "- green\n- long", True),  # repeated, as Mistral does
        (TRAILING, "- green\n- long", "- green\n- long", False),
        (TRAILING, "Sure, here are some:\n- green", "Sure, here are some:\n- green", False),
        (INSTRUCT, "- green", "- green", False),
        (INSTRUCT, "green", "green", False),
    ],
)
def test_the_forced_mark_is_put_back_where_it_was_continued(
    mode: str, text: str, whole: str, continued: bool
) -> None:
    reply = {"choices": [{"text": text}]} if mode == "completions" else _chat(text)
    answer = completion(mode, REQUEST, reply)
    assert (answer.text, answer.continued, answer.mode) == (whole, continued, mode)


def test_usage_and_reason_are_read() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    answer = completion(
        "completions", REQUEST, {"choices": [{"text": "a", "finish_reason": "length"}], "usage": usage}
    )
    assert (answer.finish_reason, answer.usage) == ("length", Usage(7, 3))
    odd_usages: list[Any] = [
        None,
        [],
        {"prompt_tokens": "7"},
        {"prompt_tokens": -1},
        {"prompt_tokens": 1 << 50},
        {},
    ]
    for wrong in odd_usages:
        odd = completion(
            "completions", REQUEST, {"choices": [{"text": "a", "finish_reason": 5}], "usage": wrong}
        )
        assert (odd.finish_reason, odd.usage) == (None, None)


@pytest.mark.parametrize(
    ("reply", "thinking"),
    [
        (_chat("- a", reasoning_content="hm"), True),
        (_chat("- a", reasoning="hm"), True),
        (_chat("<think>hm</think>- a"), True),
        (_chat("- a") | {"usage": {"completion_tokens_details": {"reasoning_tokens": 9}}}, True),
        (_chat("- a") | {"usage": {"completion_tokens_details": {"reasoning_tokens": 0}}}, False),
        (_chat("- a", reasoning_content=""), False),
        (_chat([{"type": "thinking", "thinking": []}, {"type": "text", "text": "- a"}]), False),
    ],
)
def test_thinking_is_seen_and_kept_out(reply: dict[str, Any], thinking: bool) -> None:
    answer = completion(INSTRUCT, REQUEST, reply)
    assert answer.thinking is thinking
    assert answer.text.endswith("- a")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "reply",
    [None, [], 5, "text", {}, {"choices": []}, {"choices": [None]}, {"choices": [{}]},
     {"choices": {"text": "a"}}, {"choices": [{"text": None, "message": None}]},
     {"choices": [{"text": 5, "message": {"content": 5}}]}],
)  # fmt: skip
def test_a_reply_of_another_form_is_told(mode: str, reply: Any) -> None:
    with pytest.raises(BadReply):
        completion(mode, REQUEST, reply)


def test_a_chat_without_content_is_an_empty_answer() -> None:
    assert completion(INSTRUCT, REQUEST, _chat(None)).text == ""


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"message": {"content": [{"type": "text", "text": "- a"}]}}, "- a", None),
        ({"message": {"content": ["- a", "\n- b"]}}, "- a\n- b", None),
        ({"message": {"content": [{"type": "output_text", "text": "- a"}, {"type": "image"}]}}, "- a", None),
        (
            {"message": {"content": [{"type": "reasoning", "text": "hm"}]}, "finish_reason": "length"},
            "",
            "length",
        ),
        ({"message": {"role": "assistant", "content": None}, "finish_reason": "length"}, "", "length"),
        ({"message": {"role": "assistant"}, "finish_reason": "length"}, "", "length"),
        ({"message": {"reasoning_content": "hm"}, "finish_reason": None}, "", None),
        ({"message": {"content": None, "tool_calls": [{}]}, "finish_reason": "tool_calls"}, "", "tool_calls"),
        (
            {"message": {"content": None, "refusal": "I can't."}, "finish_reason": "stop"},
            "I can't.",
            "refusal",
        ),
        ({"message": {"content": [{"type": "refusal", "refusal": "No."}]}}, "No.", "refusal"),
    ],
)
def test_an_answer_is_read_from_wherever_it_stands(
    choice: dict[str, Any], text: str, reason: str | None
) -> None:
    answer = completion(INSTRUCT, REQUEST, {"choices": [choice]})
    assert (answer.text, answer.finish_reason) == (text, reason)


def test_a_model_that_still_thinks_has_an_empty_answer_and_no_choice() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 24}
    answer = completion(TRAILING, REQUEST, {"choices": [], "usage": usage})
    assert (answer.text, answer.finish_reason, answer.thinking) == ("", "length", True)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"choices": []}, "no choice"),
        ({"choices": [{"message": {}}]}, "no text"),
        ({"choices": [{"message": {"content": 5}}]}, "not a text"),
        ({"choices": [{"message": {"content": "- a"}, "finish_reason": "error"}]}, "no reason given"),
        (
            {
                "choices": [
                    {"message": {"content": ""}, "finish_reason": "error", "error": {"message": "gone"}}
                ]
            },
            "with an error: gone",
        ),
        ([], "no choice"),
    ],
)
def test_what_is_no_complete_answer_is_said(reply: Any, words: str) -> None:
    with pytest.raises(BadReply, match=words):
        completion(TRAILING, REQUEST, reply)
