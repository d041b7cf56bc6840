"""Sources of the master key, and why a key does not belong to a database."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Protocol

import sqlalchemy as sa

from headgate.vault.model.keys import (
    MasterKeyRecord,
    MasterKeyState,
)
from headgate.vault.service.master_key.key import LOCAL, LocalMasterKey, MasterKey, matches


class MasterKeySource(Protocol):
    provider: str

    def find(self, connection: sa.Connection) -> LocalMasterKey | None:
        """Return the active key of this database; None for a new installation.

        Only read, also from a database that is not upgraded yet. Raise `InvalidMasterKeyError` for
        a key that is weak, readable by others, missing or wrong, and `KeyServiceUnavailableError`.
        """
        ...

    def create(self) -> LocalMasterKey:
        """Create a random key where `find` looks for it. Raise as `find`."""
        ...


def is_active(record: MasterKeyRecord) -> bool:
    return record.state is MasterKeyState.ACTIVE


def explain_mismatch(
    key: MasterKey, known: Mapping[str, MasterKeyRecord], source: str
) -> str | None:
    """Explain why a key is not the active one of a database; None if it is."""
    if not known:
        return None
    record = known.get(key.id)
    if not matches(key, record) or record is None:
        if not any(each.provider == LOCAL for each in known.values() if is_active(each)):
            return describe_active(known)
        return (
            f"The master key in {source} is not the one that sealed this database. "
            "Use the right one, or another data directory."
        )
    if record.state is MasterKeyState.RETIRED:
        at = datetime.datetime.fromtimestamp(record.retired_at or 0.0, datetime.UTC)
        return (
            f"The master key in {source} was replaced on {at:%Y-%m-%d %H:%M} UTC. "
            f"{describe_active(known)}"
        )
    if record.state is MasterKeyState.PENDING:
        return (
            f"The master key in {source} is the next one, and its rotation has not ended. Give the "
            "present key, and run `headgate vault rotate-master` again with the same options."
        )
    return None


def describe_active(known: Mapping[str, MasterKeyRecord]) -> str:
    record = next((each for each in reversed([*known.values()]) if is_active(each)), None)
    if record is None:
        return "This database has no active master key; restore a backup."
    if record.provider == LOCAL:
        return f"This database needs the master key {record.id}: give that one."
    return (
        f"This database needs the master key {record.id}, which {record.provider} wraps with "
        f"{record.key_name}: set HEADGATE_MASTER_KEY_PROVIDER={record.provider} and "
        f"HEADGATE_MASTER_KEY_NAME={record.key_name}."
    )
