"""Find what a project keeps of its requests, from memory."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

import sqlalchemy as sa

from headgate.request_log.model.settings import Mode, RequestLogSettings
from headgate.request_log.store import settings as store

TOPIC = store.TOPIC


class RequestLogIndex:
    """Hold the settings of all projects. `default` is the mode of those that have none."""

    projects: Container[str]
    """The projects that keep anything."""

    def __init__(self, default: Mode = "off") -> None:
        self.default = RequestLogSettings(default)
        self._settings: Mapping[str, RequestLogSettings] = {}
        self._listeners: list[Callable[[Container[str]], None]] = []
        self._choose({})

    def listen(self, listener: Callable[[Container[str]], None]) -> None:
        """Tell somebody of the projects that keep anything, now and after every change."""
        self._listeners.append(listener)
        listener(self.projects)

    def load(self, connection: sa.Connection) -> None:
        self._choose(store.select_all(connection))

    def find(self, project_id: str) -> RequestLogSettings:
        return self._settings.get(project_id, self.default)

    def _choose(self, settings: Mapping[str, RequestLogSettings]) -> None:
        self._settings = settings
        off = frozenset(name for name, each in settings.items() if each.mode == "off")
        if self.default.mode == "off":
            self.projects = frozenset(settings) - off
        else:
            self.projects = AllBut(off)
        for listener in self._listeners:
            listener(self.projects)


class AllBut(Container[str]):
    """Contain every project except some."""

    def __init__(self, excluded: frozenset[str]) -> None:
        self._excluded = excluded

    def __contains__(self, project_id: object) -> bool:
        return project_id not in self._excluded
