"""Handles: names of content that is kept for a while, so that an agent need not carry it."""

from __future__ import annotations

import msgspec

from headgate.kit.errors import HeadgateError, Kind

NAME_CHARACTERS_MAX = 128
TYPE_CHARACTERS_MAX = 128


class HandleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Describe content that was put aside for one project. `bytes` is its size, `expires_at` is in
    unix seconds; afterwards nobody can read it."""

    id: str
    media_type: str
    bytes: int
    expires_at: float
    name: str = ""


class StoredHandle(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a handle as it is stored. Its content is sealed under the key `key_id` of its
    organization, and kept as the object `object_key`."""

    id: str
    organization_id: str
    project_id: str
    name: str
    media_type: str
    bytes: int
    object_key: str
    key_id: str
    created_at: float
    expires_at: float

    @property
    def info(self) -> HandleInfo:
        return HandleInfo(
            id=self.id,
            media_type=self.media_type,
            bytes=self.bytes,
            expires_at=self.expires_at,
            name=self.name,
        )


class HandleContent(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a part of the content behind a handle: `content` begins at byte `offset`."""

    info: HandleInfo
    offset: int
    content: bytes


class HandleNotFoundError(HeadgateError):
    """There is no such handle in this project, or it has expired.

    Run the tool again that gave the handle, and use the new one within the hour.
    """

    kind = Kind.MISSING
    code = "handle_not_found"
    recovery = "Run the tool again that gave the handle, and use the new one within the hour."


class HandleLimitError(HeadgateError):
    """The content is too large to be put aside, or the project has put aside too much.

    Ask for less, wait until older handles expire, or raise `HEADGATE_HANDLES_BYTES_MAX`.
    """

    kind = Kind.TOO_LARGE
    code = "handle_limit"
    recovery = "Ask for a shorter result."
