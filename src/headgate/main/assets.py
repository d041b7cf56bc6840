"""Wiring of assets and handles."""

from __future__ import annotations

import msgspec

from headgate.api.services import Services
from headgate.assets.jobs import INTERVAL_SECONDS, AssetCleaner
from headgate.assets.service import AssetFiles, Handles, ObjectStorage, SourceReader
from headgate.connectors.service.asset_tools import AssetTools
from headgate.data_directory.assets import build_storage_config
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.kit.jobs import Job
from headgate.main.application import Application
from headgate.main.local_address import find_local_url
from headgate.settings import Settings


class AssetParts(msgspec.Struct, frozen=True):
    """Hold what moves files. Several may be built: they share the database and the store."""

    files: AssetFiles
    handles: Handles
    storage: ObjectStorage


def build_assets(application: Application, database: AsyncDatabase, client: Client) -> AssetParts:
    """Build what keeps assets and handles. Files are fetched over `client`."""
    settings = application.settings
    storage = ObjectStorage(build_storage_config(settings))
    handles = Handles(
        storage,
        database,
        lambda: application.sealer,
        application.clock,
        bytes_max=settings.handles_bytes_max,
    )
    files = AssetFiles(
        application.assets,
        storage,
        database,
        SourceReader(client, handles),
        base_url=find_own_url(settings),
    )
    return AssetParts(files, handles, storage)


def build_asset_tools(services: Services) -> AssetTools:
    return AssetTools(
        services.assets,
        services.asset_files,
        services.handles,
        services.storage,
    )


def build_jobs(application: Application, writer: Writer) -> list[Job]:
    database = AsyncDatabase(application.database, writer, reload=lambda: None)
    storage = ObjectStorage(build_storage_config(application.settings))
    cleaner = AssetCleaner(application.assets, storage, database, application.clock)

    async def clean() -> None:
        await cleaner.run()

    return [Job(name="clean_assets", run=clean, period_seconds=INTERVAL_SECONDS)]


def find_own_url(settings: Settings) -> str:
    """Return where this server is reached, without a trailing slash."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    return find_local_url(settings)
