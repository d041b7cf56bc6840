"""Find the connectors: every folder of this package that has a `manifest.toml`.

The manifests are read once, at the start. The actions of a connector are imported when somebody
first asks for them.
"""

from __future__ import annotations

import functools
import importlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from headgate.connectors.model.action import Action, Actions, DataSource
from headgate.connectors.model.errors import UnknownActionError, UnknownIntegrationError
from headgate.kit.errors import HeadgateError

PACKAGE = "headgate.connectors"
FOLDER = Path(__file__).parents[1]
MANIFEST = "manifest.toml"
NAME = r"^[a-z][a-z0-9_]{0,31}$"
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,48}")
"""Clients allow 64 characters, and put a prefix of their own before a name."""

Name = Annotated[str, msgspec.Meta(pattern=NAME)]


class InvalidConnectorError(HeadgateError):
    """A connector of this installation is declared wrongly; the message names its folder.

    Correct its `manifest.toml` or its `actions.py`.
    """

    code = "connector_invalid"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe a connector, a `manifest.toml`.

    `integration` is the integration of the catalog whose credentials it uses. A connector that
    `needs_credential` is offered to organizations that have one; another one to all.
    """

    name: Name
    display_name: str
    description: str
    integration: Name
    needs_credential: bool = True
    docs_url: str | None = None


class Connector:
    """Hold one connector. Its actions are imported at the first look."""

    def __init__(self, manifest: Manifest, package: str) -> None:
        self.manifest = manifest
        self.name = manifest.name
        self._package = package

    @functools.cached_property
    def declared(self) -> Actions:
        """Return what `actions.py` declares. Raise `InvalidConnectorError`."""
        module = importlib.import_module(f"{self._package}.{self.name}.actions")
        declared = getattr(module, "ACTIONS", None)
        if not isinstance(declared, Actions) or declared.connector != self.name:
            raise InvalidConnectorError(
                f"{self.name}/actions.py has no ACTIONS = Actions({self.name!r})."
            )
        return declared

    @property
    def actions(self) -> Sequence[Action]:
        return self.declared.all

    @property
    def data_sources(self) -> Sequence[DataSource]:
        return self.declared.data_sources

    def find_action(self, name: str) -> Action:
        """Return an action by its name. Raise `UnknownActionError`."""
        for action in self.actions:
            if action.name == name:
                return action
        known = ", ".join(action.name for action in self.actions)
        raise UnknownActionError(f"{self.name} has no action of this name; it has: {known}.")

    def find_data_source(self, name: str) -> DataSource:
        """Return a data source by its name. Raise `UnknownActionError`."""
        for source in self.data_sources:
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self.data_sources) or "none"
        raise UnknownActionError(f"{self.name} has no data source of this name; it has: {known}.")


class ConnectorRegistry:
    """Hold the connectors of this installation, by name."""

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        self.connectors = connectors

    @classmethod
    def load(cls, folder: Path = FOLDER, package: str = PACKAGE) -> ConnectorRegistry:
        """Read the manifests of a package's folder. Raise `InvalidConnectorError`."""
        found = [_read_manifest(path) for path in sorted(folder.glob(f"*/{MANIFEST}"))]
        return cls({manifest.name: Connector(manifest, package) for manifest in found})

    def find(self, name: str) -> Connector:
        """Return a connector. Raise `UnknownIntegrationError`."""
        connector = self.connectors.get(name)
        if connector is None:
            known = ", ".join(self.connectors)
            raise UnknownIntegrationError(f"No connector has this name; there are: {known}.")
        return connector

    def list(self) -> Sequence[Connector]:
        return list(self.connectors.values())


def _read_manifest(path: Path) -> Manifest:
    place = f"{path.parent.name}/{MANIFEST}"
    try:
        manifest = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Manifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidConnectorError(f"{place}: {error}") from error
    except OSError as error:
        raise InvalidConnectorError(f"{place} cannot be read: {error.strerror}.") from error
    if manifest.name != path.parent.name:
        raise InvalidConnectorError(f"{place}: its name is that of its folder.")
    return manifest
