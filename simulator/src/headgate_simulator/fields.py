"""The fields that OpenAI accepts at the top of each body, and those it requires.

Any other field is refused as OpenAI refuses it, so that a field that a gateway adds is noticed.
"""

from __future__ import annotations

from typing import Any

from headgate_simulator.messages import missing_parameter, unknown_parameter


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


KNOWN: dict[str, frozenset[str]] = {
    "chat": _set(
        "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens"
        " max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction"
        " presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention"
        " reasoning_effort response_format safety_identifier seed service_tier stop store stream"
        " stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
        " web_search_options"
    ),
    "responses": _set(
        "access_programs background context_management conversation image include input"
        " instructions max_output_tokens max_tool_calls metadata model moderation"
        " parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options"
        " prompt_cache_retention reasoning safety_identifier service_tier store stream"
        " stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
    ),
    "responses.compact": _set(
        "image input instructions model previous_response_id prompt_cache_key prompt_cache_options"
        " prompt_cache_retention service_tier"
    ),
    "responses.input_tokens": _set(
        "conversation input instructions model parallel_tool_calls personality"
        " previous_response_id reasoning text tool_choice tools truncation"
    ),
    "embeddings": _set("dimensions encoding_format input model user"),
    "images.generations": _set(
        "background complexity frame_count frame_duration_ms model moderation n output_compression"
        " output_format partial_images prompt quality response_format safety_identifier size"
        " stream style svg user"
    ),
    "images.edits": _set(
        "background complexity frame_count frame_duration_ms image images input_fidelity markup"
        " mask model moderation n output_compression output_format partial_images prompt quality"
        " response_format safety_identifier size stream svg user"
    ),
    "images.variations": _set("image model n response_format size user"),
    "audio.speech": _set("input instructions model response_format speed stream_format voice"),
    "audio.transcriptions": _set(
        "chunking_strategy file include keywords known_speaker_names known_speaker_references"
        " language languages model prompt response_format stream temperature"
        " timestamp_granularities"
    ),
    "audio.translations": _set("file model prompt response_format temperature"),
    "moderations": _set("input model"),
    "completions": _set(
        "best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty"
        " prompt seed stop stream stream_options suffix temperature top_p user"
    ),
    "batches": _set("completion_window endpoint input_file_id metadata output_expires_after"),
    "vector_stores": _set("chunking_strategy description expires_after file_ids metadata name"),
    "vector_stores.search": _set("filters max_num_results query ranking_options rewrite_query"),
    "vector_stores.files": _set("attributes chunking_strategy file_id"),
    "vector_stores.file_batches": _set("attributes chunking_strategy file_ids files"),
    "conversations": _set("items metadata"),
    "conversations.items": _set("items"),
    "files": _set("expires_after file purpose"),
    "uploads": _set("bytes expires_after filename mime_type purpose"),
    "uploads.parts": _set("data"),
    "uploads.complete": _set("md5 part_ids"),
    "metadata": _set("metadata"),
    "nothing": frozenset(),
}

REQUIRED: dict[str, tuple[str, ...]] = {
    "chat": ("model", "messages"),
    "responses.compact": ("model",),
    "embeddings": ("model", "input"),
    "images.generations": ("prompt",),
    "images.edits": ("prompt",),
    "audio.speech": ("model", "input", "voice"),
    "audio.transcriptions": ("model",),
    "audio.translations": ("model",),
    "moderations": ("input",),
    "completions": ("model", "prompt"),
    "batches": ("input_file_id", "endpoint", "completion_window"),
    "vector_stores.search": ("query",),
    "vector_stores.files": ("file_id",),
    "conversations.items": ("items",),
    "files": ("purpose",),
    "uploads": ("bytes", "filename", "mime_type", "purpose"),
    "uploads.complete": ("part_ids",),
    "metadata": ("metadata",),
}


def check(shape: str, body: dict[str, Any]) -> None:
    """Raise `ApiError` for a body with an unknown or a missing field."""
    known = KNOWN[shape]
    for name in body:
        if name.partition("[")[0] not in known:
            raise unknown_parameter(name)
    for name in REQUIRED.get(shape, ()):
        if body.get(name) is None:
            raise missing_parameter(name)
