from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.accounts.model import InvalidNameError
from headgate.accounts.store import tenants as accounts_store
from headgate.audit.model import COMMAND_LINE, AuditFilter
from headgate.audit.service import AuditLog
from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.model.managed_model import (
    InvalidManagedModelError,
    ManagedModel,
    ManagedModelChange,
    ManagedModelConflictError,
    ManagedModelDisabledError,
    ManagedModelNotFoundError,
    ManagedModelRequest,
)
from headgate.credentials.service import ManagedModelRouteTable, ManagedModelService
from headgate.credentials.service.managed_routes import CHAIN_MAX
from headgate.credentials.store import credentials as credential_store
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions
from headgate.kit.ids import IdGenerator
from headgate.relay.ports import Credential, Model, ModelMatch
from headgate.vault.service import TOPIC, LocalMasterKey, Sealer, store_master_key
from tests.fakes.pipeline import CREDENTIAL, FakeCredentials, FlatPrice, ManualClock

MINI = "gpt-5.4-mini"


class WideModels:
    """A catalog that knows every id but those that say so, each at its price."""

    providers = ("openai",)

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        raise NotImplementedError

    def find(self, model_id: str, integration: str | None = None) -> Model | None:
        if not model_id or model_id.startswith("unknown"):
            return None
        return Model(model_id, model_id, 0 if model_id.startswith("endless") else 1_000, 500)

    def price(self, model_id: str, at: float, integration: str | None = None) -> FlatPrice | None:
        return None if model_id.startswith("unpriced") else FlatPrice()


class NamedCredentials(FakeCredentials):
    """Opens every credential under the name it is asked for."""

    def resolve(
        self,
        organization_id: str,
        *,
        integration: str,
        name: str | None,
        model: str | None = None,
        is_free: bool = False,
    ) -> Credential:
        assert (organization_id, integration) == ("", "headgate")
        return msgspec.structs.replace(CREDENTIAL, id=name or "", managed=True)


class Shop:
    """A database with a platform credential of each of two names, and the managed models."""

    def __init__(self, path: Path | str) -> None:
        self.clock = ManualClock()
        self.database = Database(path)
        assert accounts_store.ORGANIZATIONS.metadata is METADATA
        METADATA.create_all(self.database.engine)
        self.audit = AuditLog(self.clock)
        self.book = ManagedModelService(
            models=WideModels(),
            audit=self.audit,
            clock=self.clock,
            ids=IdGenerator(),
        )
        self.managed_routes = ManagedModelRouteTable(NamedCredentials())
        master_key = LocalMasterKey(os.urandom(32))
        with self.database.transaction() as connection:
            store_master_key(connection, master_key, now=0.0)
            key_id, _ = Sealer(master_key, self.clock).current_key(connection, None)
            for number, (name, integration) in enumerate(
                (("main", "openai"), ("second", "openai"), ("foreign", "other"))
            ):
                record = CredentialRecord(
                    id=f"cred_{number}",
                    organization_id=None,
                    integration=integration,
                    name=name,
                    auth_type="api_key",
                    base_url="https://api.openai.com/v1",
                    provider_organization=None,
                    metadata={},
                    hint="…",
                    is_default=False,
                    created_at=0.0,
                    updated_at=0.0,
                    key_id=key_id,
                )
                credential_store.insert_credential(connection, record, sealed=b"")

    def attach(self, model_id: str, credential: str = "main", **more: Any) -> ManagedModel:
        request = ManagedModelRequest(model_id=model_id, credential=credential, **more)
        with self.database.transaction() as connection:
            return self.book.attach(connection, request, by=COMMAND_LINE)

    def change(self, model_id: str, **change: Any) -> ManagedModel:
        with self.database.transaction() as connection:
            managed = self.book.find(connection, model_id)
            return self.book.change(
                connection, managed, ManagedModelChange(**change), by=COMMAND_LINE
            )

    def deprecate(self, model_id: str, replacement_id: str) -> ManagedModel:
        return self.change(model_id, deprecated=True, replacement_id=replacement_id)

    def detach(self, model_id: str) -> None:
        with self.database.transaction() as connection:
            managed = self.book.find(connection, model_id)
            self.book.detach(connection, managed, by=COMMAND_LINE)

    def stored(self) -> dict[str, ManagedModel]:
        with self.database.reading() as connection:
            return {managed.model_id: managed for managed in self.book.list(connection)}

    def served(self, model_id: str) -> str | None:
        with self.database.reading() as connection:
            self.managed_routes.load(connection)
        managed_route = self.managed_routes.find(model_id)
        return None if managed_route is None else managed_route.model_id

    def revision(self) -> int:
        with self.database.reading() as connection:
            return read_revisions(connection).get(TOPIC, 0)

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        with self.database.reading() as connection:
            entries, _ = self.audit.list(connection, AuditFilter(), limit=100)
        return [(e.event.action, e.event.object_id, e.event.changes) for e in reversed(entries)]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "headgate.db")
    yield shop
    shop.database.close()


def test_attached_model_is_served_by_its_credential_under_its_own_name(shop: Shop) -> None:
    managed = shop.attach(MINI, "second", wire_id="deploy-1", display_name=" Mini ")
    assert (managed.display_name, managed.version, managed.enabled) == ("Mini", 1, True)
    assert shop.served(MINI) == MINI
    managed_route = shop.managed_routes.find(MINI)
    assert managed_route is not None
    assert (managed_route.wire_id, managed_route.credential.id) == ("deploy-1", "cred_1")
    (managed,) = shop.managed_routes.list()
    assert (managed.model_id, managed.display_name) == (MINI, "Mini")
    assert (managed.serving_id, managed.wire_id, managed.credential_id) == (
        *(MINI, "deploy-1"),
        "cred_1",
    )
    assert len(shop.managed_routes) == 1
    assert shop.served("gpt-4o") is None


def test_every_change_is_audited_and_told_to_other_processes(shop: Shop) -> None:
    managed = shop.attach(MINI)
    shop.attach("new")
    changed = shop.deprecate(MINI, "new")
    assert shop.change(MINI, deprecated=True) == changed
    shop.detach(MINI)
    assert shop.revision() == 4
    events = shop.events()
    assert [event[0] for event in events] == [
        *("managed_model.attached", "managed_model.attached"),
        *("managed_model.changed", "managed_model.detached"),
    ]
    assert events[2][1:] == (managed.id, {"deprecated": True, "replacement_id": "new"})


@pytest.mark.parametrize(
    ("model_id", "more", "param"),
    [
        ("unknown", {}, "model_id"),
        ("unpriced", {}, "model_id"),
        ("endless", {}, "model_id"),
        ("unknown", {"wire_id": "unknown-2"}, "model_id"),
        ("a b", {}, "model_id"),
        ("", {}, "model_id"),
        ("ü", {}, "model_id"),
        ("m" * 257, {}, "model_id"),
        (MINI, {"wire_id": "a\nb"}, "wire_id"),
    ],
)
def test_model_that_cannot_be_paid_for_is_not_attached(
    shop: Shop, model_id: str, more: dict[str, str], param: str
) -> None:
    with pytest.raises(InvalidManagedModelError) as refused:
        shop.attach(model_id, **more)
    assert refused.value.param == param
    assert (shop.stored(), shop.events(), shop.revision()) == ({}, [], 0)


def test_model_of_another_name_has_the_price_of_what_the_provider_is_told(shop: Shop) -> None:
    assert shop.attach("unknown-house", wire_id=MINI).wire_id == MINI
    with pytest.raises(InvalidManagedModelError):
        shop.change("unknown-house", wire_id="")


@pytest.mark.parametrize("credential", ["nothing", "foreign", "cred_2", ""])
def test_only_a_credential_of_the_platform_serves(shop: Shop, credential: str) -> None:
    with pytest.raises(InvalidManagedModelError) as refused:
        shop.attach(MINI, credential)
    assert refused.value.param == "credential"
    shop.attach(MINI, "cred_0")
    with pytest.raises(InvalidManagedModelError):
        shop.change(MINI, credential=credential)
    assert shop.change(MINI, credential="second").credential_id == "cred_1"


def test_name_that_cannot_be_shown_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidNameError) as refused:
        shop.attach(MINI, display_name="a\nb")
    assert refused.value.param == "display_name"


def test_model_is_attached_once(shop: Shop) -> None:
    shop.attach(MINI)
    with pytest.raises(ManagedModelConflictError, match="already"):
        shop.attach(MINI)


def test_one_model_is_the_default(shop: Shop) -> None:
    shop.attach("a", is_default=True)
    shop.attach("b", is_default=True)
    shop.attach("c")
    assert [m.model_id for m in shop.stored().values() if m.is_default] == ["b"]
    assert {m.model_id: m.version for m in shop.stored().values()} == {"a": 2, "b": 1, "c": 1}
    shop.change("c", is_default=True)
    assert [m.model_id for m in shop.stored().values() if m.is_default] == ["c"]
    assert shop.served("nothing") is None
    default = shop.managed_routes.default()
    assert default is not None
    assert default.model_id == "c"
    shop.change("c", is_default=False)
    shop.served("c")
    assert shop.managed_routes.default() is None


def test_deprecated_model_is_served_by_the_end_of_its_chain(shop: Shop) -> None:
    for name in ("a", "b", "c"):
        shop.attach(name)
    shop.deprecate("a", "b")
    shop.deprecate("b", "c")
    assert [shop.served(name) for name in ("a", "b", "c")] == ["c", "c", "c"]
    shop.change("b", deprecated=False)
    assert shop.stored()["b"].replacement_id is None
    assert shop.served("a") == "b"


def test_deprecated_model_without_a_replacement_serves_on(shop: Shop) -> None:
    shop.attach(MINI)
    shop.change(MINI, deprecated=True)
    assert shop.served(MINI) == MINI


def test_replacements_that_go_round_in_a_circle_are_refused(shop: Shop) -> None:
    for name in ("a", "b", "c"):
        shop.attach(name)
    shop.deprecate("a", "b")
    shop.deprecate("b", "c")
    for name, replacement in (("c", "a"), ("c", "c")):
        with pytest.raises(InvalidManagedModelError, match="circle"):
            shop.deprecate(name, replacement)
    assert not shop.stored()["c"].deprecated


def test_chain_of_replacements_is_bounded_from_either_end(shop: Shop) -> None:
    names = [f"m{number}" for number in range(CHAIN_MAX + 2)]
    for name in names:
        shop.attach(name)
    for old, new in itertools.pairwise(names[1:]):
        shop.deprecate(old, new)
    assert shop.served(names[1]) == names[-1]
    with pytest.raises(InvalidManagedModelError, match=f"more than {CHAIN_MAX}"):
        shop.deprecate(names[0], names[1])


def test_replacement_is_a_managed_model_of_a_deprecated_one(shop: Shop) -> None:
    shop.attach("a")
    shop.attach("b")
    for change in ({"deprecated": True, "replacement_id": "x"}, {"replacement_id": "b"}):
        with pytest.raises(InvalidManagedModelError) as refused:
            shop.change("a", **change)
        assert refused.value.param == "replacement_id"


def test_model_that_replaces_another_is_not_detached(shop: Shop) -> None:
    shop.attach("a")
    shop.attach("b")
    shop.deprecate("a", "b")
    with pytest.raises(ManagedModelConflictError, match="replaces a"):
        shop.detach("b")
    shop.detach("a")
    shop.detach("b")
    with pytest.raises(ManagedModelNotFoundError):
        shop.detach("b")


def test_model_that_is_switched_off_is_refused_also_as_a_replacement(shop: Shop) -> None:
    shop.attach("a")
    shop.attach("b", is_default=True)
    shop.deprecate("a", "b")
    shop.change("b", enabled=False)
    for name in ("a", "b"):
        with pytest.raises(ManagedModelDisabledError) as refused:
            shop.served(name)
        assert refused.value.should_retry is False
    with pytest.raises(ManagedModelDisabledError):
        shop.managed_routes.default()
    assert shop.managed_routes.list() == []


def test_change_of_what_was_changed_meanwhile_is_refused(shop: Shop) -> None:
    read = shop.attach(MINI)
    shop.change(MINI, enabled=False)
    with (
        pytest.raises(ManagedModelConflictError, match="meanwhile"),
        shop.database.transaction() as connection,
    ):
        shop.book.change(connection, read, ManagedModelChange(wire_id="x"), by=COMMAND_LINE)
    stored = shop.stored()[MINI]
    assert (stored.wire_id, stored.enabled, stored.version) == ("", False, 2)


def test_managed_models_live_on_postgresql_as_well(postgres_url: str) -> None:
    shop = Shop(postgres_url)
    try:
        for name in ("a", "b", "c"):
            shop.attach(name, is_default=True)
        assert [m.model_id for m in shop.stored().values() if m.is_default] == ["c"]
        shop.deprecate("a", "b")
        assert shop.served("a") == "b"
        with pytest.raises(ManagedModelConflictError):
            shop.detach("b")
        shop.detach("a")
        assert sorted(shop.stored()) == ["b", "c"]
    finally:
        shop.database.close()
