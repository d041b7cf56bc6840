"""The official Python SDK: files, uploads, batches, vector stores, and what is not simulated."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.fakes.simulated_gateway import SimulatedGateway

MINI = "gpt-5.4-mini"


def test_file_is_uploaded_listed_downloaded_and_deleted(sdk: SimulatedGateway) -> None:
    content = bytes(range(256)) * 2000
    files = sdk.client.files
    made = files.create(file=("data.bin", content), purpose="user_data")
    assert (made.bytes, made.filename) == (len(content), "data.bin")
    assert made.id in [each.id for each in files.list(purpose="user_data")]
    assert files.retrieve(made.id).id == made.id
    assert files.content(made.id).read() == content
    with files.with_streaming_response.content(made.id) as answer:
        assert answer.headers["content-length"] == str(len(content))
        assert b"".join(answer.iter_bytes(1000)) == content
    assert files.delete(made.id).deleted
    sdk.check_free("files", calls=6)
    with pytest.raises(openai.NotFoundError):
        files.retrieve(made.id)


def test_upload_in_parts_becomes_a_file(sdk: SimulatedGateway) -> None:
    parts = [b"a" * 100_000, b"b" * 50_000]
    uploads = sdk.client.uploads
    made = uploads.create(
        bytes=150_000, filename="parts.txt", mime_type="text/plain", purpose="assistants"
    )
    ids = [uploads.parts.create(made.id, data=part).id for part in parts]
    done = uploads.complete(made.id, part_ids=ids)
    sdk.check_free("uploads", calls=4)
    assert done.file is not None
    assert sdk.client.files.content(done.file.id).read() == b"".join(parts)
    other = uploads.create(bytes=1, filename="x", mime_type="text/plain", purpose="assistants")
    assert uploads.cancel(other.id).status == "cancelled"


def test_batch_is_run_and_its_output_read(sdk: SimulatedGateway) -> None:
    line = {
        "custom_id": "one",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": MINI, "messages": [{"role": "user", "content": "Hello"}]},
    }
    source = sdk.client.files.create(
        file=("batch.jsonl", json.dumps(line).encode()), purpose="batch"
    )
    sdk.receipts.take()
    batches = sdk.client.batches
    made = batches.create(
        input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    # What a batch will cost is not known when it is made; it leaves an explicit receipt.
    sdk.check_unpriced("batches")
    done = batches.retrieve(made.id)
    assert done.status == "completed"
    assert made.id in [each.id for each in batches.list()]
    sdk.check_free("batches", calls=2)
    assert done.output_file_id is not None
    output = json.loads(sdk.client.files.content(done.output_file_id).read())
    assert output["response"]["body"]["object"] == "chat.completion"
    assert batches.cancel(made.id).id == made.id


def test_vector_store_is_filled_searched_and_deleted(sdk: SimulatedGateway) -> None:
    file = sdk.client.files.create(file=("a.txt", b"otters hold hands"), purpose="assistants")
    sdk.receipts.take()
    stores = sdk.client.vector_stores
    made = stores.create(name="animals")
    attached = stores.files.create(made.id, file_id=file.id)
    found = list(stores.search(made.id, query="otters"))
    assert found[0].file_id == file.id
    receipts = sdk.receipts.take()
    assert [(each.endpoint, each.pricing) for each in receipts] == [
        ("vector_stores", "unpriced")
    ] * 3
    assert stores.retrieve(made.id).file_counts.completed == 1
    assert [each.id for each in stores.files.list(made.id)] == [attached.id]
    content = list(stores.files.content(file.id, vector_store_id=made.id))
    assert content[0].text == "otters hold hands"
    assert stores.files.delete(file.id, vector_store_id=made.id).deleted
    assert stores.update(made.id, name="none").name == "none"
    assert stores.delete(made.id).deleted
    sdk.check_free("vector_stores", calls=6)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/containers"),
        ("POST", "/fine_tuning/jobs"),
        ("GET", "/fine_tuning/jobs/ftjob-1/events?limit=2"),
        ("POST", "/evals"),
        ("POST", "/something/entirely/new?x=1&x=2"),
        ("PATCH", "/something/entirely/new"),
    ],
)
def test_address_that_the_provider_lacks_is_its_404_and_recorded(
    sdk: SimulatedGateway, method: str, path: str
) -> None:
    call: Any = getattr(sdk.client, method.lower())
    with pytest.raises(openai.NotFoundError) as raised:
        call(path, cast_to=object, **({} if method == "GET" else {"body": {"model": MINI}}))
    assert "Invalid URL" in raised.value.message
    receipt = sdk.receipts.take_one()
    assert (receipt.status, receipt.outcome, receipt.cost_nano) == (404, "upstream_error", 0)
    assert receipt.method == method
