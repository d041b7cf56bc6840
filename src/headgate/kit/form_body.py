"""Write the body of a multipart form (RFC 7578)."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence

import msgspec

FORM_BYTES_MAX = 32 << 20
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class FormPart(msgspec.Struct, frozen=True):
    """Hold one field of a form; a file where it has a `file_name`. `media_type` is that of the
    file, None to tell it by its name."""

    name: str
    content: bytes
    file_name: str | None = None
    media_type: str | None = None


def write_form(parts: Sequence[FormPart], boundary: str) -> bytes:
    """Return the body. `boundary` must be in no part: take a random one."""
    lines: list[bytes] = []
    for part in parts:
        lines += [f"--{boundary}".encode(), _write_disposition(part)]
        if part.file_name is not None:
            lines.append(f"Content-Type: {find_media_type(part)}".encode())
        lines += [b"", part.content]
    return b"\r\n".join([*lines, f"--{boundary}--".encode(), b""])


def find_media_type(part: FormPart) -> str:
    """Return the media type of a file, by its name where it states none."""
    known = part.media_type or mimetypes.guess_type(part.file_name or "")[0]
    return known or "application/octet-stream"


def _write_disposition(part: FormPart) -> bytes:
    line = f'Content-Disposition: form-data; name="{part.name.translate(_ESCAPES)}"'
    if part.file_name is not None:
        line += f'; filename="{part.file_name.translate(_ESCAPES)}"'
    return line.encode()
