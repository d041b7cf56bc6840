"""The form of a file in `data`: one integration with its models and prices.

An unknown field is an error, so that a misspelt rate cannot pass for a missing one.
"""

from __future__ import annotations

import datetime
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError

DATA = Path(__file__).parent / "data"


class CatalogInvalid(HeadgateError):
    """A catalog file that cannot be used; the message names the file and the place in it."""

    code = "catalog_invalid"


class TestCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The call by which a credential is tried, and what a good answer has."""

    __test__ = False

    method: str
    path: str
    status_codes: tuple[int, ...]
    response_fields: tuple[str, ...]
    body: dict[str, Any]
    cost_level: str = "minimal"


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[model]]` block. `wire_id` is what the provider is told, where that differs."""

    id: str
    display_name: str
    wire_id: str = ""
    description: str = ""
    input_tokens_max: int = 0
    output_tokens_max: int = 0
    dimensions: int = 0
    data_freshness: datetime.date | None = None
    supports_vision: bool = False
    capabilities: tuple[str, ...] = ()
    deprecated: bool = False
    replacement_id: str | None = None
    aliases: tuple[str, ...] = ()


class PriceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `[[price]]` block: the rates of a model since a date, in dollars.

    `tier` is the provider's service tier; with `above_input_tokens` the rates hold for requests
    with more input than that, for the whole request.
    """

    model: str
    effective_from: datetime.date
    source: str
    currency: str = "USD"
    tier: str = "default"
    above_input_tokens: int = -1
    input: Decimal | None = None
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    input_audio: Decimal | None = None
    input_image: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    output_audio: Decimal | None = None
    output_image: Decimal | None = None
    per_image: Decimal | None = None
    per_minute: Decimal | None = None
    per_million_characters: Decimal | None = None
    tool_calls: dict[str, Decimal] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One integration. What its secrets need is as `vault.model.Integration` wants it."""

    name: str
    display_name: str
    description: str
    integration_type: str
    docs_url: str
    base_url: str
    secret_pattern: str
    secret_prefixes: tuple[str, ...]
    secret_header: str
    secret_header_prefix: str
    organization_header: str
    test_call: TestCall
    default_model: str = ""
    tool_calls: dict[str, Decimal] = {}
    models: tuple[ModelEntry, ...] = msgspec.field(name="model", default=())
    prices: tuple[PriceEntry, ...] = msgspec.field(name="price", default=())


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. Raises `CatalogInvalid`."""
    try:
        with path.open("rb") as file:
            return msgspec.convert(tomllib.load(file), Manifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise CatalogInvalid(f"{path.name}: {error}") from error


def read_manifests(folder: Path = DATA) -> list[Manifest]:
    """Every manifest of a folder, by name. Raises `CatalogInvalid`."""
    return [read_manifest(path) for path in sorted(folder.glob("*.toml"))]
