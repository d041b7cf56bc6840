"""Assets and handles on a real database and a real folder, without a server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from headgate import settings
from headgate.assets.jobs import AssetCleaner
from headgate.assets.model.asset import Asset, AssetUpload
from headgate.assets.model.owner import ProjectOwner
from headgate.audit.model import SYSTEM
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.main.application import Application, open_application
from headgate.main.assets import AssetParts, build_assets
from tests.fakes.ledger import SetClock
from tests.fakes.pipeline import FakeClient, FakeResponse


@dataclass
class AssetHarness:
    application: Application
    parts: AssetParts
    database: AsyncDatabase
    client: FakeClient
    clock: SetClock
    own: ProjectOwner
    sibling: ProjectOwner
    """Another project of the same organization."""
    other: ProjectOwner
    cleaner: AssetCleaner

    async def upload(self, owner: ProjectOwner | None = None, **fields: object) -> Asset:
        upload = AssetUpload(**fields)  # type: ignore[arg-type]
        return await self.parts.files.upload(owner or self.own, upload, by=SYSTEM)

    async def read(self, asset: Asset) -> bytes:
        return b"".join([piece async for piece in await self.parts.files.open(asset)])

    async def remove(self, asset: Asset) -> None:
        await self.database.write(
            lambda connection: self.application.assets.remove(connection, asset, by=SYSTEM)
        )

    def list_objects(self) -> list[Path]:
        folder = self.parts.storage.config.folder
        assert folder is not None
        return sorted(path for path in folder.rglob("*") if path.is_file())


def make_owners(application: Application) -> tuple[ProjectOwner, ProjectOwner, ProjectOwner]:
    accounts = application.accounts
    with application.database.transaction() as connection:
        owners: list[ProjectOwner] = []
        for name, projects in (("Own", ("A", "B")), ("Other", ("A",))):
            organization = accounts.create_organization(connection, name, by=SYSTEM)
            for project in projects:
                made = accounts.create_project(
                    connection, project, organization_id=organization.id, by=SYSTEM
                )
                owners.append(ProjectOwner(organization.id, made.id))
    own, sibling, other = owners
    return own, sibling, other


@contextlib.asynccontextmanager
async def running_assets(
    folder: Path, database_url: str | None = None, /, **variables: str
) -> AsyncGenerator[AssetHarness]:
    """`variables` are HEADGATE_ settings in lower case, and others as they are."""
    environment = {
        f"HEADGATE_{name.upper()}" if name.islower() else name: value
        for name, value in variables.items()
    }
    loaded = settings.load(environment, data=folder, database_url=database_url)
    clock = SetClock()
    application = open_application(loaded, clock=clock)
    own, sibling, other = make_owners(application)
    writer = Writer(application.database)
    writer.start()
    database = AsyncDatabase(application.database, writer, reload=lambda: None)
    client = FakeClient(FakeResponse(404))
    parts = build_assets(application, database, client)
    cleaner = AssetCleaner(application.assets, parts.storage, database, clock)
    try:
        yield AssetHarness(
            application, parts, database, client, clock, own, sibling, other, cleaner
        )
    finally:
        await writer.stop()
        application.close()
