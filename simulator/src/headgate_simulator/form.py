"""The parser of multipart/form-data bodies that are already in memory."""

from __future__ import annotations

import email.message

from headgate_simulator.messages import ApiError, Upload


def parse(content_type: str, data: bytes) -> tuple[dict[str, str | list[str]], list[Upload]]:
    """Return the text fields (a repeated one as a list, `x[]` as `x`) and the files of a form."""
    boundary = _parameters(content_type).get("boundary")
    if not boundary:
        raise ApiError(400, "Invalid multipart form: missing boundary.")
    fields: dict[str, str | list[str]] = {}
    uploads: list[Upload] = []
    for part in (b"\r\n" + data).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = _headers(head)
        names = _parameters(headers.get("content-disposition", ""))
        if "filename" in names:
            media = headers.get("content-type", "application/octet-stream")
            uploads.append(Upload(names.get("name", ""), names["filename"], media, content))
        else:
            _add(fields, names.get("name", ""), content.decode("utf-8", "replace"))
    return fields, uploads


def _add(fields: dict[str, str | list[str]], name: str, value: str) -> None:
    plain = name.removesuffix("[]")
    before = fields.get(plain)
    if before is None:
        fields[plain] = [value] if plain != name else value
    else:
        fields[plain] = [*(before if isinstance(before, list) else [before]), value]


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _parameters(value: str) -> dict[str, str]:
    message = email.message.Message()
    message["content-type"] = value.replace("form-data", "multipart/form-data", 1)
    pairs = message.get_params(failobj=[], header="content-type")
    return {name.lower(): text for name, text in pairs}
