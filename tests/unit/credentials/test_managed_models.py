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
from headgate.llm.convert.field_rules import FieldRules
from headgate.relay.ports import Credential, Model, ModelMatch
from headgate.vault.service import TOPIC, LocalMasterKey, Sealer, store_master_key
from tests.fakes.pipeline import CREDENTIAL, FakeCredentials, FlatPrice, ManualClock

MINI = "gpt-5.4-mini"


class WideModels:
    """Return a model and a price for every id, except for ids that begin with `unknown`."""

    providers = ("openai",)

    def match(self, name: str, integration: str | None = None) -> ModelMatch:
        raise NotImplementedError

    def find(self, model_id: str, integration: str | None = None) -> Model | None:
        if not model_id or model_id.startswith("unknown"):
            return None
        return Model(model_id, model_id, 0 if model_id.startswith("endless") else 1_000, 500)

    def field_rules(self, integration: str, endpoint: str) -> FieldRules | None:
        return None

    def price(self, model_id: str, at: float, integration: str | None = None) -> FlatPrice | None:
        return None if model_id.startswith("unpriced") else FlatPrice()


class NamedCredentials(FakeCredentials):
    """Resolve every credential under the name that is asked for."""

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


class ManagedModelHarness:
    """Hold a database with two platform credentials, and the managed models."""

    def __init__(self, path: Path | str) -> None:
        self.clock = ManualClock()
        self.database = Database(path)
        assert accounts_store.ORGANIZATIONS.metadata is METADATA
        METADATA.create_all(self.database.engine)
        self.audit = AuditLog(self.clock)
        self.service = ManagedModelService(
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
            return self.service.attach(connection, request, by=COMMAND_LINE)

    def change(self, model_id: str, **change: Any) -> ManagedModel:
        with self.database.transaction() as connection:
            managed = self.service.find(connection, model_id)
            return self.service.change(
                connection, managed, ManagedModelChange(**change), by=COMMAND_LINE
            )

    def deprecate(self, model_id: str, replacement_id: str) -> ManagedModel:
        return self.change(model_id, deprecated=True, replacement_id=replacement_id)

    def detach(self, model_id: str) -> None:
        with self.database.transaction() as connection:
            managed = self.service.find(connection, model_id)
            self.service.detach(connection, managed, by=COMMAND_LINE)

    def stored(self) -> dict[str, ManagedModel]:
        with self.database.reading() as connection:
            return {managed.model_id: managed for managed in self.service.list(connection)}

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
def harness(tmp_path: Path) -> Iterator[ManagedModelHarness]:
    harness = ManagedModelHarness(tmp_path / "headgate.db")
    yield harness
    harness.database.close()


def test_attached_model_is_served_by_its_credential_under_its_own_name(
    harness: ManagedModelHarness,
) -> None:
    managed = harness.attach(MINI, "second", wire_id="deploy-1", display_name=" Mini ")
    assert (managed.display_name, managed.version, managed.enabled) == ("Mini", 1, True)
    assert harness.served(MINI) == MINI
    managed_route = harness.managed_routes.find(MINI)
    assert managed_route is not None
    assert (managed_route.wire_id, managed_route.credential.id) == ("deploy-1", "cred_1")
    (managed,) = harness.managed_routes.list()
    assert (managed.model_id, managed.display_name) == (MINI, "Mini")
    assert (managed.serving_id, managed.wire_id, managed.credential_id) == (
        *(MINI, "deploy-1"),
        "cred_1",
    )
    assert len(harness.managed_routes) == 1
    assert harness.served("gpt-4o") is None


def test_every_change_is_audited_and_told_to_other_processes(harness: ManagedModelHarness) -> None:
    managed = harness.attach(MINI)
    harness.attach("new")
    changed = harness.deprecate(MINI, "new")
    assert harness.change(MINI, deprecated=True) == changed
    harness.detach(MINI)
    assert harness.revision() == 4
    events = harness.events()
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
    harness: ManagedModelHarness, model_id: str, more: dict[str, str], param: str
) -> None:
    with pytest.raises(InvalidManagedModelError) as refused:
        harness.attach(model_id, **more)
    assert refused.value.param == param
    assert (harness.stored(), harness.events(), harness.revision()) == ({}, [], 0)


def test_model_of_another_name_has_the_price_of_what_the_provider_is_told(
    harness: ManagedModelHarness,
) -> None:
    assert harness.attach("unknown-house", wire_id=MINI).wire_id == MINI
    with pytest.raises(InvalidManagedModelError):
        harness.change("unknown-house", wire_id="")


@pytest.mark.parametrize("credential", ["nothing", "foreign", "cred_2", ""])
def test_only_a_credential_of_the_platform_serves(
    harness: ManagedModelHarness, credential: str
) -> None:
    with pytest.raises(InvalidManagedModelError) as refused:
        harness.attach(MINI, credential)
    assert refused.value.param == "credential"
    harness.attach(MINI, "cred_0")
    with pytest.raises(InvalidManagedModelError):
        harness.change(MINI, credential=credential)
    assert harness.change(MINI, credential="second").credential_id == "cred_1"


def test_name_that_cannot_be_shown_is_refused(harness: ManagedModelHarness) -> None:
    with pytest.raises(InvalidNameError) as refused:
        harness.attach(MINI, display_name="a\nb")
    assert refused.value.param == "display_name"


def test_model_is_attached_once(harness: ManagedModelHarness) -> None:
    harness.attach(MINI)
    with pytest.raises(ManagedModelConflictError, match="already"):
        harness.attach(MINI)


def test_one_model_is_the_default(harness: ManagedModelHarness) -> None:
    harness.attach("a", is_default=True)
    harness.attach("b", is_default=True)
    harness.attach("c")
    assert [m.model_id for m in harness.stored().values() if m.is_default] == ["b"]
    assert {m.model_id: m.version for m in harness.stored().values()} == {"a": 2, "b": 1, "c": 1}
    harness.change("c", is_default=True)
    assert [m.model_id for m in harness.stored().values() if m.is_default] == ["c"]
    assert harness.served("nothing") is None
    default = harness.managed_routes.default()
    assert default is not None
    assert default.model_id == "c"
    harness.change("c", is_default=False)
    harness.served("c")
    assert harness.managed_routes.default() is None


def test_deprecated_model_is_served_by_the_end_of_its_chain(harness: ManagedModelHarness) -> None:
    for name in ("a", "b", "c"):
        harness.attach(name)
    harness.deprecate("a", "b")
    harness.deprecate("b", "c")
    assert [harness.served(name) for name in ("a", "b", "c")] == ["c", "c", "c"]
    harness.change("b", deprecated=False)
    assert harness.stored()["b"].replacement_id is None
    assert harness.served("a") == "b"


def test_deprecated_model_without_a_replacement_serves_on(harness: ManagedModelHarness) -> None:
    harness.attach(MINI)
    harness.change(MINI, deprecated=True)
    assert harness.served(MINI) == MINI


def test_replacements_that_go_round_in_a_circle_are_refused(harness: ManagedModelHarness) -> None:
    for name in ("a", "b", "c"):
        harness.attach(name)
    harness.deprecate("a", "b")
    harness.deprecate("b", "c")
    for name, replacement in (("c", "a"), ("c", "c")):
        with pytest.raises(InvalidManagedModelError, match="circle"):
            harness.deprecate(name, replacement)
    assert not harness.stored()["c"].deprecated


def test_chain_of_replacements_is_bounded_from_either_end(harness: ManagedModelHarness) -> None:
    names = [f"m{number}" for number in range(CHAIN_MAX + 2)]
    for name in names:
        harness.attach(name)
    for old, new in itertools.pairwise(names[1:]):
        harness.deprecate(old, new)
    assert harness.served(names[1]) == names[-1]
    with pytest.raises(InvalidManagedModelError, match=f"more than {CHAIN_MAX}"):
        harness.deprecate(names[0], names[1])


def test_replacement_is_a_managed_model_of_a_deprecated_one(harness: ManagedModelHarness) -> None:
    harness.attach("a")
    harness.attach("b")
    for change in ({"deprecated": True, "replacement_id": "x"}, {"replacement_id": "b"}):
        with pytest.raises(InvalidManagedModelError) as refused:
            harness.change("a", **change)
        assert refused.value.param == "replacement_id"


def test_model_that_replaces_another_is_not_detached(harness: ManagedModelHarness) -> None:
    harness.attach("a")
    harness.attach("b")
    harness.deprecate("a", "b")
    with pytest.raises(ManagedModelConflictError, match="replaces a"):
        harness.detach("b")
    harness.detach("a")
    harness.detach("b")
    with pytest.raises(ManagedModelNotFoundError):
        harness.detach("b")


def test_model_that_is_switched_off_is_refused_also_as_a_replacement(
    harness: ManagedModelHarness,
) -> None:
    harness.attach("a")
    harness.attach("b", is_default=True)
    harness.deprecate("a", "b")
    harness.change("b", enabled=False)
    for name in ("a", "b"):
        with pytest.raises(ManagedModelDisabledError) as refused:
            harness.served(name)
        assert refused.value.should_retry is False
    with pytest.raises(ManagedModelDisabledError):
        harness.managed_routes.default()
    assert harness.managed_routes.list() == []


def test_change_of_what_was_changed_meanwhile_is_refused(harness: ManagedModelHarness) -> None:
    read = harness.attach(MINI)
    harness.change(MINI, enabled=False)
    with (
        pytest.raises(ManagedModelConflictError, match="somebody else"),
        harness.database.transaction() as connection,
    ):
        harness.service.change(connection, read, ManagedModelChange(wire_id="x"), by=COMMAND_LINE)
    stored = harness.stored()[MINI]
    assert (stored.wire_id, stored.enabled, stored.version) == ("", False, 2)


def test_managed_models_live_on_postgresql_as_well(postgres_url: str) -> None:
    harness = ManagedModelHarness(postgres_url)
    try:
        for name in ("a", "b", "c"):
            harness.attach(name, is_default=True)
        assert [m.model_id for m in harness.stored().values() if m.is_default] == ["c"]
        harness.deprecate("a", "b")
        assert harness.served("a") == "b"
        with pytest.raises(ManagedModelConflictError):
            harness.detach("b")
        harness.detach("a")
        assert sorted(harness.stored()) == ["b", "c"]
    finally:
        harness.database.close()
