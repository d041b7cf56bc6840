"""Tools of agents for assets and handles."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType

from headgate.assets.model.asset import (
    Asset,
    AssetFilter,
    AssetUpload,
)
from headgate.assets.model.handle import HandleContent
from headgate.assets.model.media_type import BYTES_MAX
from headgate.assets.service import AssetFiles, AssetService, Handles
from headgate.connectors.model.caller import READ, WRITE, ToolCaller
from headgate.connectors.model.cleaning import clean_input
from headgate.connectors.model.schema import build_input_schema, build_output_schema
from headgate.connectors.model.tool import ToolCall, ToolContent, ToolDefinition, ToolResult
from headgate.kit.db.async_database import AsyncDatabase

READ_RESULT = "read_result"
READ_BYTES = 16_000
READ_BYTES_MAX = 32_000
"""What fits into a conversation: some thousand tokens."""
LISTED_MAX = 100
IMAGE = "image/"


class UploadAssetInput(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a file, and what it is called."""

    source_url: Annotated[str, Meta(description="https address")] | None = None
    content: Annotated[str, Meta(description="base64")] | None = None
    content_text: str | None = None
    handle: Annotated[str, Meta(description="hdl_... of a result or image")] | None = None
    slug: Annotated[str, Meta(description="File name, such as hero.png")] | None = None
    alt: str | None = None
    overwrite: Annotated[bool, Meta(description="Replace the asset of this slug")] = False


class AssetOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an asset to agents."""

    id: str
    url: str
    slug: str
    media_type: str
    bytes: int
    alt: str | UnsetType = UNSET


class ListAssetsInput(msgspec.Struct, frozen=True, kw_only=True):
    """Select a page of assets."""

    limit: Annotated[int, Meta(ge=1, le=LISTED_MAX)] = 20
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0


class AssetListOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a page of assets, the newest first."""

    assets: list[AssetOutput]
    total: int


class ReadResultInput(msgspec.Struct, frozen=True, kw_only=True):
    """Select a part of what a handle names."""

    handle: str
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=4, le=READ_BYTES_MAX)] = READ_BYTES


class ReadResultOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a part of what a handle names: as `text`, or as `base64` where it is none. An image is
    shown whole instead. `bytes` is the size of all."""

    handle: str
    media_type: str
    bytes: int
    offset: int
    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    next_offset: int | UnsetType = UNSET


UPLOAD_ASSET = ToolDefinition(
    name="upload_asset",
    title="Upload asset",
    description=(
        "Keep a file and get its public URL. Give one of source_url, content, content_text and "
        "handle. At most 5 MB for images and documents, 2 MB for fonts, 1 MB for others."
    ),
    input_schema=build_input_schema(UploadAssetInput, is_short=True),
    output_schema=build_output_schema(AssetOutput),
    is_destructive=True,
    is_open_world=True,
    scope=WRITE,
)
LIST_ASSETS = ToolDefinition(
    name="list_assets",
    title="List assets",
    description="List the files that were uploaded, the newest first, with their addresses.",
    input_schema=build_input_schema(ListAssetsInput, is_short=True),
    output_schema=build_output_schema(AssetListOutput),
    is_read_only=True,
    is_idempotent=True,
    is_open_world=False,
    is_listed=False,
    scope=READ,
)
READ_RESULT_TOOL = ToolDefinition(
    name=READ_RESULT,
    title="Read result",
    description=(
        "Read a long result or an image by its handle. Long ones come in parts of bytes: go on at "
        "next_offset. Handles last an hour."
    ),
    input_schema=build_input_schema(ReadResultInput, is_short=True),
    output_schema=build_output_schema(ReadResultOutput),
    is_read_only=True,
    is_idempotent=True,
    is_open_world=False,
    scope=READ,
)
TOOLS = (UPLOAD_ASSET, READ_RESULT_TOOL, LIST_ASSETS)


class AssetTools:
    """Offer assets and handles to agents (`connectors.model.tool.ToolSource`)."""

    def __init__(
        self,
        assets: AssetService,
        files: AssetFiles,
        handles: Handles,
        database: AsyncDatabase,
    ) -> None:
        self._assets = assets
        self._files = files
        self._handles = handles
        self._database = database
        self._runs: dict[str, Callable[[ToolCall], Awaitable[ToolResult]]] = {
            UPLOAD_ASSET.name: self._upload,
            READ_RESULT_TOOL.name: self._read,
            LIST_ASSETS.name: self._list,
        }

    async def list_tools(self, caller: ToolCaller) -> Sequence[ToolDefinition]:
        """Return the tools, which are the same for everybody."""
        return TOOLS

    async def call_tool(self, tool: ToolDefinition, call: ToolCall) -> ToolResult:
        """Run a tool for the caller's project. Raise `InvalidInputError`, and what assets
        and handles raise."""
        return await self._runs[tool.name](call)

    async def _upload(self, call: ToolCall) -> ToolResult:
        given = clean_input(UploadAssetInput, call.arguments)
        upload = AssetUpload(**msgspec.structs.asdict(given))
        asset = await self._files.upload(call.caller, upload, by=call.caller.actor)
        return to_result(self._describe(asset))

    async def _list(self, call: ToolCall) -> ToolResult:
        given = clean_input(ListAssetsInput, call.arguments)
        caller = call.caller
        filters = AssetFilter(organization_id=caller.organization_id, project_id=caller.project_id)

        def read(connection: sa.Connection) -> tuple[list[Asset], int]:
            return self._assets.list_page(
                connection, filters, limit=given.limit, offset=given.offset
            )

        page, total = await self._database.read(read)
        described = [self._describe(each) for each in page]
        return to_result(AssetListOutput(assets=described, total=total))

    async def _read(self, call: ToolCall) -> ToolResult:
        given = clean_input(ReadResultInput, call.arguments)
        found = await self._handles.read(call.caller, given.handle, given.offset, BYTES_MAX)
        if found.info.media_type.startswith(IMAGE) and found.info.bytes <= BYTES_MAX:
            return show_image(found)
        return to_result(read_part(found, given.limit))

    def _describe(self, asset: Asset) -> AssetOutput:
        return AssetOutput(
            id=asset.id,
            url=self._files.base_url + asset.path,
            slug=asset.slug,
            media_type=asset.media_type,
            bytes=asset.bytes,
            alt=asset.alt or UNSET,
        )


def read_part(found: HandleContent, limit: int) -> ReadResultOutput:
    """Return `limit` bytes, or a few less where they would end inside a character."""
    content = found.content[:limit]
    text = decode_beginning(content)
    if text is not None:
        content = text.encode()
    end = found.offset + len(content)
    return ReadResultOutput(
        handle=found.info.id,
        media_type=found.info.media_type,
        bytes=found.info.bytes,
        offset=found.offset,
        text=UNSET if text is None else text,
        base64=base64.b64encode(content).decode() if text is None else UNSET,
        next_offset=end if end < found.info.bytes else UNSET,
    )


def decode_beginning(content: bytes) -> str | None:
    """Return text without the character that the end cuts; None for what is no text."""
    for cut_bytes in range(4):
        try:
            return content[: len(content) - cut_bytes].decode()
        except UnicodeDecodeError as error:
            if error.start < len(content) - cut_bytes - 4:
                return None
    return None


def show_image(found: HandleContent) -> ToolResult:
    """Return an image as content that models see."""
    described = ReadResultOutput(
        handle=found.info.id,
        media_type=found.info.media_type,
        bytes=found.info.bytes,
        offset=0,
    )
    data = base64.b64encode(found.content).decode()
    fields: dict[str, Any] = {"data": data, "mimeType": found.info.media_type}
    image = ToolContent(type="image", fields=fields)
    return ToolResult(structured=msgspec.to_builtins(described), content=(image,))


def to_result(output: msgspec.Struct) -> ToolResult:
    return ToolResult(structured=msgspec.to_builtins(output))
