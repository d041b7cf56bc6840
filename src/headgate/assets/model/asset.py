"""Assets: files of a project that anybody can read who knows their address."""

from __future__ import annotations

import re
import unicodedata

import msgspec

from headgate.assets.model.errors import InvalidAssetError

PATH_PREFIX = "/assets/"
ID = re.compile(r"ast_[0-9a-f]{32}")
SLUG_CHARACTERS_MAX = 128
SLUG_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
ALT_CHARACTERS_MAX = 1_000
EXPIRY_SECONDS_MAX = 3_650 * 86_400
_SLUG = re.compile(SLUG_PATTERN[1:-1])
_STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
SOURCES = ("source_url", "content", "content_text", "handle")


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an asset. Times are unix seconds. `version` counts its contents from 1; `sha256` is
    of the present one, which is kept as the object `object_key`."""

    id: str
    organization_id: str
    project_id: str
    slug: str
    alt: str | None
    media_type: str
    bytes: int
    sha256: str
    object_key: str
    version: int
    created_by: str
    created_at: float
    updated_at: float
    expires_at: float | None = None

    @property
    def path(self) -> str:
        """Return the path below which its present content is served. What it answers may be kept
        for ever: another content has another version."""
        return f"{PATH_PREFIX}{self.id}/{self.slug}?v={self.version}"


class AssetUpload(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what is to be stored: the file from exactly one source, and what it is called.

    `content` is base64. `overwrite` replaces the content of an asset of the same slug.
    `expires_in_seconds` removes the asset after this time.
    """

    source_url: str | None = None
    content: str | None = None
    content_text: str | None = None
    handle: str | None = None
    slug: str | None = None
    alt: str | None = None
    media_type: str | None = None
    overwrite: bool = False
    expires_in_seconds: int | None = None

    def __repr__(self) -> str:
        return f"AssetUpload({self.slug})"

    def find_source(self) -> str:
        """Return the name of the one source. Raise `InvalidAssetError` for none or several."""
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) == 1:
            return given[0]
        several = f"{' and '.join(given)} are given together" if given else "None is given"
        raise InvalidAssetError(
            f"An upload has exactly one of {', '.join(SOURCES)}. {several}.",
            param=given[1] if given else "content",
        )


class AssetFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select assets. `among` are the projects that may be seen; empty for all."""

    organization_id: str
    project_id: str | None = None
    among: tuple[str, ...] = ()


class AssetUsage(msgspec.Struct, frozen=True):
    """Count the assets of an organization or of some projects, and their bytes."""

    count: int
    bytes: int


class StoredObject(msgspec.Struct, frozen=True):
    """Name an object of the store, and what it must contain."""

    key: str
    bytes: int
    sha256: str


def check_slug(slug: str) -> str:
    """Return a slug. Raise `InvalidAssetError`, which proposes one that can be used."""
    if _SLUG.fullmatch(slug):
        return slug
    raise InvalidAssetError(
        f"A slug is a file name of at most {SLUG_CHARACTERS_MAX} letters, digits, `.`, `-` and "
        f"`_`, such as {make_slug(slug) or 'hero.png'!r}.",
        param="slug",
    )


def make_slug(name: str) -> str:
    """Return a slug that is close to a name; empty where nothing of it can be used."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return _STRANGE.sub("-", plain).strip("-._")[-SLUG_CHARACTERS_MAX:].lstrip("-._")
