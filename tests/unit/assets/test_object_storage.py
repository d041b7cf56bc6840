"""Where the contents of assets are kept: a folder, or a bucket."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from headgate import settings
from headgate.assets.model.errors import AssetNotFoundError, ObjectStorageError
from headgate.data_directory.assets import build_storage_config
from headgate.settings import InvalidSettingError
from tests.fakes.asset_harness import running_assets
from tests.fakes.object_server import running_bucket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_bucket_keeps_assets_and_handles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy of the environment would be used, as the documentation says.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running_bucket() as bucket:
        environment = {
            "assets_url": "s3://headgate/site",
            "AWS_ENDPOINT_URL_S3": bucket.url,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
        }
        async with running_assets(tmp_path / "data", **environment) as harness:
            asset = await harness.upload(content_text="0123456789", slug="a.txt")
            path = f"/headgate/site/{asset.object_key}"
            assert bucket.objects == {path: b"0123456789"}
            assert await harness.read(asset) == b"0123456789"
            part = [piece async for piece in await harness.parts.files.open(asset, (2, 5))]
            assert b"".join(part) == b"234"
            handle = await harness.parts.handles.put(harness.own, b"x", "text/plain", "x")
            assert (await harness.parts.handles.get(harness.own, handle.id))[1] == b"x"
            await harness.remove(asset)
            harness.clock.time += 3_601
            assert await harness.cleaner.run() == 2
            assert bucket.objects == {}
            assert all(
                "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/" in each[2] for each in bucket.asked
            )
            assert all("/eu-central-1/s3/aws4_request" in each[2] for each in bucket.asked)
            with pytest.raises(AssetNotFoundError):
                await harness.parts.files.open(asset)
            bucket.fails = True
            with pytest.raises(ObjectStorageError):
                await harness.upload(content_text="x")
            assert await harness.cleaner.run() == 0, "an object that cannot be deleted waits"
            assert "secret" not in repr(harness.parts.storage.config)
        assert not (tmp_path / "data" / "assets").exists()


async def test_folder_is_for_its_user_alone_and_can_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "my assets"
    async with running_assets(
        tmp_path / "data", assets_url=f"file://{tmp_path}/my%20assets"
    ) as harness:
        asset = await harness.upload(content_text="x")
        assert (folder / asset.object_key).read_bytes() == b"x"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.example/",
        "s3://",
        "s3://key:secret@bucket/x",
        "s3://bucket?x=1",
        "file://elsewhere/x",
        "ftp://a/b",
    ],
)
def test_place_that_is_neither_is_refused(url: str, tmp_path: Path) -> None:
    loaded = settings.load({"HEADGATE_ASSETS_URL": url}, data=tmp_path)
    with pytest.raises(InvalidSettingError, match="HEADGATE_ASSETS_URL"):
        build_storage_config(loaded)
