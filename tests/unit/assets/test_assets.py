"""Assets from every source, on both databases."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headgate.accounts.model import AccountNotFoundError
from headgate.assets.model.asset import AssetFilter, AssetUpload
from headgate.assets.model.errors import (
    AssetExistsError,
    AssetNotFoundError,
    AssetQuotaError,
    AssetTooLargeError,
    InvalidAssetError,
    MediaTypeError,
    ObjectStorageError,
    SourceNotReadableError,
    TooManyUploadsError,
)
from headgate.assets.model.media_type import FONT_BYTES_MAX, LARGE_BYTES_MAX, OTHER_BYTES_MAX
from headgate.assets.model.owner import Owner, ProjectOwner
from headgate.assets.service import SourceReader, assets
from headgate.assets.service import files as asset_files
from headgate.assets.service.sources import SourceFile
from headgate.kit.errors import HeadgateError
from headgate.kit.http.errors import (
    EgressError,
    ForbiddenAddressError,
    IdleTimeoutError,
    ResponseTooLargeError,
)
from headgate.kit.http.message import Headers, Origin
from headgate.relay.content import PURPOSE, UnsafeOutboundUrlError
from tests.fakes.asset_harness import AssetHarness, running_assets
from tests.fakes.pipeline import FakeResponse

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
URL = "https://images.example/pictures/The%20Sea.png?size=2#top"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncGenerator[AssetHarness]:
    async with running_assets(tmp_path / "data") as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[AssetHarness]:
    is_shared = request.param == "postgresql"
    url = request.getfixturevalue("prepared_url") if is_shared else None
    variables = {"assets_max": "3", "assets_bytes_max": "1000", "handles_bytes_max": "500"}
    async with running_assets(tmp_path / "data", url, **variables) as running:
        yield running


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def test_asset_is_stored_replaced_removed_and_its_objects_are_deleted(
    either: AssetHarness,
) -> None:
    made = await either.upload(content=encode(PNG), slug="hero.png", alt="A hero")
    assert (made.media_type, made.bytes, made.version) == ("image/png", len(PNG), 1)
    assert await either.read(made) == PNG
    with pytest.raises(AssetExistsError):
        await either.upload(content=encode(PNG), slug="hero.png")
    with pytest.raises(MediaTypeError):
        await either.upload(content_text="x", slug="hero.png", overwrite=True)
    again = await either.upload(content=encode(PNG + b"2"), slug="hero.png", overwrite=True)
    assert (again.id, again.version, again.alt) == (made.id, 2, "A hero")
    assert again.path == f"/assets/{made.id}/hero.png?v=2"
    assert await either.read(again) == PNG + b"2"
    beside = await either.upload(either.sibling, content=encode(PNG), slug="hero.png")
    assert beside.id != made.id
    assert await either.parts.files.find_public(made.id, "hero.png") == again
    await either.remove(again)
    with pytest.raises(AssetNotFoundError):
        await either.parts.files.find_public(made.id, "hero.png")
    assert len(either.list_objects()) == 3
    assert await either.cleaner.run() == 0
    either.clock.time += 3_601
    assert await either.cleaner.run() == 2
    assert [path.read_bytes() for path in either.list_objects()] == [PNG]
    assert await either.cleaner.run() == 0


async def test_quota_counts_the_assets_and_bytes_of_an_organization(either: AssetHarness) -> None:
    for number in range(2):
        await either.upload(content_text="x" * 400, slug=f"{number}.txt")
    with pytest.raises(AssetQuotaError):
        await either.upload(either.sibling, content_text="y" * 201, slug="2.txt")
    await either.upload(content_text="x" * 600, slug="1.txt", overwrite=True)
    await either.upload(either.other, content_text="z" * 1000)
    with pytest.raises(AssetQuotaError):
        await either.upload(either.other, content_text="1")
    await either.upload(content_text="x", slug="1.txt", overwrite=True)
    await either.upload(content_text="a")
    with pytest.raises(AssetQuotaError):
        await either.upload(content_text="b")
    counted = await either.database.read(
        lambda connection: either.application.assets.measure(connection, either.own.organization_id)
    )
    assert (counted.count, counted.bytes) == (3, 402)


async def test_expired_asset_is_gone_at_once_and_its_row_soon_after(either: AssetHarness) -> None:
    made = await either.upload(content_text="x", slug="x.txt", expires_in_seconds=60)
    assert made.expires_at == either.clock.time + 60
    either.clock.time += 60
    with pytest.raises(AssetNotFoundError):
        await either.parts.files.find_public(made.id, made.slug)
    filters = AssetFilter(organization_id=either.own.organization_id)
    page = await either.database.read(
        lambda connection: either.application.assets.list_page(
            connection, filters, limit=9, offset=0
        )
    )
    assert page == ([], 0)
    await either.cleaner.run()
    either.clock.time += 3_601
    assert await either.cleaner.run() == 1
    assert either.list_objects() == []
    # Its slug is free again.
    assert (await either.upload(content_text="y", slug="x.txt")).id != made.id


async def test_expired_asset_does_not_stand_in_the_way_of_a_new_one(
    either: AssetHarness,
) -> None:
    named = await either.upload(content_text="x", slug="x.txt", expires_in_seconds=60)
    unnamed = await either.upload(content_text="x", expires_in_seconds=60)
    either.clock.time += 60
    for old, slug in ((named, "x.txt"), (unnamed, None)):
        made = await either.upload(content_text="x", slug=slug)
        assert made.id != old.id
        assert (await either.parts.files.find_public(made.id, made.slug)).expires_at is None


async def test_file_that_is_sent_again_stays_as_long_as_it_is_wanted(harness: AssetHarness) -> None:
    made = await harness.upload(content_text="x", expires_in_seconds=60)
    shorter = await harness.upload(content_text="x", expires_in_seconds=10)
    assert shorter == made
    harness.clock.time += 30
    longer = await harness.upload(content_text="x", expires_in_seconds=60, alt="A letter")
    assert (longer.id, longer.expires_at) == (made.id, harness.clock.time + 60)
    for_ever = await harness.upload(content_text="x")
    assert (for_ever.id, for_ever.expires_at, for_ever.alt) == (made.id, None, "A letter")
    assert await harness.upload(content_text="x", expires_in_seconds=10) == for_ever


async def test_object_that_became_no_asset_is_deleted(harness: AssetHarness) -> None:
    asset = await harness.upload(content_text="x")
    before = harness.list_objects()
    assert await harness.upload(content_text="x") == asset, "the same file once more"
    assert harness.list_objects() == before
    await harness.parts.files.receive(harness.own, AssetUpload(content_text="y"))
    assert len(harness.list_objects()) == 2
    harness.clock.time += 3_601
    assert await harness.cleaner.run() == 1
    assert harness.list_objects() == before


async def test_files_that_wait_to_be_deleted_are_limited_for_each_organization(
    either: AssetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "WAITING_MAX", 2)
    for text in ("1", "2", "3"):
        await either.upload(content_text=text, slug="x.txt", overwrite=True)
    with pytest.raises(AssetQuotaError, match="within an hour"):
        await either.upload(content_text="4", slug="x.txt", overwrite=True)
    await either.upload(either.other, content_text="4")
    either.clock.time += 3_601
    await either.cleaner.run()
    await either.upload(content_text="4", slug="x.txt", overwrite=True)


async def test_same_content_under_a_name_of_its_own_is_a_conflict(harness: AssetHarness) -> None:
    await harness.upload(content_text="x", slug="x.txt")
    with pytest.raises(AssetExistsError):
        await harness.upload(content_text="x", slug="x.txt")


INVALID: list[tuple[dict[str, object], str]] = [
    ({}, "content"),
    ({"content": "eA==", "content_text": "x"}, "content_text"),
    ({"content": "eA==", "source_url": URL}, "content"),
    ({"content": "not base64!"}, "content"),
    ({"content": "eA=", "slug": "a/b.txt"}, "slug"),
    ({"content_text": "x", "slug": ".htaccess"}, "slug"),
    ({"content_text": "x", "slug": "x" * 129}, "slug"),
    ({"content_text": "x", "slug": "a\r\nb"}, "slug"),
    ({"content_text": "x", "alt": "a" * 1001}, "alt"),
    ({"content_text": ""}, "content_text"),
    ({"content": ""}, "content"),
    ({"content_text": "x", "expires_in_seconds": 0}, "expires_in_seconds"),
]


async def test_upload_that_cannot_be_understood_names_the_field(harness: AssetHarness) -> None:
    for fields, field in INVALID:
        with pytest.raises(InvalidAssetError) as caught:
            await harness.upload(None, **fields)
        assert caught.value.param == field, fields
    assert harness.list_objects() == []


LIMITS = [
    (PNG, "a.png", LARGE_BYTES_MAX),
    (b"%PDF-1.7", "a.pdf", LARGE_BYTES_MAX),
    (b"text", "a.md", LARGE_BYTES_MAX),
    (b"wOF2", "a.woff2", FONT_BYTES_MAX),
    (b"ID3", "a.mp3", OTHER_BYTES_MAX),
    (b"a{}", "a.css", OTHER_BYTES_MAX),
]


async def test_size_is_limited_by_the_type(harness: AssetHarness) -> None:
    for start, slug, bytes_max in LIMITS:
        content = start + b" " * (bytes_max - len(start))
        with pytest.raises(AssetTooLargeError):
            await harness.upload(content=encode(content + b" "), slug=slug)
        assert (await harness.upload(content=encode(content), slug=slug)).bytes == bytes_max


async def test_base64_is_read_as_people_write_it(harness: AssetHarness) -> None:
    content = b"\xff\xd8\xff\xfb\xf0"
    for number, text in enumerate(
        (
            "data:image/jpeg;base64,/9j/+/A=",
            "/9j/+/A",
            "_9j_-_A=",
            "/9j/\n +/A=\n",
            "data:image/jpeg;charset=x;base64,/9j/+/A=",
        )
    ):
        asset = await harness.upload(content=text, slug=f"{number}.jpg")
        assert await harness.read(asset) == content
    with pytest.raises(MediaTypeError):
        await harness.upload(content="data:image/png;base64,/9j/+/A=")


async def test_file_is_fetched_by_its_address_over_the_egress_client(
    harness: AssetHarness,
) -> None:
    headers: Headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"264")]
    harness.client.steps[:] = [FakeResponse(200, headers, PNG)]
    asset = await harness.upload(source_url=URL)
    assert (asset.slug, asset.media_type) == (f"The-Sea-{asset.sha256[:12]}.png", "image/png")
    assert await harness.read(asset) == PNG
    (request,) = harness.client.sent
    assert request.origin == Origin("https", "images.example", 443)
    assert request.target == b"/pictures/The%20Sea.png?size=2"
    # The operator's allow-list does not hold for addresses that callers choose.
    assert request.purpose == PURPOSE


async def test_source_that_cannot_be_used_is_an_error_that_says_why(
    harness: AssetHarness,
) -> None:
    gone = FakeResponse(200, [(b"content-type", b"image/png")], b"<p>gone</p>")
    length = [(b"content-length", b"%d" % (LARGE_BYTES_MAX + 1))]
    moved = [(b"location", b"https://other.example/")]
    compressed = [(b"content-encoding", b"gzip")]
    steps: list[tuple[FakeResponse | EgressError, type[HeadgateError], str]] = [
        (FakeResponse(404), SourceNotReadableError, "404"),
        (FakeResponse(302, moved), SourceNotReadableError, "https://other.example/"),
        (FakeResponse(200, compressed, PNG), SourceNotReadableError, "compressed"),
        (FakeResponse(200, length, PNG), AssetTooLargeError, str(LARGE_BYTES_MAX)),
        (FakeResponse(200, [], ResponseTooLargeError("too large")), AssetTooLargeError, "larger"),
        (gone, MediaTypeError, "text"),
        (FakeResponse(200, [], b""), InvalidAssetError, "empty"),
        (IdleTimeoutError("it fell silent"), SourceNotReadableError, "silent"),
        (ForbiddenAddressError("10.0.0.1 is no address."), UnsafeOutboundUrlError, "10.0.0.1"),
    ]
    for step, error, told in steps:
        harness.client.steps[:] = [step]
        with pytest.raises(error) as caught:
            await harness.upload(source_url=URL)
        assert told in caught.value.message
    assert harness.list_objects() == []


async def test_only_https_addresses_are_fetched(harness: AssetHarness) -> None:
    for url in (
        *("http://images.example/a.png", "file:///etc/passwd", "https://", "https://a@b/", "x"),
        "https://a.example/" + "x" * 3_000,
    ):
        with pytest.raises(UnsafeOutboundUrlError):
            await harness.upload(source_url=url)
    assert harness.client.sent == []


async def test_name_of_a_text_tells_more_than_its_server(harness: AssetHarness) -> None:
    harness.client.steps[:] = [FakeResponse(200, [(b"content-type", b"text/plain")], b"# Title")]
    asset = await harness.upload(source_url="https://a.example/README.md")
    assert asset.media_type == "text/markdown"
    assert asset.slug == f"README-{asset.sha256[:12]}.md"


async def test_uploads_at_a_time_are_limited(
    harness: AssetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset_files, "UPLOADS_MAX", 0)
    with pytest.raises(TooManyUploadsError):
        await harness.upload(content_text="x")


async def test_slow_sources_of_one_organization_leave_room_for_others(
    harness: AssetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    read = SourceReader.read

    async def read_slowly(self: SourceReader, owner: Owner, upload: AssetUpload) -> SourceFile:
        if upload.slug == "slow.txt":
            await gate.wait()
        return await read(self, owner, upload)

    monkeypatch.setattr(SourceReader, "read", read_slowly)
    slow = [
        asyncio.create_task(harness.upload(content_text="x", slug="slow.txt", overwrite=True))
        for _ in range(asset_files.ORGANIZATION_UPLOADS_MAX)
    ]
    await asyncio.sleep(0)
    with pytest.raises(TooManyUploadsError, match="of this organization"):
        await harness.upload(content_text="y")
    assert (await harness.upload(harness.other, content_text="z")).bytes == 1
    gate.set()
    await asyncio.gather(*slow)
    assert (await harness.upload(content_text="y")).bytes == 1


async def test_archived_or_foreign_project_gets_no_asset(harness: AssetHarness) -> None:
    with pytest.raises(AccountNotFoundError):
        await harness.upload(
            ProjectOwner(harness.own.organization_id, harness.other.project_id), content_text="x"
        )


async def test_store_that_fails_leaves_no_asset(harness: AssetHarness) -> None:
    folder = harness.parts.storage.config.folder
    assert folder is not None
    folder.mkdir()
    (folder / "assets").write_text("in the way")
    with pytest.raises(ObjectStorageError):
        await harness.upload(content_text="x")
    filters = AssetFilter(organization_id=harness.own.organization_id)
    page = await harness.database.read(
        lambda connection: harness.application.assets.list_page(
            connection, filters, limit=9, offset=0
        )
    )
    assert page == ([], 0)
