"""Builds what sets up integrations, and what tells of them."""

from __future__ import annotations

from headgate.api.services import Services
from headgate.connectors.service.actions import ActionService
from headgate.connectors.service.directory import IntegrationDirectory
from headgate.connectors.service.setup import SetupService
from headgate.connectors.service.setup_tools import SetupTools
from headgate.credentials.service import CredentialTester
from headgate.kit.db.async_database import AsyncDatabase
from headgate.main.application import Application


def build_setup(
    application: Application,
    storage: AsyncDatabase,
    tester: CredentialTester,
    actions: ActionService,
) -> SetupService:
    connectors = actions.registry.list()
    return SetupService(
        application.catalog.integrations,
        storage,
        credentials=application.credentials,
        secrets=application.secrets,
        tester=tester,
        audit=application.audit,
        aliases={each.name: each.manifest.integration for each in connectors},
    )


def build_setup_tools(services: Services) -> SetupTools:
    return SetupTools(services.directory, services.setup, services.actions)


def build_directory(application: Application, actions: ActionService) -> IntegrationDirectory:
    return IntegrationDirectory(
        application.catalog.integrations, actions.registry, application.credential_resolver
    )
