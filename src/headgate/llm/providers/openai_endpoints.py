"""List the endpoints of OpenAI's API below `/v1`.

Calls that read, list, cancel, delete or manage are free: the provider charges nothing for them. A
call that may cost money which no response states has an unknown price. A stored response that is
read again is not metered again; the first read of the end of one that ran in the background is what
it is priced by (`relay/background.py`).
"""

from __future__ import annotations

from msgspec.structs import replace

from headgate.llm.endpoint import CHAT_COMPLETIONS, RESPONSES, Body, Endpoint, Measure, Pricing
from headgate.llm.meter import Meter
from headgate.llm.providers import openai_fields
from headgate.llm.request import CheckedFields
from headgate.llm.routes import ANY_METHOD
from headgate.llm.wire import (
    audio,
    chat,
    completions,
    decisions,
    embeddings,
    images,
    moderations,
    opaque,
    responses,
)

_EPHEMERAL = (
    "This endpoint hands out a session or a client secret that talks to the provider directly, past"
    " every key, budget and record of this gateway; it is not available here."
)
_CALLS = (
    "Calls of the Realtime API (WebRTC and SIP) are not supported: sound and tokens go between the"
    " caller and the provider, past every key, budget and record of this gateway. To start, accept,"
    " refer, reject or hang up one is not available here."
)
_MESSAGES = (
    "Of Anthropic's API this gateway has POST /v1/messages, POST /v1/messages/count_tokens and"
    " GET /v1/models. Batches are not available yet, and a request for them is never sent to a"
    " provider."
)
_RESERVED = (
    "This path is reserved for the gateway itself and is not available yet; a request for it is"
    " never sent to a provider."
)


def _metered(
    name: str, path: str, meter: Meter, body: Body = Body.JSON, *, large_events: bool = False
) -> Endpoint:
    return Endpoint(name, ("POST",), path, meter, body, Pricing.USAGE, large_events=large_events)


def _images(path: str, body: Body) -> Endpoint:
    return Endpoint(
        "images",
        ("POST",),
        path,
        images.METER,
        body,
        Pricing.USAGE,
        large_events=True,
        measure=Measure.IMAGES,
    )


def _audio(name: str, path: str) -> Endpoint:
    return Endpoint(
        name, ("POST",), path, audio.METER, Body.FORM, Pricing.USAGE, measure=Measure.AUDIO
    )


def _free(name: str, path: str, *methods: str) -> Endpoint:
    return Endpoint(name, methods, path, opaque.METER, Body.RAW, Pricing.FREE)


def _stored(method: str, path: str, meter: Meter = opaque.METER) -> Endpoint:
    return Endpoint(
        "responses",
        (method,),
        path,
        meter,
        Body.RAW,
        Pricing.FREE,
        large_events=True,
        of_response=True,
    )


def _file(name: str, path: str) -> Endpoint:
    return Endpoint(name, ("GET",), path, opaque.METER, Body.RAW, Pricing.FREE, downloads=True)


def _models(path: str, *methods: str) -> Endpoint:
    return Endpoint(
        "models", methods, path, opaque.METER, Body.RAW, Pricing.FREE, lists_models=True
    )


def _unknown(name: str, path: str, body: Body = Body.RAW) -> Endpoint:
    return Endpoint(name, ("POST",), path, opaque.METER, body, Pricing.UNKNOWN)


def _restricted(name: str, path: str) -> Endpoint:
    return Endpoint(
        name, (ANY_METHOD,), path, opaque.METER, Body.RAW, Pricing.FREE, restricted=True
    )


def _unsupported(
    name: str, path: str, method: str = ANY_METHOD, *, reason: str = _EPHEMERAL
) -> Endpoint:
    return Endpoint(name, (method,), path, opaque.METER, unsupported=reason)


_INFERENCE = (
    Endpoint(
        "chat.completions",
        ("POST",),
        "/chat/completions",
        chat.METER,
        Body.JSON,
        Pricing.USAGE,
        asks_usage=True,
        output_limits=("max_completion_tokens", "max_tokens"),
        surface=CHAT_COMPLETIONS,
    ),
    _free("chat.completions.stored", "/chat/completions", "GET"),
    _free("chat.completions.stored", "/chat/completions/{id}", "GET", "POST", "DELETE"),
    _free("chat.completions.stored", "/chat/completions/{id}/messages", "GET"),
    Endpoint(
        "completions",
        ("POST",),
        "/completions",
        completions.METER,
        Body.JSON,
        Pricing.USAGE,
        asks_usage=True,
        output_limits=("max_tokens",),
    ),
    Endpoint(
        "responses",
        ("POST",),
        "/responses",
        responses.METER,
        Body.JSON,
        Pricing.USAGE,
        large_events=True,
        output_limits=("max_output_tokens",),
        surface=RESPONSES,
    ),
    # Anthropic's API; `gateway.messages` converts it to Responses and back, so that the pipeline
    # gets a call of Responses.
    Endpoint(
        "messages",
        ("POST",),
        "/messages",
        responses.METER,
        Body.JSON,
        Pricing.USAGE,
        checked=CheckedFields("model", "stream"),
        large_events=True,
        output_limits=("max_output_tokens",),
        surface=RESPONSES,
    ),
    # Answered by `gateway.token_counts`, without a provider.
    Endpoint(
        "messages",
        ("POST",),
        "/messages/count_tokens",
        opaque.METER,
        Body.JSON,
        Pricing.FREE,
    ),
    _metered("responses", "/responses/compact", responses.METER, large_events=True),
    Endpoint(
        "responses",
        ("POST",),
        "/responses/input_tokens",
        opaque.METER,
        Body.JSON,
        Pricing.FREE,
    ),
    _stored("GET", "/responses/{id}", responses.METER),
    _stored("DELETE", "/responses/{id}"),
    _stored("POST", "/responses/{id}/cancel", responses.METER),
    _stored("GET", "/responses/{id}/input_items"),
    _metered("decisions", "/decisions", decisions.METER),
    _metered("embeddings", "/embeddings", embeddings.METER),
    _images("/images/generations", Body.JSON),
    _images("/images/edits", Body.FORM),
    _images("/images/variations", Body.FORM),
    Endpoint(
        "audio.speech",
        ("POST",),
        "/audio/speech",
        audio.METER,
        Body.JSON,
        Pricing.USAGE,
        characters_of="input",
    ),
    _audio("audio.transcriptions", "/audio/transcriptions"),
    _audio("audio.translations", "/audio/translations"),
    Endpoint("moderations", ("POST",), "/moderations", moderations.METER, Body.JSON, Pricing.FREE),
)

_LIBRARY = (
    _models("/models", "GET"),
    _models("/models/{rest}", "GET", "DELETE"),
    _free("files", "/files", "GET", "POST"),
    _free("files", "/files/{id}", "GET", "DELETE"),
    _file("files", "/files/{id}/content"),
    _free("uploads", "/uploads", "POST"),
    _free("uploads", "/uploads/{id}/parts", "POST"),
    _free("uploads", "/uploads/{id}/complete", "POST"),
    _free("uploads", "/uploads/{id}/cancel", "POST"),
    _free("conversations", "/conversations", "POST"),
    _free("conversations", "/conversations/{id}", "GET", "POST", "DELETE"),
    _free("conversations", "/conversations/{id}/items", "GET", "POST"),
    _free("conversations", "/conversations/{id}/items/{item}", "GET", "DELETE"),
    _free("skills", "/skills", "GET", "POST"),
    _free("skills", "/skills/{id}", "GET", "POST", "DELETE"),
    _file("skills", "/skills/{id}/content"),
    _free("skills", "/skills/{id}/versions", "GET", "POST"),
    _free("skills", "/skills/{id}/versions/{version}", "GET", "DELETE"),
    _file("skills", "/skills/{id}/versions/{version}/content"),
    _free("audio.voices", "/audio/voices", "GET"),
    _unknown("audio.voices", "/audio/voices"),
    _free("audio.voices", "/audio/voices/{id}", "GET", "POST", "DELETE"),
    _free("audio.voices", "/audio/voice_consents", "GET", "POST"),
    _free("audio.voices", "/audio/voice_consents/{id}", "GET", "POST", "DELETE"),
    _free("vector_stores", "/vector_stores", "GET"),
    _unknown("vector_stores", "/vector_stores"),
    _free("vector_stores", "/vector_stores/{id}", "GET", "POST", "DELETE"),
    _unknown("vector_stores", "/vector_stores/{id}/search"),
    _free("vector_stores", "/vector_stores/{id}/files", "GET"),
    _unknown("vector_stores", "/vector_stores/{id}/files"),
    _free("vector_stores", "/vector_stores/{id}/files/{file}", "GET", "POST", "DELETE"),
    _free("vector_stores", "/vector_stores/{id}/files/{file}/content", "GET"),
    _unknown("vector_stores", "/vector_stores/{id}/file_batches"),
    _free("vector_stores", "/vector_stores/{id}/file_batches/{batch}", "GET"),
    _free("vector_stores", "/vector_stores/{id}/file_batches/{batch}/cancel", "POST"),
    _free("vector_stores", "/vector_stores/{id}/file_batches/{batch}/files", "GET"),
    _free("containers", "/containers", "GET"),
    _unknown("containers", "/containers"),
    _free("containers", "/containers/{id}", "GET", "DELETE"),
    _free("containers", "/containers/{id}/files", "GET", "POST"),
    _free("containers", "/containers/{id}/files/{file}", "GET", "DELETE"),
    _file("containers", "/containers/{id}/files/{file}/content"),
)

_JOBS = (
    _free("batches", "/batches", "GET"),
    _unknown("batches", "/batches"),
    _free("batches", "/batches/{id}", "GET"),
    _free("batches", "/batches/{id}/cancel", "POST"),
    _free("fine_tuning", "/fine_tuning/jobs", "GET"),
    _unknown("fine_tuning", "/fine_tuning/jobs", Body.JSON),
    _free("fine_tuning", "/fine_tuning/jobs/{id}", "GET"),
    _free("fine_tuning", "/fine_tuning/jobs/{id}/cancel", "POST"),
    _free("fine_tuning", "/fine_tuning/jobs/{id}/pause", "POST"),
    _unknown("fine_tuning", "/fine_tuning/jobs/{id}/resume"),
    _free("fine_tuning", "/fine_tuning/jobs/{id}/checkpoints", "GET"),
    _free("fine_tuning", "/fine_tuning/jobs/{id}/events", "GET"),
    _free("fine_tuning", "/fine_tuning/checkpoints/{id}/permissions", "GET", "POST"),
    _free("fine_tuning", "/fine_tuning/checkpoints/{id}/permissions/{permission}", "DELETE"),
    _unknown("graders", "/fine_tuning/alpha/graders/run"),
    _free("graders", "/fine_tuning/alpha/graders/validate", "POST"),
    _free("evals", "/evals", "GET", "POST"),
    _free("evals", "/evals/{id}", "GET", "POST", "DELETE"),
    _free("evals", "/evals/{id}/runs", "GET"),
    _unknown("evals", "/evals/{id}/runs"),
    _free("evals", "/evals/{id}/runs/{run}", "GET", "POST", "DELETE"),
    _free("evals", "/evals/{id}/runs/{run}/cancel", "POST"),
    _free("evals", "/evals/{id}/runs/{run}/output_items", "GET"),
    _free("evals", "/evals/{id}/runs/{run}/output_items/{item}", "GET"),
    _free("videos", "/videos", "GET"),
    _unknown("videos", "/videos", Body.FORM),
    _unknown("videos", "/videos/edits", Body.FORM),
    _unknown("videos", "/videos/extensions", Body.FORM),
    _unknown("videos", "/videos/characters"),
    _free("videos", "/videos/characters/{id}", "GET"),
    _free("videos", "/videos/{id}", "GET", "DELETE"),
    _file("videos", "/videos/{id}/content"),
    _unknown("videos", "/videos/{id}/remix"),
    _unknown("content_provenance_checks", "/content_provenance_checks"),
)

_AGENTS = (
    _free("assistants", "/assistants", "GET"),
    Endpoint("assistants", ("POST",), "/assistants", opaque.METER, Body.JSON, Pricing.FREE),
    _free("assistants", "/assistants/{id}", "GET", "POST", "DELETE"),
    _free("threads", "/threads", "POST"),
    _unknown("threads", "/threads/runs", Body.JSON),
    _free("threads", "/threads/{id}", "GET", "POST", "DELETE"),
    _free("threads", "/threads/{id}/messages", "GET", "POST"),
    _free("threads", "/threads/{id}/messages/{message}", "GET", "POST", "DELETE"),
    _free("threads", "/threads/{id}/runs", "GET"),
    _unknown("threads", "/threads/{id}/runs", Body.JSON),
    _free("threads", "/threads/{id}/runs/{run}", "GET", "POST"),
    _free("threads", "/threads/{id}/runs/{run}/cancel", "POST"),
    _unknown("threads", "/threads/{id}/runs/{run}/submit_tool_outputs"),
    _free("threads", "/threads/{id}/runs/{run}/steps", "GET"),
    _free("threads", "/threads/{id}/runs/{run}/steps/{step}", "GET"),
    _free("agents", "/agents", "GET", "POST"),
    _free("agents", "/agents/{rest}", "GET", "DELETE"),
    _unknown("agents", "/agents/{rest}"),
    _free("vaults", "/vaults", "GET", "POST"),
    _free("vaults", "/vaults/{id}", "GET", "POST", "DELETE"),
    _free("vaults", "/vaults/{id}/credentials", "GET", "POST"),
    _free("vaults", "/vaults/{id}/credentials/{credential}", "GET", "POST", "DELETE"),
    _unsupported("chatkit", "/chatkit/sessions", "POST"),
    _free("chatkit", "/chatkit/sessions/{id}/cancel", "POST"),
    _free("chatkit", "/chatkit/threads", "GET"),
    _free("chatkit", "/chatkit/threads/{id}", "GET", "DELETE"),
    _free("chatkit", "/chatkit/threads/{id}/items", "GET"),
    _unsupported("realtime", "/realtime"),
    _unsupported("realtime", "/realtime/calls", reason=_CALLS),
    _unsupported("realtime", "/realtime/calls/{rest}", reason=_CALLS),
    _unsupported("realtime", "/realtime/{rest}"),
    _unsupported("live", "/live"),
    _unsupported("live", "/live/{rest}"),
)

_ADMINISTRATION = (
    _restricted("organization", "/organization"),
    _restricted("organization", "/organization/{rest}"),
    _restricted("organization", "/projects/{rest}"),
    _restricted("organization", "/webhook_endpoints"),
    _restricted("organization", "/webhook_endpoints/{rest}"),
    _restricted("organization", "/webhook_event_types"),
    _restricted("organization", "/safety/{rest}"),
)

_GATEWAY = (
    _unsupported("messages", "/messages/batches", reason=_MESSAGES),
    _unsupported("messages", "/messages/{rest}", reason=_MESSAGES),
    _unsupported("completion", "/completion", reason=_RESERVED),
    _unsupported("completion", "/completion/{rest}", reason=_RESERVED),
)
"""Paths below `/v1` that are reserved for the gateway and never reach a provider."""

_ROWS = (
    *_INFERENCE,
    *_LIBRARY,
    *_JOBS,
    *_AGENTS,
    *_ADMINISTRATION,
    *_GATEWAY,
    Endpoint("other", (ANY_METHOD,), "/{rest}", opaque.METER),
)
ENDPOINTS: tuple[Endpoint, ...] = tuple(
    replace(row, checked=openai_fields.CHECKED.get(row.path, openai_fields.MODEL)) for row in _ROWS
)
