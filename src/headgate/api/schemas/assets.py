"""Assets as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import build_response, to_optional_datetime
from headgate.api.schemas.pages import Page, PageQuery
from headgate.assets.model.asset import (
    ALT_CHARACTERS_MAX,
    EXPIRY_SECONDS_MAX,
    SLUG_CHARACTERS_MAX,
    SLUG_PATTERN,
    Asset,
    AssetUpload,
    AssetUsage,
)
from headgate.kit.http.url import CHARACTERS_MAX

Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Slug = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=SLUG_CHARACTERS_MAX,
        description="A file name of letters, digits, `.`, `-` and `_`.",
        # For the document only: `assets.model.asset.check_slug` proposes one that is right.
        extra_json_schema={"pattern": SLUG_PATTERN},
    ),
]
Alt = Annotated[str, Meta(max_length=ALT_CHARACTERS_MAX)]
SourceUrl = Annotated[
    str, Meta(min_length=1, max_length=CHARACTERS_MAX, description="An https address.")
]
Expiry = Annotated[int, Meta(ge=1, le=EXPIRY_SECONDS_MAX)]


class AssetQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of assets."""

    project_id: Word | None = None


class AssetCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file to keep, from exactly one of `source_url`, `content`, `content_text` and `handle`."""

    source_url: SourceUrl | None = None
    content: str | None = None
    content_text: str | None = None
    handle: Word | None = None
    slug: Slug | None = None
    alt: Alt | None = None
    media_type: Word | None = None
    overwrite: bool = False
    expires_in_seconds: Expiry | None = None
    project_id: Word | None = None

    def __repr__(self) -> str:
        return f"AssetCreate({self.slug})"


class AssetResponse(msgspec.Struct, kw_only=True):
    """An asset. Anybody who knows its `url` gets its content."""

    id: str
    project_id: str
    slug: str
    alt: str | None
    url: str
    media_type: str
    bytes: int
    sha256: str
    created_by: str
    created_at: datetime.datetime
    updated_at: datetime.datetime
    expires_at: datetime.datetime | None
    version: int


class AssetPage(Page):
    """A page of assets, the newest first, with how much of the quota is used."""

    assets: list[AssetResponse]
    bytes_used: int
    bytes_max: int
    count: int
    count_max: int


def read_upload(body: AssetCreate) -> AssetUpload:
    return msgspec.convert(
        {name: getattr(body, name) for name in AssetUpload.__struct_fields__}, AssetUpload
    )


def to_asset_response(asset: Asset, base_url: str) -> AssetResponse:
    return build_response(
        AssetResponse,
        asset,
        url=base_url + asset.path,
        expires_at=to_optional_datetime(asset.expires_at),
    )


def to_asset_page(
    assets: list[AssetResponse], usage: AssetUsage, maxima: AssetUsage, position: dict[str, int]
) -> AssetPage:
    return AssetPage(
        assets=assets,
        bytes_used=usage.bytes,
        bytes_max=maxima.bytes,
        count=usage.count,
        count_max=maxima.count,
        **position,
    )
