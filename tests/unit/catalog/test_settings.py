from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.audit.model import Actor, ActorKind, AuditFilter
from headgate.audit.service import AuditLog
from headgate.catalog.model.settings import (
    HIDDEN_MAX,
    InvalidOrganizationSettingError,
    LlmChoice,
    OrganizationSettings,
)
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.settings import CatalogSettings
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions

OWNER = Actor(ActorKind.PERSON, "person_1", "ada@example.com")
CHOICE = LlmChoice("openai", "openai", "gpt-5.4", "cred_1")
clock = SystemClock()
audit = AuditLog(clock)
catalog = Catalog.load()
settings = CatalogSettings(catalog, audit, clock)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "headgate.db")
    METADATA.create_all(opened.engine)
    yield opened
    opened.close()


def read(database: Database, organization_id: str = "org_1") -> OrganizationSettings:
    with database.reading() as connection:
        return settings.read(connection, organization_id)


def test_everything_is_shown_until_somebody_says_otherwise(database: Database) -> None:
    assert not read(database).is_hidden("gpt-5.4")
    assert read(database).composer_llm is None


def test_hidden_models_and_default_are_the_organizations_own(database: Database) -> None:
    with database.transaction() as connection:
        settings.choose_default(connection, "org_1", CHOICE, by=OWNER)
        shown = {"gpt-4.1": False, "gpt-5.4": True}
        settings.set_model_visibility(connection, "org_1", shown, by=OWNER)
    own = read(database)
    assert settings.hidden("org_1") == frozenset()
    with database.reading() as connection:
        settings.reload(connection)
        assert read_revisions(connection) == {"catalog": 2}
    assert settings.hidden("org_1") == {"gpt-4.1"}
    assert settings.hidden("org_2") == frozenset()
    assert own.is_hidden("gpt-4.1")
    assert not own.is_hidden("gpt-5.4")
    assert own.composer_llm == CHOICE
    assert read(database, "org_2") == OrganizationSettings()
    with database.transaction() as connection:
        settings.set_model_visibility(connection, "org_1", {}, by=OWNER)
        settings.choose_default(connection, "org_1", None, by=OWNER)
    assert read(database) == OrganizationSettings(version=4)
    with database.reading() as connection:
        entries, _ = audit.list(connection, AuditFilter(organization_id="org_1"), limit=10)
    assert [entry.event.action for entry in reversed(entries)] == [
        "composer_llm.changed",
        "llm_model_visibility.changed",
        "llm_model_visibility.changed",
        "composer_llm.changed",
    ]
    assert entries[2].event.changes == {"hidden": ["gpt-4.1"]}
    assert entries[3].event.changes["composer_llm"]["model_id"] == "gpt-5.4"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        (LlmChoice("nobody", "nobody", "gpt-5.4"), "composer_llm.integration_name"),
        (LlmChoice("openai", "azure", "gpt-5.4"), "composer_llm.provider_id"),
        (LlmChoice("openai", "openai", "gpt-4.1"), "composer_llm.model_id"),
    ],
)
def test_default_that_cannot_be_is_refused(
    database: Database, choice: LlmChoice, param: str
) -> None:
    with database.transaction() as connection:
        settings.set_model_visibility(connection, "org_1", {"gpt-4.1": False}, by=OWNER)
        with pytest.raises(InvalidOrganizationSettingError) as refused:
            settings.choose_default(connection, "org_1", choice, by=OWNER)
    assert refused.value.param == param
    assert read(database).composer_llm is None


def test_id_that_the_catalog_does_not_know_can_be_the_default(database: Database) -> None:
    with database.transaction() as connection:
        choice = LlmChoice("openai", "openai", "ft:gpt-4o:acme::1")
        settings.choose_default(connection, "org_1", choice, by=OWNER)
    assert read(database).composer_llm == choice


@pytest.mark.parametrize(
    "visibility",
    [
        {"gpt-99": False},
        {"gpt-5.4": False},
        {f"model-{number}": False for number in range(HIDDEN_MAX + 1)},
    ],
    ids=["unknown", "the default", "too many"],
)
def test_visibility_that_cannot_be_is_refused(
    database: Database, visibility: dict[str, bool]
) -> None:
    with database.transaction() as connection:
        settings.choose_default(connection, "org_1", CHOICE, by=OWNER)
        with pytest.raises(InvalidOrganizationSettingError) as refused:
            settings.set_model_visibility(connection, "org_1", visibility, by=OWNER)
    assert refused.value.param == "llm_model_visibility"
    assert read(database).llm_model_visibility == {}
