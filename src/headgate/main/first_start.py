"""Creates what a start finds missing: the first organization, project, keys and credential."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import Organization
from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from headgate.data_directory.leftovers import FIRST_KEYS_FILE
from headgate.keys.model import KeyKind, KeyRequest
from headgate.kit.failpoint import failpoint
from headgate.kit.private_file import write_private_json
from headgate.main.application import Application
from headgate.relay.ports import Credential

INTEGRATION = "openai"
SIMULATOR_NAME = "simulator"
SIMULATOR_SECRET = "sk-simulator-answers-without-a-provider"


def prepare_first_start(application: Application) -> bool:
    """Create the first organization, project and keys if there are none; return whether it did.

    The keys are on the disk (DIR/first-keys.json, mode 0600) before they are in the database, so
    that a start which dies in between makes new ones instead of losing them.
    """
    with application.database.transaction(exclusive=True) as connection:
        if application.accounts.list_organizations(connection):
            return False
        organization = application.accounts.create_organization(
            connection, "First organization", by=SYSTEM
        )
        project = application.accounts.create_project(
            connection, "Default", organization_id=organization.id, by=SYSTEM
        )
        inference, admin = (
            application.keys.create(
                connection,
                KeyRequest(
                    name=name,
                    organization_id=organization.id,
                    project_id=project.id,
                    kind=kind,
                    permissions=permissions,
                ),
                by=SYSTEM,
            )
            for name, kind, permissions in (
                ("first", KeyKind.LIVE, ()),
                ("first admin", KeyKind.ADMIN, ("*",)),
            )
        )
        write_private_json(
            application.settings.data / FIRST_KEYS_FILE,
            {
                "organization_id": organization.id,
                "project_id": project.id,
                "inference_key": inference.token,
                "admin_key": admin.token,
            },
        )
        failpoint("first_start_keys")
    return True


def find_default_credential(application: Application) -> Credential | None:
    """Return the credential that answers calls of the first organization which name none."""
    with application.database.reading() as connection:
        organization = application.accounts.list_organizations(connection)[0]
    return application.credential_resolver.peek(organization.id, INTEGRATION)


def prepare_credential(application: Application, simulator_url: str | None) -> None:
    """Store or update the credential of the environment or of the simulator. Remove the simulator's
    credential when it does not run, so that no call chooses it."""
    settings = application.settings
    with application.database.transaction(exclusive=True) as connection:
        organization = application.accounts.list_organizations(connection)[0]
        _drop_simulator(application, connection, but=simulator_url)
        if settings.openai_api_key:
            application.credentials.upsert_environment(
                connection,
                CredentialRequest(
                    organization_id=organization.id,
                    integration=INTEGRATION,
                    secret=settings.openai_api_key,
                    base_url=settings.openai_base_url,
                ),
            )
        elif simulator_url is not None:
            _add_simulator(application, connection, organization, simulator_url)


def _drop_simulator(
    application: Application, connection: sa.Connection, *, but: str | None
) -> None:
    for record in application.credentials.list(connection):
        if record.source == SIMULATOR_NAME and record.base_url != but:
            application.credentials.remove(connection, record, by=SYSTEM)


def _add_simulator(
    application: Application, connection: sa.Connection, organization: Organization, url: str
) -> None:
    if any(record.source == SIMULATOR_NAME for record in application.credentials.list(connection)):
        return
    application.credentials.add(
        connection,
        CredentialRequest(
            organization_id=organization.id,
            integration=INTEGRATION,
            secret=SIMULATOR_SECRET,
            name=SIMULATOR_NAME,
            base_url=url,
            source=SIMULATOR_NAME,
        ),
        by=SYSTEM,
    )
