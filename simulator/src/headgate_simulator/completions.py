"""POST /v1/completions: the older interface, text in and text out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from headgate_simulator import answers, content, fields, tokens
from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiRequest, ApiResponse, EventStream, Frame

TOKENS_USUAL = 16
CHOICES_MAX = 128


def create(request: ApiRequest, _memory: Memory) -> ApiResponse | EventStream:
    """Complete every prompt `n` times."""
    body = request.body
    fields.check("completions", body)
    prompts = _prompts(body["prompt"])
    times = min(int(body.get("n") or 1), CHOICES_MAX)
    pairs = [(prompt, index) for prompt in prompts for index in range(times)]
    choices = [_choice(request, *pair, number) for number, pair in enumerate(pairs)]
    used = sum(map(tokens.count, prompts))
    made = sum(count for _, count in choices)
    usage = {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}
    base: dict[str, Any] = {
        "id": request.seed.make_id("cmpl-"),
        "object": "text_completion",
        "created": request.seed.created,
        "model": request.model,
        "system_fingerprint": "fp_simulator",
    }
    whole = [choice for choice, _ in choices]
    if body.get("stream"):
        asked = content.record(body.get("stream_options")).get("include_usage")
        return EventStream(_chunks(base, whole, usage if asked else None), used)
    return ApiResponse({**base, "choices": whole, "usage": usage}, tokens=used)


def _prompts(given: Any) -> list[str]:
    rows = cast(list[Any], given) if isinstance(given, list) else [given]
    if rows and isinstance(rows[0], int):
        return [" ".join(map(str, rows))]
    return [row if isinstance(row, str) else " ".join(map(str, row)) for row in rows]


def _choice(
    request: ApiRequest, prompt: str, index: int, number: int
) -> tuple[dict[str, Any], int]:
    body = request.body
    limit = body.get("max_tokens")
    task = answers.Prompt(
        model="",
        seed=request.seed,
        user_text=prompt,
        tokens_max=TOKENS_USUAL if limit is None else limit,
        stops=content.strings(body.get("stop")),
    )
    completion = answers.complete(task, index)
    text = completion.text or completion.refusal or ""
    choice = {
        "index": number,
        "text": (prompt + text) if body.get("echo") else text,
        "logprobs": _logprobs(request, text) if body.get("logprobs") is not None else None,
        "finish_reason": "length" if completion.is_cut else "stop",
    }
    return choice, completion.visible_tokens


def _logprobs(request: ApiRequest, text: str) -> dict[str, Any]:
    split = tokens.split(text)
    scores = [-request.seed.draw("logprob", token).number(1000) / 1000 for token in split]
    return {
        "tokens": split,
        "token_logprobs": scores,
        "top_logprobs": [{token: score} for token, score in zip(split, scores, strict=True)],
        "text_offset": [index * tokens.TOKEN_CHARACTERS for index in range(len(split))],
    }


def _chunks(
    base: dict[str, Any], choices: list[dict[str, Any]], usage: dict[str, int] | None
) -> Iterator[Frame]:
    if usage is not None:
        base["usage"] = None
    for choice in choices:
        part = {"index": choice["index"], "logprobs": None, "finish_reason": None}
        for token in tokens.split(choice["text"]):
            yield None, {**base, "choices": [{**part, "text": token}]}
        end = {**part, "text": "", "finish_reason": choice["finish_reason"]}
        yield None, {**base, "choices": [end]}
    if usage is not None:
        yield None, {**base, "choices": [], "usage": usage}
    yield None, "[DONE]"
