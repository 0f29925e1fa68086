"""Answers and streams as the providers send them, for the tests of what reads them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import requests

from llm_guard.llm.usage import Usage


class Answer(NamedTuple):
    """A whole answer: its body, its text, and the tokens that it tells of."""

    source: str
    body: Any
    text: str = "Good day"
    usage: Usage | None = None


class Stream(NamedTuple):
    """A stream: its body, the pieces of its text, its word for the end, and the tokens that it tells of."""

    source: str
    body: bytes
    pieces: list[str]
    reason: str | None = None
    usage: Usage | None = None


def response(content: Any, status: int = 200, **headers: str) -> Any:
    """A response of requests that was read; anything else than bytes goes out as JSON."""
    made: Any = requests.Response()
    made.status_code = status
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    made._content = content if isinstance(content, bytes) else json.dumps(content).encode()
    made._content_consumed = True
    return made


def chat(message: dict[str, Any], reason: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]} | more


def anthropic_message(content: list[dict[str, Any]], reason: str = "end_turn") -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
            "stop_reason": reason, "stop_sequence": None,
            "usage": {"input_tokens": 12, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 2000,
                      "output_tokens": 5, "service_tier": "standard"}}


def gemini(parts: list[dict[str, Any]], reason: str = "STOP") -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}],
            "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 40,
                              "cachedContentTokenCount": 4, "totalTokenCount": 50},
            "modelVersion": "gemini-2.5-flash"}


RESPONSES_API: dict[str, Any] = {
    "id": "resp_1", "object": "response", "status": "completed", "error": None, "incomplete_details": None,
    "output": [
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "Good ", "annotations": []},
            {"type": "output_text", "text": "day", "annotations": []}]},
    ],
    "usage": {"input_tokens": 36, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 87,
              "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 123},
}

ANSWERS: list[Answer] = [
    Answer("HF text generation", [{"generated_text": "Good day"}]),
    Answer("HF several inputs", [[{"generated_text": "Good day"}], [{"generated_text": "Bye"}]]),
    Answer("TGI", {"generated_text": "Good day", "details": {
        "finish_reason": "length", "generated_tokens": 2, "seed": None, "prefill": [], "tokens": []}},
        usage=Usage(output=2)),
    Answer("HF summarization", [{"summary_text": "Good day"}]),
    Answer("HF summarization, bare", {"summary_text": "Good day"}),
    Answer("HF translation", [{"translation_text": "Good day"}]),
    Answer("HF translation, bare", {"translation_text": "Good day"}),
    Answer("HF question answering", {"answer": "Good day", "score": 0.9, "start": 1, "end": 9}),
    Answer("HF answers", [{"answer": "Good day", "score": 0.9}, {"answer": "Bye", "score": 0.1}]),
    Answer("HF conversational", {
        "generated_text": "Good day", "conversation": {"generated_responses": ["Hm", "Good day"]}, "warnings": []}),
    Answer("HF conversation alone", {"conversation": {"generated_responses": ["Hm", "Good day"]}}),
    Answer("OpenAI chat", chat(
        {"role": "assistant", "content": "Good day", "refusal": None, "annotations": []},
        usage={"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
               "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0}}), usage=Usage(19, 10, 29, 3)),
    Answer("DeepSeek", chat(
        {"role": "assistant", "content": "Good day", "reasoning_content": "hm"},
        usage={"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_cache_hit_tokens": 8,
               "prompt_cache_miss_tokens": 1}), usage=Usage(9, 1, 10, 8)),
    Answer("Mistral, thinking", chat({"role": "assistant", "content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Good "}, {"type": "text", "text": "day"}]})),
    Answer("OpenAI refusal", chat({"role": "assistant", "content": None, "refusal": "I will not"}), "I will not"),
    Answer("OpenAI chat, several", {"choices": [{"index": 0, "message": {"content": "Good day"}},
                                                {"index": 1, "message": {"content": "Bye"}}]}),
    Answer("OpenAI chat, a text beside a call", chat(
        {"content": "Good day", "tool_calls": [{"id": "c", "type": "function", "function": {}}]}, "tool_calls")),
    Answer("OpenAI chat, cut short", chat({"content": "Good day"}, "length")),
    Answer("OpenAI completions", {"object": "text_completion", "choices": [
        {"text": "Good day", "index": 0, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5}},
        usage=Usage(input=5)),
    Answer("OpenAI Responses", RESPONSES_API, usage=Usage(36, 87, 123, 8)),
    Answer("OpenAI Responses, refusal", RESPONSES_API | {"usage": None, "output": [
        {"type": "message", "content": [{"type": "refusal", "refusal": "I will not"}]}]}, "I will not"),
    Answer("OpenAI Responses, cut short", RESPONSES_API | {
        "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, usage=Usage(36, 87, 123, 8)),
    Answer("Anthropic", anthropic_message([{"type": "thinking", "thinking": "hm", "signature": "x"},
                                   {"type": "text", "text": "Good "}, {"type": "text", "text": "day"}]),
           usage=Usage(2112, 5, 2117, 2000)),
    Answer("Gemini", gemini([{"text": "hm", "thought": True}, {"text": "Good "}, {"text": "day"}]),
           usage=Usage(7, 43, 50, 4)),
    Answer("Cohere v2", {
        "id": "1", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Good day"}]},
        "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 418},
                  "tokens": {"input_tokens": 71.0, "output_tokens": 418.0}}}, usage=Usage(71, 418, 489)),
    Answer("Bedrock Converse", {
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "Good "}, {"text": "day"}]}},
        "stopReason": "end_turn", "metrics": {"latencyMs": 551},
        "usage": {"inputTokens": 30, "outputTokens": 628, "totalTokens": 668, "cacheReadInputTokens": 10,
                  "cacheWriteInputTokens": 0}}, usage=Usage(40, 628, 668, 10)),
    Answer("Ollama chat", {
        "model": "llama3.2", "message": {"role": "assistant", "content": "Good day"}, "done": True,
        "done_reason": "stop", "total_duration": 5, "load_duration": 2_500_000_000, "prompt_eval_count": 26,
        "eval_count": 298}, usage=Usage(26, 298, 324, load_seconds=2.5)),
    Answer("Ollama", {"model": "m", "response": "Good day", "done": True, "done_reason": "stop", "eval_count": 2},
           usage=Usage(output=2)),
    Answer("Replicate", {"id": "p", "status": "succeeded", "error": None, "logs": "", "output": "Good day"}),
    Answer("Replicate, in pieces", {"id": "p", "status": "succeeded", "error": "", "output": ["Good", " ", "day"]}),
    Answer("llama.cpp", {"content": "Good day", "stop": True, "stop_type": "eos", "tokens_evaluated": 14,
                         "tokens_predicted": 2}, usage=Usage(14, 2, 16)),
    Answer("an empty text is a text", [{"generated_text": ""}], ""),
    Answer("a score that is no number", [{"answer": "Good day", "score": float("nan")}]),
    Answer("Cohere v1's count", {"message": {"content": "Good day"}, "meta": {
        "tokens": {"input_tokens": 3, "output_tokens": 4}}}, usage=Usage(3, 4, 7)),
]


def sse(*events: Any, names: bool = False, end: str = "\n") -> bytes:
    """Server-sent events; with `names` each one has its type in front."""
    made = []
    for event in events:
        name = [f"event: {event['type']}"] if names else []
        made += [*name, f"data: {event if isinstance(event, str) else json.dumps(event)}", ""]
    return "".join(line + end for line in made).encode()


def ndjson(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def delta(content: Any, reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    delta = content if isinstance(content, dict) else {"content": content}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [
        {"index": index, "delta": delta, "finish_reason": reason}]} | more


def token(text: str, special: bool = False, **more: Any) -> dict[str, Any]:
    return {"index": 1, "token": {"id": 1, "text": text, "logprob": -0.1, "special": special},
            "generated_text": None, "details": None} | more


ANTHROPIC_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "content": [], "stop_reason": None, "usage": {
            "input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Good "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "day"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
     "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
]
RESPONSES_EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": RESPONSES_API | {"status": "in_progress", "output": [], "usage": None}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": []}},
    {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Good "},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "day"},
    {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Good day"},
    {"type": "response.completed", "response": RESPONSES_API},
]
COHERE_EVENTS: list[dict[str, Any]] = [
    {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Good "}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "day"}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {
        "billed_units": {"input_tokens": 21, "output_tokens": 124},
        "tokens": {"input_tokens": 186, "output_tokens": 124}}}},
]
OLLAMA_EVENTS: list[dict[str, Any]] = [
    {"model": "m", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": "Good "}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": "day"}, "done": False},
    {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
     "load_duration": 4_000_000, "prompt_eval_count": 26, "eval_count": 2},
]
GEMINI_EVENTS: list[dict[str, Any]] = [
    {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}], "role": "model"}, "index": 0}]},
    {"candidates": [{"content": {"parts": [{"text": "Good "}], "role": "model"}, "index": 0}],
     "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}},
    gemini([{"text": "day"}]),
]
GEMINI_USAGE = Usage(7, 43, 50, 4)
TWO = ["Good ", "day"]

STREAMS: list[Stream] = [
    Stream("OpenAI chat", b": keep-alive\n\n" + sse(
        delta({"role": "assistant", "content": ""}, usage=None), delta("Good "), delta("Bye", index=1), delta("day"),
        delta({}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 19, "completion_tokens": 2, "total_tokens": 21}}, "[DONE]"),
        TWO, "stop", Usage(19, 2, 21)),
    Stream("OpenAI chat, in parts", sse(
        delta([{"type": "thinking", "thinking": []}]), delta([{"type": "text", "text": "Good day"}]),
        delta("", "stop"), "[DONE]"), ["Good day"], "stop"),
    Stream("OpenAI chat, refusal", sse(delta({"content": None, "refusal": "I will "}), delta({"refusal": "not"}),
                                       delta({}, "stop"), "[DONE]"), ["I will ", "not"], "stop"),
    Stream("a look-alike without [DONE]", sse(delta("Good "), delta("day", "stop")), TWO, "stop"),
    Stream("a look-alike without a word for its end", sse(delta("Good "), delta("day"), "[DONE]"), TWO),
    Stream("Perplexity, with all of the text so far", sse(*(
        {"choices": [{"index": 0, "delta": {"content": piece}, "message": {"content": so_far},
                      "finish_reason": reason}]}
        for piece, so_far, reason in [("Good ", "Good ", None), ("day", "Good day", None), ("", "Good day", "stop")])),
        TWO, "stop"),
    Stream("a proxy that has the message at once", sse({"type": "ping"}, chat({"content": "Good day"}), "[DONE]"),
           ["Good day"], "stop"),
    Stream("Groq", sse(delta("Good day"), delta({}, "stop", x_groq={
        "id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}), "[DONE]"),
        ["Good day"], "stop", Usage(3, 2, 5)),
    Stream("Azure OpenAI", sse({"choices": [], "prompt_filter_results": []}, delta("Good day"), delta({}, "length"),
                               "[DONE]", end="\r\n"), ["Good day"], "length"),
    Stream("OpenAI completions", sse(*({"object": "text_completion", "choices": [
        {"text": text, "index": 0, "finish_reason": reason}]} for text, reason in [("Good ", None), ("day", "stop")]),
        "[DONE]"), TWO, "stop"),
    Stream("OpenAI Responses", sse(*RESPONSES_EVENTS, names=True), TWO, "completed", Usage(36, 87, 123, 8)),
    Stream("OpenAI Responses look-alike, without a status", sse(
        {"type": "response.output_text.delta", "delta": "Good day"}, {"type": "response.completed", "response": {}}),
        ["Good day"]),
    Stream("OpenAI Responses, refusal", sse(
        {"type": "response.refusal.delta", "delta": "I will not"},
        {"type": "response.completed", "response": {"status": "completed"}}), ["I will not"], "completed"),
    Stream("OpenAI Responses, cut short", sse(
        {"type": "response.output_text.delta", "delta": "Good day"},
        {"type": "response.incomplete", "response": {
            "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}}),
        ["Good day"], "max_output_tokens"),
    Stream("OpenAI Responses, cut short for no reason told", sse(
        {"type": "response.output_text.delta", "delta": "Good day"},
        {"type": "response.incomplete", "response": {"incomplete_details": None}}), ["Good day"]),
    Stream("Anthropic", sse(*ANTHROPIC_EVENTS, names=True), TWO, "end_turn", Usage(30, 15, 45, 5)),
    Stream("Anthropic, CR", sse(*ANTHROPIC_EVENTS, names=True, end="\r"), TWO, "end_turn", Usage(30, 15, 45, 5)),
    Stream("Anthropic look-alike, a text at a block's start and no word at the end", sse(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Good "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "day"}},
        {"type": "message_stop"}), TWO),
    Stream("Gemini", sse(*GEMINI_EVENTS, end="\r\n"), TWO, "STOP", GEMINI_USAGE),
    Stream("Gemini, a list over many lines", json.dumps(GEMINI_EVENTS, indent=2).encode(), TWO, "STOP", GEMINI_USAGE),
    Stream("Gemini, a list in one line", json.dumps(GEMINI_EVENTS).encode(), TWO, "STOP", GEMINI_USAGE),
    Stream("Cohere v2", sse(*COHERE_EVENTS, names=True), TWO, "COMPLETE", Usage(186, 124, 310)),
    Stream("Cohere, by the line", ndjson(*COHERE_EVENTS), TWO, "COMPLETE", Usage(186, 124, 310)),
    Stream("Cohere look-alike, no word at the end", ndjson(*COHERE_EVENTS[:-1], {"type": "message-end"}), TWO),
    Stream("TGI", b"".join(b"data:" + json.dumps(event).encode() + b"\n\n" for event in (
        token("Good "), token("day"), token("</s>", True, generated_text="Good day", details={
            "finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "input_length": 9}))),
        TWO, "eos_token", Usage(9, 3, 12)),
    Stream("TGI without details", sse(token("Good "), token("day", generated_text="Good day")), TWO),
    Stream("Ollama chat", ndjson(*OLLAMA_EVENTS), TWO, "stop", Usage(26, 2, 28, load_seconds=0.004)),
    Stream("Ollama", ndjson({"response": "Good ", "done": False}, {"response": "day", "done": False},
                            {"response": "", "done": True, "done_reason": "stop"}), TWO, "stop"),
    Stream("Ollama, older", ndjson({"response": "Good day", "done": False}, {"response": "", "done": True}),
           ["Good day"]),
    Stream("llama.cpp", sse({"index": 0, "content": "Good ", "stop": False},
                            {"index": 0, "content": "day", "stop": False},
                            {"index": 0, "content": "", "stop": True, "stop_type": "eos", "tokens_evaluated": 9,
                             "tokens_predicted": 2}), TWO, "eos", Usage(9, 2, 11)),
    Stream("llama.cpp, older", sse({"content": "Good day", "stop": False}, {"content": "", "stop": True}),
           ["Good day"]),
    Stream("Replicate", b"event: output\ndata: Good\n\nevent: output\ndata: \ndata: \n\n"
                        b"event: output\nid: 3\ndata: {\n\nevent: done\ndata: {}\n\n", ["Good", "\n", "{"]),
    Stream("Replicate, with a reason", b"event: output\ndata: Good\n\nevent: done\ndata: {\"reason\": \"stopped\"}\n\n",
           ["Good"], "stopped"),
    Stream("several lines of data, a BOM, fields of all kinds", b'\xef\xbb\xbfid: 1\nretry: 3000\nunknown: x\n:\n'
           b'data: {"choices": [{"delta":\ndata: {"content": "Good day"},\ndata: "finish_reason": "stop"}]}\n\n',
           ["Good day"], "stop"),
    Stream("no empty lines between the events", b"".join(sse(*ANTHROPIC_EVENTS, names=True).splitlines(True)).replace(
        b"\n\n", b"\n"), TWO, "end_turn", Usage(30, 15, 45, 5)),
    Stream("a stream in many languages", sse(delta("Dzień dobry, "), delta("добрый день, 你好 😀"), "[DONE]"),
           ["Dzień dobry, ", "добрый день, 你好 😀"]),
    Stream("the same, not escaped", 'data: {"response": "добрый день, 你好 😀", "done": true}\n\n'.encode(),
           ["добрый день, 你好 😀"]),
    Stream("a whole answer, as the server does not stream", json.dumps(chat({"content": "Good day"})).encode(),
           ["Good day"], "stop"),
    Stream("a whole answer over many lines", json.dumps(
        anthropic_message([{"type": "text", "text": "Good day"}]), indent=2).encode(), ["Good day"], None,
        Usage(2112, 5, 2117, 2000)),
    Stream("a whole answer in a list", b'[{"generated_text": "Good day"}]', ["Good day"]),
    Stream("no text and no reason", sse(delta({"role": "assistant", "content": ""}), delta({}, "stop"), "[DONE]"), [],
           "stop"),
]
