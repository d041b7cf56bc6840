"""Resources in both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import exc

from headgate.accounts.service import AccountService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revision
from headgate.kit.ids import IdGenerator
from headgate.resources.model.resource import Resource, ResourceConfig, ResourceFilter
from headgate.resources.model.routing_config import RoutedModel, RoutingConfig, RoutingGroup
from headgate.resources.model.slot import ModelSlot, WeightedCredential
from headgate.resources.store import resources as store

CONFIG = ResourceConfig(
    model=ModelSlot(model="m", credentials=(WeightedCredential(credential_id="c", weight=3),)),
    fallback_models=(ModelSlot(model="ü", timeout_ms=500),),
    routing=RoutingConfig(conditions=(RoutingGroup(then=RoutedModel(model="r", traffic=12.5)),)),
    default_args={"metadata": {"a": [1, None, True]}},
)


def test_resource_is_stored_whole_and_its_version_decides_who_changes_it(
    empty_place: Path | str,
) -> None:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        clock = SystemClock()
        accounts = AccountService(clock, IdGenerator(), AuditLog(clock))
        owner = accounts.create_organization(connection, "Acme", by=SYSTEM).id
        project = accounts.create_project(connection, "P", organization_id=owner, by=SYSTEM).id
        made = Resource(
            id="res_1",
            organization_id=owner,
            project_id=project,
            name="smart",
            description=None,
            config=CONFIG,
            created_at=1.5,
            updated_at=2.5,
        )
        store.insert(connection, made)
        store.insert(connection, replace(made, id="res_2", name="other"))
        store.note_change(connection)
    mine = ResourceFilter(organization_id=owner)
    with database.reading() as connection:
        page = store.select_page(connection, mine, limit=1, offset=1)
        assert (page, store.count(connection, mine)) == ([made], 2)
        assert store.select_named(connection, replace(mine, among=(project,)), "smart") == [made]
        assert store.select_named(connection, replace(mine, project_id="p"), "smart") == []
        assert store.select_named(connection, ResourceFilter(organization_id="o"), "res_1") == []
        assert read_revision(connection, store.TOPIC) == 1
    with database.transaction() as connection:
        changed = replace(made, description="new", version=2)
        assert store.update(connection, changed)
        assert not store.update(connection, changed)
        store.delete(connection, "res_2")
        assert store.select_all(connection) == [changed]
    with pytest.raises(exc.IntegrityError), database.transaction() as connection:
        store.insert(connection, replace(made, id="res_3"))
    database.close()
