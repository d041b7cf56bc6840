"""Read and replace the fields of a multipart form that the gateway acts on.

Parsing is strict. A body that two parsers could read in two ways is refused, because the gateway
would then allow one model and the provider run another.
"""

from __future__ import annotations

import re

import msgspec

from headgate.llm.request import (
    ALL_FIELDS,
    CheckedFields,
    InvalidRequestError,
    InvalidTypeError,
)

FIELD_BYTES_MAX = 256

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(
    rf'[ \t]*;[ \t]*({_TOKEN})=(?:"((?:[^"\\\r\n]|\\["\\])*)"|({_TOKEN}))[ \t]*'
)
_NAME = re.compile(_TOKEN)
_BREAK = re.compile(r"[\r\n\0]")
_ESCAPE = re.compile(r"\\(.)")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PLAIN_ENCODINGS = ("7bit", "8bit", "binary")
_NAMES = ("model", "stream", "n")
_BOOLEANS = frozenset({"true", "1", "false", "0"})


class InvalidFormError(InvalidRequestError):
    """The body is no well-formed multipart form.

    Let an HTTP library make the form.
    """

    code = "invalid_form"


class FormLimits(msgspec.Struct, frozen=True):
    parts_max: int = 256
    part_header_bytes_max: int = 8192


LIMITS = FormLimits()


def read_model(
    body: bytes,
    content_type: str,
    limits: FormLimits = LIMITS,
    checked: CheckedFields = ALL_FIELDS,
) -> str | None:
    """Return the model that a form names, and check its fields as far as `checked` names them.

    Raise `InvalidFormError`, and `InvalidTypeError` for a field of the wrong type.
    """
    names = tuple(name for name in _NAMES if name in checked.names)
    fields = find_fields(body, content_type, names, limits)
    if fields.get("stream", "false").lower() not in _BOOLEANS:
        raise InvalidTypeError("Invalid type for 'stream': expected a boolean.", param="stream")
    n = fields.get("n", "")
    if n and not (n.isascii() and n.isdigit()):
        raise InvalidTypeError("Invalid type for 'n': expected an integer.", param="n")
    return fields.get("model")


def find_fields(
    body: bytes, content_type: str, names: tuple[str, ...], limits: FormLimits = LIMITS
) -> dict[str, str]:
    """Return the values of the named plain fields.

    Raise `InvalidFormError` for broken framing, and for such a field that comes twice, is a file,
    encoded, or too long.
    """
    # Other parts are skipped by `bytes.find`, so that a large file is not copied.
    boundary = b"--" + _read_boundary(content_type)
    fields: dict[str, str] = {}
    start = body.find(boundary)
    if start < 0 or (start > 0 and body[max(0, start - 2) : start] != b"\r\n"):
        raise InvalidFormError("The multipart body does not begin with its boundary.")
    for _ in range(limits.parts_max):
        start = _skip_line(body, start + len(boundary))
        end = body.find(boundary, start)
        if end < start + 2 or body[end - 2 : end] != b"\r\n":
            raise InvalidFormError("A part of the form does not end with its boundary.")
        name, value = _read_part(body, start, end - 2, names, limits)
        if name in fields:
            raise InvalidFormError(f"The form has the field '{name}' twice.", param=name)
        if name:
            fields[name] = value
        if body.startswith(b"--", end + len(boundary)):
            return fields
        start = end
    raise InvalidFormError(f"The form has more than {limits.parts_max} parts.")


class FormSize(msgspec.Struct, frozen=True):
    text_bytes: int
    """Bytes of all plain fields."""
    files: int
    file_bytes: int


def measure_parts(body: bytes, content_type: str) -> FormSize:
    """Return how much text and how many files a form has. `find_fields` must have accepted it."""
    boundary = b"--" + _read_boundary(content_type)
    text_bytes = files = file_bytes = 0
    start = body.find(boundary)
    while start >= 0:
        start = body.find(b"\r\n", start + len(boundary)) + 2
        end = body.find(boundary, start)
        if end < 0:
            break
        head_end = body.find(b"\r\n\r\n", start, end)
        size = end - 2 - (head_end + 4)
        disposition = _read_headers(body[start:head_end]).get("content-disposition", "")
        if {"filename", "filename*"} & _read_parameters(disposition)[1].keys():
            files, file_bytes = files + 1, file_bytes + size
        else:
            text_bytes += size
        start = end
    return FormSize(text_bytes, files, file_bytes)


def replace_field(body: bytes, content_type: str, name: str, value: str) -> bytes:
    """Return a form with another value of a plain field; all other bytes stay. `find_fields` must
    have accepted the form."""
    boundary = b"--" + _read_boundary(content_type)
    start = body.find(boundary)
    while start >= 0:
        start = body.find(b"\r\n", start + len(boundary)) + 2
        end = body.find(boundary, start)
        if end < 0:
            break
        head_end = body.find(b"\r\n\r\n", start, end)
        disposition = _read_headers(body[start:head_end]).get("content-disposition", "")
        if _read_parameters(disposition)[1].get("name") == name:
            return body[: head_end + 4] + value.encode() + body[end - 2 :]
        start = end
    return body


def _read_boundary(content_type: str) -> bytes:
    kind, parameters = _read_parameters(content_type)
    if kind != "multipart/form-data":
        raise InvalidFormError("Expected a body of type multipart/form-data.")
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidFormError("The content type of the form has no valid boundary.")
    return boundary.encode("ascii")


def _skip_line(body: bytes, start: int) -> int:
    """Return the offset past a boundary's line, which may end with blanks only."""
    end = body.find(b"\r\n", start)
    if end < 0 or body[start:end].strip(b" \t"):
        raise InvalidFormError("A boundary line of the multipart body contains other text.")
    return end + 2


def _read_part(
    body: bytes, start: int, end: int, names: tuple[str, ...], limits: FormLimits
) -> tuple[str, str]:
    """Return name and value of a part; the name is empty if it is none of `names`."""
    head_end = body.find(b"\r\n\r\n", start, min(end, start + limits.part_header_bytes_max))
    if head_end < 0:
        raise InvalidFormError("A part of the form has unterminated or too long headers.")
    headers = _read_headers(body[start:head_end])
    kind, parameters = _read_parameters(headers.get("content-disposition", ""))
    name = parameters.get("name")
    if kind != "form-data" or name is None or "name*" in parameters:
        raise InvalidFormError("A part of the form has no name.")
    if headers.get("content-type", "").lower().startswith("multipart/"):
        raise InvalidFormError("A part of the form is itself multipart.")
    if name not in names:
        return "", ""
    encoding = headers.get("content-transfer-encoding", "binary").lower()
    if "filename" in parameters or "filename*" in parameters or encoding not in _PLAIN_ENCODINGS:
        raise InvalidFormError(f"The field '{name}' must be a plain field of the form.", param=name)
    value = body[head_end + 4 : end]
    if len(value) > FIELD_BYTES_MAX:
        raise InvalidFormError(f"The field '{name}' is too long.", param=name)
    try:
        return name, value.decode()
    except UnicodeDecodeError:
        raise InvalidFormError(f"The field '{name}' is not UTF-8.", param=name) from None


def _read_headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not _NAME.fullmatch(name) or name in headers or _BREAK.search(value):
            raise InvalidFormError("A part of the form has a malformed header.")
        headers[name] = value.strip(" \t")
    return headers


def _read_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Split a header like `form-data; name="x"` into its lower-case kind and its parameters."""
    semicolon = value.find(";")
    position = semicolon if semicolon >= 0 else len(value)
    kind = value[:position].strip(" \t").lower()
    parameters: dict[str, str] = {}
    while position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None or match[1].lower() in parameters:
            raise InvalidFormError("A header of the form has malformed parameters.")
        quoted, token = match[2], match[3]
        parameters[match[1].lower()] = token if quoted is None else _ESCAPE.sub(r"\1", quoted)
        position = match.end()
    return kind, parameters
