from __future__ import annotations

import io
import json
from typing import Any

import openai
import pytest

from headgate_simulator.memory import Memory, StoredFile
from headgate_simulator.settings import SimulatorSettings


def upload(client: openai.OpenAI, data: bytes, name: str = "notes.txt") -> str:
    return client.files.create(file=(name, data), purpose="assistants").id


def test_file_lives_from_upload_to_deletion(client: openai.OpenAI) -> None:
    data = b"line one\r\n--not a boundary\r\n\x00\xff"
    identity = upload(client, data)
    assert client.files.retrieve(identity).bytes == len(data)
    assert client.files.content(identity).content == data
    assert identity in [each.id for each in client.files.list(purpose="assistants")]
    assert client.files.delete(identity).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(identity)


def test_equal_files_are_two_files(client: openai.OpenAI) -> None:
    assert upload(client, b"same") != upload(client, b"same")


def test_oldest_file_makes_room_when_all_together_are_too_large() -> None:
    memory = Memory(SimulatorSettings(files_bytes_max=10))
    for name in ("a", "b", "c"):
        memory.files.put(name, StoredFile({"id": name}, b"12345"))
    assert [kept.info["id"] for kept in memory.files.all()] == ["b", "c"]


def test_upload_in_parts_becomes_a_file(client: openai.OpenAI) -> None:
    begun = client.uploads.create(
        bytes=6, filename="p.txt", mime_type="text/plain", purpose="assistants"
    )
    parts = [
        client.uploads.parts.create(begun.id, data=io.BytesIO(data)).id for data in (b"def", b"abc")
    ]
    done = client.uploads.complete(begun.id, part_ids=parts[::-1])
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).content == b"abcdef"
    with pytest.raises(openai.BadRequestError):
        client.uploads.cancel(begun.id)


def line(custom_id: str, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_batch_runs_when_it_is_read(client: openai.OpenAI) -> None:
    rows = [line("good", "gpt-4o"), line("bad", "nonexistent")]
    data = "\n".join(map(json.dumps, rows)).encode()
    made = client.batches.create(
        input_file_id=upload(client, data),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    assert made.status == "validating"
    done = client.batches.retrieve(made.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)
    output = json.loads(client.files.content(done.output_file_id or "").content)
    assert output["custom_id"] == "good"
    assert "simulator" in output["response"]["body"]["choices"][0]["message"]["content"]
    assert b"model_not_found" in client.files.content(done.error_file_id or "").content
    assert made.id in [each.id for each in client.batches.list()]


def test_vector_store_finds_files_by_their_words(client: openai.OpenAI) -> None:
    right = upload(client, b"the gate opens at dawn")
    wrong = upload(client, b"nothing of the kind")
    store = client.vector_stores.create(name="kb", file_ids=[right])
    client.vector_stores.files.create(store.id, file_id=wrong, attributes={"k": "v"})
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 2
    hits = client.vector_stores.search(store.id, query="gate dawn").data
    assert [hit.file_id for hit in hits] == [right]
    pages = client.vector_stores.files.content(right, vector_store_id=store.id)
    assert [page.text for page in pages] == ["the gate opens at dawn"]
    assert client.vector_stores.files.delete(wrong, vector_store_id=store.id).deleted
    batch = client.vector_stores.file_batches.create(store.id, file_ids=[wrong])
    assert batch.status == "completed"
    assert len(client.vector_stores.files.list(store.id).data) == 2
    assert client.vector_stores.update(store.id, name="new").name == "new"
    assert client.vector_stores.delete(store.id).deleted


def test_models_are_listed_and_read(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"gpt-5.5", "o3-pro", "gpt-4o", "whisper-1", "omni-moderation-latest"} <= set(names)
    assert client.models.retrieve("gpt-5.4-mini").owned_by == "headgate-simulator"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("unheard-of")


def test_moderation_flags_what_is_named(client: openai.OpenAI) -> None:
    results = client.moderations.create(input=["graphic violence", "peace"]).results
    assert [result.flagged for result in results] == [True, False]
    assert results[0].categories.violence
    parts: Any = [
        {"type": "text", "text": "peace"},
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
    ]
    assert len(client.moderations.create(input=parts).results) == 1


def test_older_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    model, prompt = "gpt-3.5-turbo-instruct", ["one", "two"]
    whole = client.completions.create(model=model, prompt=prompt, max_tokens=50, logprobs=1)
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    joined = {0: "", 1: ""}
    usage = None
    for chunk in client.completions.create(
        model=model,
        prompt=prompt,
        max_tokens=50,
        logprobs=1,
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage
        for choice in chunk.choices:
            joined[choice.index] += choice.text
    assert usage == whole.usage
    assert list(joined.values()) == [choice.text for choice in whole.choices]
    short = client.completions.create(model=model, prompt="a long prompt")
    assert short.choices[0].finish_reason == "stop"
    short = client.completions.create(model=model, prompt="a prompt", max_tokens=3)
    assert short.choices[0].finish_reason == "length"
