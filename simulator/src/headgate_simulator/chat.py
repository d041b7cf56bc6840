"""POST /v1/chat/completions: the answer, whole or in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from headgate_simulator import answers, content, fields, media, model_limits, tokens
from headgate_simulator.memory import Memory, StoredAnswer
from headgate_simulator.messages import ApiRequest, ApiResponse, EventStream, Frame, invalid_value

CHOICES_MAX = 128
_AUDIO_TTL_SECONDS = 3600
_AUDIO_TOKENS_PER_TOKEN = 2


def create(request: ApiRequest, memory: Memory) -> ApiResponse | EventStream:
    """Answer a chat completion, and store it when `store` is set."""
    body = request.body
    fields.check("chat", body)
    model_limits.check_chat(body)
    messages = content.rows(body["messages"])
    if not messages:
        raise invalid_value(
            "messages", "Invalid 'messages': empty array or not an array of objects."
        )
    prompt = _read(request, messages)
    completions = [answers.complete(prompt, index) for index in range(_choices(body))]
    choices = [ChatChoice(request, each, index) for index, each in enumerate(completions)]
    usage = _usage(body, messages, choices)
    answer: dict[str, Any] = {
        "id": request.seed.make_id("chatcmpl-"),
        "object": "chat.completion",
        "created": request.seed.created,
        "model": request.model,
        "choices": [choice.whole() for choice in choices],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
    }
    if body.get("store"):
        answer["metadata"] = body.get("metadata") or {}
        memory.chats.put(answer["id"], StoredAnswer(answer, messages))
    if body.get("stream"):
        return EventStream(_chunks(body, answer, choices), usage["prompt_tokens"])
    return ApiResponse(answer, tokens=usage["prompt_tokens"])


def _choices(body: dict[str, Any]) -> int:
    n = body.get("n") or 1
    if not isinstance(n, int) or not 1 <= n <= CHOICES_MAX:
        raise invalid_value("n", f"Invalid 'n': expected an integer from 1 to {CHOICES_MAX}.")
    return n


def _read(request: ApiRequest, messages: list[content.Item]) -> answers.Prompt:
    body = request.body
    return answers.Prompt(
        model=request.model,
        seed=request.seed,
        user_text=content.last_user_text(messages),
        answers_tool=messages[-1].get("role") in ("tool", "function"),
        tools=[_tool(tool) for tool in content.rows(body.get("tools"))],
        choice=_tool_choice(body.get("tool_choice")),
        parallel=body.get("parallel_tool_calls") is not False,
        shape=_shape(body.get("response_format")),
        effort=body.get("reasoning_effort"),
        tokens_max=body.get("max_completion_tokens") or body.get("max_tokens"),
        cites="web_search_options" in body or "-search-" in request.model,
        stops=content.strings(body.get("stop")),
    )


def _tool(tool: dict[str, Any]) -> answers.Tool:
    if tool.get("type") == "custom":
        return answers.Tool(content.record(tool.get("custom")).get("name", "custom"))
    function = content.record(tool.get("function"))
    return answers.Tool(
        function.get("name", "function"), content.record(function.get("parameters"))
    )


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, str):
        return choice
    given = content.record(choice)
    if "allowed_tools" in given:
        return content.record(given["allowed_tools"]).get("mode", "auto")
    return content.record(given.get("function") or given.get("custom")).get("name", "auto")


def _shape(wanted: Any) -> Any:
    kind = content.record(wanted).get("type")
    if kind == "json_schema":
        return content.record(content.record(wanted["json_schema"]).get("schema"))
    if kind == "json_object":
        return {"type": "object", "properties": {"simulator": {"type": "string"}}}
    return None


class ChatChoice:
    """Render one choice of the answer, whole and as stream deltas."""

    def __init__(self, request: ApiRequest, completion: answers.Completion, index: int) -> None:
        self.completion = completion
        self.index = index
        self.logprobs = bool(request.body.get("logprobs"))
        self._top = request.body.get("top_logprobs") or 0
        self._seed = request.seed.draw("choice", index)
        self.sounds = "audio" in content.strings(request.body.get("modalities")) and bool(
            completion.text
        )
        self._format = content.record(request.body.get("audio")).get("format", "wav")
        self.finish = (
            "length" if completion.is_cut else "tool_calls" if completion.calls else "stop"
        )

    def whole(self) -> dict[str, Any]:
        completion = self.completion
        message: dict[str, Any] = {
            "role": "assistant",
            "content": completion.text if completion.text and not self.sounds else None,
            "refusal": completion.refusal,
            "annotations": self.annotations(),
        }
        if completion.is_cut and not completion.calls and not completion.refusal:
            message["content"] = completion.text
        if completion.calls:
            message["tool_calls"] = self.tool_calls()
        if self.sounds:
            message["audio"] = self.audio()
        probable = (
            {"content": self.probabilities(completion.text), "refusal": None}
            if self.logprobs
            else None
        )
        return {
            "index": self.index,
            "message": message,
            "logprobs": probable,
            "finish_reason": self.finish,
        }

    def annotations(self) -> list[dict[str, Any]]:
        cited = self.completion.citation
        return [{"type": "url_citation", "url_citation": cited}] if cited else []

    def tool_calls(self) -> list[dict[str, Any]]:
        return [self._tool_call(*each, number) for number, each in enumerate(self.completion.calls)]

    def _tool_call(self, tool: answers.Tool, given: str, number: int) -> dict[str, Any]:
        identity = self._seed.make_id("call_", number)[:29]
        if tool.schema is None:
            custom = {"name": tool.name, "input": given}
            return {"id": identity, "type": "custom", "custom": custom}
        function = {"name": tool.name, "arguments": given}
        return {"id": identity, "type": "function", "function": function}

    def audio(self) -> dict[str, Any]:
        return {
            "id": self._seed.make_id("audio_"),
            "data": media.encode_base64(media.sound(self._format, self.completion.text)),
            "expires_at": self._seed.created + _AUDIO_TTL_SECONDS,
            "transcript": self.completion.text,
        }

    def probabilities(self, text: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for token in tokens.split(text):
            logprob = -self._seed.draw("logprob", token).number(1000) / 1000
            entry = {"token": token, "logprob": logprob, "bytes": list(token.encode())}
            found.append({**entry, "top_logprobs": [entry] if self._top else []})
        return found

    def deltas(self) -> Iterator[dict[str, Any]]:
        completion = self.completion
        if self.sounds:
            yield from self._audio_deltas()
        elif completion.calls:
            yield from self._call_deltas()
        else:
            name = "refusal" if completion.refusal else "content"
            for token in tokens.split(completion.refusal or completion.text):
                yield {name: token}
            if completion.citation:
                yield {"annotations": self.annotations()}

    def _audio_deltas(self) -> Iterator[dict[str, Any]]:
        audio = self.audio()
        for token in tokens.split(self.completion.text):
            yield {"audio": {"id": audio["id"], "transcript": token}}
        yield {"audio": {"id": audio["id"], "data": audio["data"]}}
        yield {"audio": {"id": audio["id"], "expires_at": audio["expires_at"]}}

    def _call_deltas(self) -> Iterator[dict[str, Any]]:
        for index, called in enumerate(self.tool_calls()):
            kind, field = _CALL_FIELDS[called["type"]]
            head = {**called, kind: {**called[kind], field: ""}}
            yield {"content": None, "tool_calls": [{"index": index, **head}]}
            for token in tokens.split(called[kind][field]):
                yield {"tool_calls": [{"index": index, kind: {field: token}}]}


_CALL_FIELDS = {"function": ("function", "arguments"), "custom": ("custom", "input")}


def _usage(
    body: dict[str, Any], messages: list[content.Item], choices: list[ChatChoice]
) -> dict[str, Any]:
    sound = content.sound_tokens(messages)
    declared = [body[name] for name in ("tools", "functions", "response_format") if body.get(name)]
    text = sum(tokens.count(msgspec.json.encode(each).decode()) for each in declared)
    prompt = content.MESSAGE_TOKENS + sum(map(content.message_tokens, messages)) + text + sound
    accepted, rejected = _predicted(body, choices)
    spoken = sum(
        choice.completion.visible_tokens * _AUDIO_TOKENS_PER_TOKEN
        for choice in choices
        if choice.sounds
    )
    reasoning = sum(choice.completion.reasoning_tokens for choice in choices)
    visible = sum(choice.completion.visible_tokens for choice in choices)
    completion = visible + reasoning + spoken + rejected
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": answers.cached_tokens(body, prompt),
            "audio_tokens": sound,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": spoken,
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": rejected,
        },
    }


def _predicted(body: dict[str, Any], choices: list[ChatChoice]) -> tuple[int, int]:
    prediction = body.get("prediction")
    if not prediction:
        return 0, 0
    guess = tokens.split(content.text_of(content.record(prediction).get("content")))
    text = choices[0].completion.text
    accepted = sum(token in text for token in guess)
    return accepted, len(guess) - accepted


def _chunks(
    body: dict[str, Any], answer: dict[str, Any], choices: list[ChatChoice]
) -> Iterator[Frame]:
    options = content.record(body.get("stream_options"))
    base: dict[str, Any] = {
        "id": answer["id"],
        "object": "chat.completion.chunk",
        "created": answer["created"],
        "model": answer["model"],
        "service_tier": answer["service_tier"],
        "system_fingerprint": answer["system_fingerprint"],
    }
    if options.get("include_usage"):
        base["usage"] = None
    if options.get("include_obfuscation", True):
        base["obfuscation"] = "simulator"
    for choice in choices:
        start: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
        yield None, {**base, "choices": [_part(choice, start)]}
    for choice in choices:
        for delta in choice.deltas():
            yield None, {**base, "choices": [_part(choice, delta)]}
        yield None, {**base, "choices": [_part(choice, {}, choice.finish)]}
    if options.get("include_usage"):
        yield None, {**base, "choices": [], "usage": answer["usage"]}
    yield None, "[DONE]"


def _part(choice: ChatChoice, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    logprobs = None
    if choice.logprobs and delta.get("content"):
        logprobs = {"content": choice.probabilities(delta["content"]), "refusal": None}
    return {
        "index": choice.index,
        "delta": delta,
        "logprobs": logprobs,
        "finish_reason": finish,
    }
