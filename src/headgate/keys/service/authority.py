"""Limits what a caller may grant to a key: never more than the caller's own scope."""

from __future__ import annotations

import msgspec

from headgate.keys.model import (
    Key,
    KeyRequest,
    Scope,
    ScopeExceededError,
    find_excess,
    names_platform,
)
from headgate.keys.model.key import find_effective_scope


class Authority(msgspec.Struct, frozen=True):
    """Hold what the issuer of keys may grant: the scope of a key; None for a person, who may grant
    everything in the organization.

    Only the operator grants permissions of the platform.
    """

    scope: Scope | None = None
    is_operator: bool = False


# Of the command line, which only somebody on the machine can use.
FULL_AUTHORITY = Authority(is_operator=True)


_NAMES = {"monthly_budget_nano": "monthly_budget"}


def check_authority(requested: Key | KeyRequest, authority: Authority) -> None:
    """Raise `ScopeExceededError` where a key would get a wider scope than its issuer's."""
    if authority.scope is None:
        if names_platform(requested.permissions) and not authority.is_operator:
            raise ScopeExceededError(
                "Only the operator of the installation can grant permissions of the platform "
                "(platform:..., or * alone). `*:*` is everything in the organization."
            )
        return
    excess = find_excess(find_effective_scope(requested), authority.scope)
    if excess is not None:
        raise ScopeExceededError(
            "A key cannot grant more than its own scope allows. It is exceeded in: "
            f"{_NAMES.get(excess, excess)}."
        )


def check_change(before: Key, after: Key, authority: Authority) -> None:
    """Raise `ScopeExceededError` where a change widens a key beyond the caller's scope."""
    if find_excess(after.effective_scope, before.effective_scope) is not None:
        check_authority(after, authority)
