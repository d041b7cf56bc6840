"""Handles: content of one project, sealed, for an hour."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headgate.assets.model.errors import AssetTooLargeError, ObjectStorageError
from headgate.assets.model.handle import HandleLimitError, HandleNotFoundError
from headgate.assets.model.media_type import LARGE_BYTES_MAX
from headgate.assets.service import handles
from tests.fakes.asset_harness import AssetHarness, running_assets

pytestmark = pytest.mark.anyio

SECRET = b"what the model answered"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


VARIABLES = {"handles_bytes_max": str(2 * LARGE_BYTES_MAX)}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncGenerator[AssetHarness]:
    async with running_assets(tmp_path / "data", **VARIABLES) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[AssetHarness]:
    is_shared = request.param == "postgresql"
    url = request.getfixturevalue("prepared_url") if is_shared else None
    async with running_assets(tmp_path / "data", url, **VARIABLES) as running:
        yield running


async def test_content_is_read_by_its_project_alone_whole_and_in_parts_until_it_expires(
    either: AssetHarness,
) -> None:
    harness = either
    store = harness.parts.handles
    made = await store.put(harness.own, SECRET, "text/plain", "answer.txt")
    assert (made.bytes, made.media_type, made.name) == (len(SECRET), "text/plain", "answer.txt")
    assert made.expires_at == harness.clock.time + 3_600
    assert await store.get(harness.own, made.id) == (made, SECRET)
    part = await store.read(harness.own, made.id, 5, 3)
    assert (part.info, part.offset, part.content) == (made, 5, SECRET[5:8])
    assert (await store.read(harness.own, made.id, 999, 3)).content == b""
    for stranger in (harness.sibling, harness.other):
        with pytest.raises(HandleNotFoundError):
            await store.read(stranger, made.id)
    with pytest.raises(HandleNotFoundError):
        await store.read(harness.own, "hdl_unknown")
    (path,) = harness.list_objects()
    assert SECRET not in path.read_bytes()
    harness.clock.time += 3_600
    with pytest.raises(HandleNotFoundError):
        await store.read(harness.own, made.id)
    assert await harness.cleaner.run() == 1
    assert harness.list_objects() == []


async def test_handle_whose_object_is_lost_or_was_exchanged_is_as_good_as_expired(
    harness: AssetHarness,
) -> None:
    store = harness.parts.handles
    made = await store.put(harness.own, SECRET, "text/plain", "a")
    (path,) = harness.list_objects()
    other = await store.put(harness.own, b"another", "text/plain", "b")
    (foreign,) = set(harness.list_objects()) - {path}
    path.write_bytes(foreign.read_bytes())
    with pytest.raises(HandleNotFoundError):
        await store.read(harness.own, made.id)
    foreign.unlink()
    with pytest.raises(HandleNotFoundError):
        await store.read(harness.own, other.id)


async def test_handles_of_a_project_are_limited_together(
    harness: AssetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = harness.parts.handles
    content = bytes(LARGE_BYTES_MAX + 1)
    made = await store.put(harness.own, content, "image/png", "large.png")
    with pytest.raises(HandleLimitError):
        await store.put(harness.own, content, "image/png", "a.png")
    await store.put(harness.sibling, content, "image/png", "a.png")
    with pytest.raises(AssetTooLargeError):
        await harness.upload(handle=made.id)
    harness.clock.time += 3_601
    await store.put(harness.own, content, "image/png", "a.png")
    monkeypatch.setattr(handles, "CONTENT_BYTES_MAX", 3)
    with pytest.raises(HandleLimitError):
        await store.put(harness.other, b"1234", "image/png", "a.png")


async def test_store_that_fails_uses_up_no_limit(harness: AssetHarness) -> None:
    kept, folder = harness.parts.handles, harness.parts.storage.config.folder
    assert folder is not None
    folder.mkdir()
    (folder / "handles").write_text("in the way")
    content = bytes(LARGE_BYTES_MAX)
    for _ in range(3):
        with pytest.raises(ObjectStorageError):
            await kept.put(harness.own, content, "text/plain", "")
    (folder / "handles").unlink()
    await harness.cleaner.run()
    handle = await kept.put(harness.own, content, "text/plain", "")
    assert (await kept.get(harness.own, handle.id))[1] == content


async def test_handle_becomes_an_asset(harness: AssetHarness) -> None:
    content = b"\x89PNG\r\n\x1a\n0123"
    made = await harness.parts.handles.put(harness.own, content, "image/png", "image.png")
    asset = await harness.upload(handle=made.id, alt="A cat")
    assert asset.slug.startswith("image-")
    assert (await harness.upload(handle=made.id)).id == asset.id, "sent again"
    assert await harness.read(asset) == content
    for stranger in (harness.sibling, harness.other):
        with pytest.raises(HandleNotFoundError):
            await harness.upload(stranger, handle=made.id)
