from __future__ import annotations

import json

import pytest

from bench import traffic


@pytest.mark.parametrize("kind", traffic.KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("model", [traffic.MODEL, f"tensorzero::model_name::{traffic.MODEL}"])
def test_body_has_its_exact_size_whatever_the_model_is_called(
    kind: traffic.Kind, model: str, metadata: bool
) -> None:
    body = traffic.render_body(kind, model, metadata=metadata)
    document = json.loads(body)
    assert len(body) == kind.body_bytes
    assert document["model"] == model
    assert ("metadata" in document) is metadata
    assert document.get("stream", False) is kind.stream
    assert ("bench-burst" in document["messages"][1]["content"]) is kind.burst
    assert ("bench-20k" in document["messages"][1]["content"]) is kind.large


def test_request_carries_the_key_and_the_length_of_its_body() -> None:
    address = traffic.Address(8080, stream_path="/stream/v1/chat/completions", key="hg-secret")
    head, _, body = traffic.render_request(traffic.STREAM, address).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /stream/v1/chat/completions HTTP/1.1"
    assert "Authorization: Bearer hg-secret" in lines
    assert f"Content-Length: {len(body)}" in lines


def test_request_names_the_credential_only_where_one_is_wanted() -> None:
    named = traffic.render_request(traffic.SMALL, traffic.Address(8080, credential="managed"))
    assert b"\r\nX-Headgate-Credential: managed\r\n" in named
    assert b"Credential" not in traffic.render_request(traffic.SMALL, traffic.Address(8080))
