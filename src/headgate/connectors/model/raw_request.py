"""What a raw request says, and the HTTP request that it means.

The names and defaults are those of Prismatic's raw request action (`docs/raw-request.md`). Nothing
here sends anything or reads a clock.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.connectors.model.errors import InvalidInputError
from headgate.kit.form_body import FORM_BYTES_MAX, FormPart
from headgate.llm.headers import DENIED

Method = Literal[
    "DELETE", "GET", "HEAD", "LINK", "OPTIONS", "PATCH", "POST", "PURGE", "PUT", "UNLINK"
]
ResponseType = Literal["arraybuffer", "document", "json", "text"]

ENTRIES_MAX = 100
RETRIES_MAX = 20
DELAY_MILLISECONDS_MAX = 600_000
TIMEOUT_MILLISECONDS_MAX = 3_600_000
TIMEOUT_SECONDS = 600.0
"""The documents name no default; this is the gateway's own for the first byte of an answer."""
PREFIX = "/v1/"
OWN_HEADERS = frozenset(
    {
        "x-headgate-budget",
        "x-headgate-conversion",
        "x-headgate-correlation-id",
        "x-headgate-metadata",
    }
)
"""The gateway's own headers that may be given: they decide nothing about the connection."""
CONTENT_TYPE = "content-type"
IDEMPOTENCY_KEY = "idempotency-key"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
_UNSAFE_PATH = re.compile(r"[\x00-\x1f\x7f\\#]")
_SAFE_CHARACTERS = "/%:@!$&'()*+,;=~"


class FileContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a file that is no text: as base64, or as the handle of an upload or of a result."""

    data: Annotated[str | None, Meta(description="The file as base64.")] = None
    content_type: Annotated[
        str | None, Meta(description="Its media type; by default that of its file name.")
    ] = msgspec.field(default=None, name="contentType")
    handle: Annotated[str | None, Meta(description="The id of a handle, instead of data.")] = None


Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold one name and its value."""

    key: Name
    value: str | int | float | bool


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold one file of a form: text, base64, or a handle."""

    key: Name
    value: str | FileContent


Entries = Annotated[list[Entry], Meta(max_length=ENTRIES_MAX)]
Milliseconds = Annotated[int, Meta(ge=0, le=DELAY_MILLISECONDS_MAX)]


class RawRequestInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Describe a request to the connection's provider."""

    url: Annotated[
        str,
        Meta(
            title="URL",
            description="The path only, such as /v1/models; the connection has the address. It may "
            "have a query.",
            max_length=8192,
        ),
    ] = "/v1/models"
    method: Annotated[Method, Meta(title="Method", description="The HTTP method.")] = "GET"
    data: Annotated[
        Any,
        Meta(
            title="Data",
            description="The body: an object or a list is sent as JSON, text as it is. Not "
            "together with form or file data.",
        ),
    ] = None
    form_data: Annotated[
        Entries, Meta(title="Form Data", description="Fields of a multipart form.")
    ] = msgspec.field(default_factory=list[Entry], name="formData")
    file_data: Annotated[
        list[FileEntry],
        Meta(
            title="File Data",
            description="Files of a multipart form. A value is text, or an object for other files.",
            max_length=ENTRIES_MAX,
        ),
    ] = msgspec.field(default_factory=list[FileEntry], name="fileData")
    file_names: Annotated[
        Entries,
        Meta(
            title="File Data File Names",
            description="File names by the keys of the file data; the key itself by default.",
        ),
    ] = msgspec.field(default_factory=list[Entry], name="fileDataFileNames")
    query_parameters: Annotated[
        Entries,
        Meta(title="Query Parameter", description="Added to the query of the URL."),
    ] = msgspec.field(default_factory=list[Entry], name="queryParams")
    headers: Annotated[
        Entries,
        Meta(
            title="Header",
            description="Headers to send; those of the connection win.",
        ),
    ] = msgspec.field(default_factory=list[Entry])
    response_type: Annotated[
        ResponseType,
        Meta(
            title="Response Type",
            description="How the answer is read: json (text where it is none), text, document (as "
            "text) or arraybuffer (bytes as base64).",
        ),
    ] = msgspec.field(default="json", name="responseType")
    timeout: Annotated[
        Annotated[int, Meta(ge=1, le=TIMEOUT_MILLISECONDS_MAX)] | None,
        Meta(
            title="Timeout (ms)",
            description="The longest time for the request with all its retries; 600000 by default.",
        ),
    ] = None
    debug_request: Annotated[
        bool,
        Meta(
            title="Debug Request",
            description="Log the request and its answer without secrets, and return them.",
        ),
    ] = msgspec.field(default=False, name="debugRequest")
    retry_delay: Annotated[
        Milliseconds,
        Meta(
            title="Retry Delay (ms)",
            description="The wait before a retry, without exponential backoff.",
        ),
    ] = msgspec.field(default=0, name="retryDelayMS")
    retry_all_errors: Annotated[
        bool,
        Meta(
            title="Retry On All Errors",
            description="Retry every failing answer, not only 5xx and failures of the network.",
        ),
    ] = msgspec.field(default=False, name="retryAllErrors")
    retries_max: Annotated[
        int,
        Meta(
            title="Max Retry Count",
            description="How often a failed request is retried at most.",
            ge=0,
            le=RETRIES_MAX,
        ),
    ] = msgspec.field(default=0, name="maxRetries")
    uses_backoff: Annotated[
        bool,
        Meta(
            title="Use Exponential Backoff",
            description="Wait 200, 400, 800, ... ms with jitter before retries, instead of the "
            "retry delay.",
        ),
    ] = msgspec.field(default=False, name="useExponentialBackoff")


def build_target(url: str, query: Sequence[Entry]) -> str:
    """Return the path below `/v1` with its whole query. Raise `InvalidInputError` for anything but
    a path: the connection's secret goes to the connection's address only."""
    text = url.strip()
    if not text.startswith("/") or text.startswith("//") or _UNSAFE_PATH.search(text):
        raise InvalidInputError(
            "`url` is the path only, such as /v1/models, without an address, a fragment or "
            "backslashes: requests go to the address of the connection and nowhere else.",
            param="url",
        )
    path, _, own = text.partition("?")
    if not path.startswith(PREFIX) or path == PREFIX:
        raise InvalidInputError("`url` begins with /v1/, as in /v1/models.", param="url")
    pairs = [(each.key, _to_text(each.value)) for each in query]
    added = urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote)
    merged = "&".join(filter(None, (urllib.parse.quote(own, safe=_SAFE_CHARACTERS + "?"), added)))
    return urllib.parse.quote(path, safe=_SAFE_CHARACTERS) + (f"?{merged}" if merged else "")


def build_headers(given: Sequence[Entry]) -> tuple[dict[str, str], list[str]]:
    """Return the headers to send, in lower case, and the names of those that the connection or the
    transport has itself. Raise `InvalidInputError` for what could break out of its line."""
    headers: dict[str, str] = {}
    own: list[str] = []
    for each in given:
        name, value = each.key.lower(), _to_text(each.value).strip()
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidInputError(f"{each.key!r} is no name of a header.", param="headers")
        if not _HEADER_VALUE.fullmatch(value):
            message = f"The value of the header {name} has line breaks, or is no Latin text."
            raise InvalidInputError(message, param="headers")
        if name not in OWN_HEADERS and DENIED.denies(name.encode()):
            own.append(name)
        else:
            headers[name] = value
    return headers, own


def build_data(data: object) -> tuple[bytes, str]:
    """Return a body that is no form, and its content type; both are empty without data."""
    if data is None or data == "":
        return b"", ""
    if isinstance(data, str):
        return data.encode("utf-8", "replace"), _find_text_type(data)
    return msgspec.json.encode(data), "application/json"


def check_body(given: RawRequestInput) -> None:
    """Raise `InvalidInputError` where the kinds of bodies contradict each other."""
    if given.data not in (None, "") and (given.form_data or given.file_data):
        message = (
            "`data` cannot be given together with `formData` or `fileData`: a request has one body."
        )
        raise InvalidInputError(message, param="data")
    keys = {each.key for each in given.file_data}
    for each in given.file_names:
        if each.key not in keys:
            message = f"`fileDataFileNames` names {each.key!r}, which is no key of `fileData`."
            raise InvalidInputError(message, param="fileDataFileNames")


def build_parts(
    given: RawRequestInput, files: Sequence[tuple[str, bytes, str | None]]
) -> list[FormPart]:
    """Return the parts of the form: fields, then files. `files` have key, content and media type.
    Raise `InvalidInputError` for more bytes than a form may have."""
    names = {each.key: _to_text(each.value) for each in given.file_names}
    parts = [FormPart(each.key, _to_text(each.value).encode()) for each in given.form_data]
    parts += [
        FormPart(key, content, names.get(key, key), media_type)
        for key, content, media_type in files
    ]
    check_form_size(sum(len(each.content) for each in parts))
    return parts


def check_form_size(size: int) -> None:
    """Raise `InvalidInputError` for more bytes than a form may have."""
    if size > FORM_BYTES_MAX:
        message = f"The form is larger than {FORM_BYTES_MAX} bytes."
        raise InvalidInputError(message, param="fileData")


def _find_text_type(text: str) -> str:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return "text/plain; charset=utf-8"
    return "application/json"


def _to_text(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
