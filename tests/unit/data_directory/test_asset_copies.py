"""The files of assets in backups."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from headgate.data_directory import backup
from headgate.data_directory.asset_copies import CopiedAssets
from headgate.data_directory.backup import BackupManifest
from headgate.main.master_keys import build_source
from headgate.settings import Settings
from tests.fakes.asset_harness import AssetHarness, running_assets

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncGenerator[AssetHarness]:
    async with running_assets(tmp_path / "data") as running:
        yield running


def back_up(harness: AssetHarness, folder: Path) -> BackupManifest:
    settings = harness.application.settings
    return backup.back_up(settings, build_source(settings), folder)


async def test_files_of_assets_are_backed_up_and_come_back(
    harness: AssetHarness, tmp_path: Path
) -> None:
    kept = await harness.upload(content_text="kept", slug="kept.txt")
    removed = await harness.upload(content_text="removed")
    await harness.parts.handles.put(harness.own, b"handle", "text/plain", "a")
    await harness.remove(removed)
    manifest = back_up(harness, tmp_path / "backup")
    assert manifest.assets == CopiedAssets(files=1, bytes=4)
    assert backup.read_manifest(tmp_path / "backup", "sqlite") == manifest
    key = (harness.application.settings.data / "master.key").read_bytes()
    fresh = Settings(data=tmp_path / "fresh")
    fresh.data.mkdir()
    (fresh.data / "master.key").write_bytes(key)
    (fresh.data / "master.key").chmod(0o600)
    done = backup.restore(fresh, build_source(fresh), tmp_path / "backup", replace=False)
    assert done.assets == manifest.assets
    async with running_assets(fresh.data) as restored:
        found = await restored.parts.files.find_public(kept.id, kept.slug)
        assert found == kept
        assert await restored.read(found) == b"kept"


async def test_missing_and_damaged_files_are_counted_and_not_copied(
    harness: AssetHarness, tmp_path: Path
) -> None:
    for text in ("one", "two", "three"):
        await harness.upload(content_text=text)
    first, second, _ = harness.list_objects()
    first.unlink()
    second.write_bytes(b"x" * second.stat().st_size)
    manifest = back_up(harness, tmp_path / "backup")
    assert manifest.assets is not None
    assert (manifest.assets.files, manifest.assets.missing) == (1, 2)
    copied = [path for path in (tmp_path / "backup/assets").rglob("*") if path.is_file()]
    assert len(copied) == 1


async def test_backup_from_before_assets_is_restored(harness: AssetHarness, tmp_path: Path) -> None:
    back_up(harness, tmp_path / "backup")
    path = tmp_path / "backup" / backup.MANIFEST_FILE
    written = msgspec.json.decode(path.read_bytes())
    del written["assets"]
    path.write_bytes(msgspec.json.encode(written))
    fresh = Settings(data=tmp_path / "fresh")
    fresh.data.mkdir()
    done = backup.restore(fresh, build_source(fresh), tmp_path / "backup", replace=False)
    assert done.assets is None


async def test_files_in_a_bucket_are_in_no_backup(harness: AssetHarness, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        harness.application.settings, assets_url="s3://headgate/assets"
    )
    assert backup.back_up(settings, build_source(settings), tmp_path / "backup").assets is None


async def test_copies_are_on_the_disk_with_their_folders(
    harness: AssetHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[Path] = set()

    def fsync(descriptor: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink())

    with monkeypatch.context() as watched:
        watched.setattr(os, "fsync", fsync)
        kept = await harness.upload(content_text="kept")
    path = harness.application.settings.data / "assets" / kept.object_key
    assert {path, path.parent, path.parent.parent, path.parent.parent.parent} <= flushed
    flushed.clear()
    with monkeypatch.context() as watched:
        watched.setattr(os, "fsync", fsync)
        back_up(harness, tmp_path / "backup")
    made = tmp_path / "backup.part"
    copy = made / "assets" / kept.object_key
    assert {made, *copy.parents} - {*made.parents} <= flushed
