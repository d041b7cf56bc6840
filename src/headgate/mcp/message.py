"""Reads the message of a request to `/mcp`, as far as something is decided by it here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import msgspec

from headgate.kit.errors import drop_trace
from headgate.mcp.authentication import AgentRequest
from headgate.mcp.errors import AgentBodyTooLargeError, AgentJsonError, AgentMessageError
from headgate.mcp.meta_tools import CALL

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

LENGTH_DIGITS_MAX = 12
MESSAGE_MEMBERS = frozenset({"method", "result", "error"})
"""One of these is in every message: a request or a notification, a result, an error."""


class RpcHead(msgspec.Struct, frozen=True):
    """Hold what is decided by of a message. A message of another shape is for the SDK to refuse."""

    method: str = ""
    params: Any = None


class CalledTool(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: Any = None


def read_head(body: bytes) -> RpcHead | None:
    """Return what a message says of itself; None where it has another shape. Raise
    `AgentJsonError` and `AgentMessageError`."""
    message = decode(body)
    check_message(message)
    return convert(message, RpcHead)


def check_message(message: Any) -> None:
    """Raise `AgentMessageError` for what is no message at all. The SDK refuses it, too, with pages
    of what its parser tried."""
    if isinstance(message, list):
        raise AgentMessageError("A batch is not taken: send each message in a request of its own.")
    if not isinstance(message, dict) or not MESSAGE_MEMBERS & message.keys():
        raise AgentMessageError("The body is no JSON-RPC message: it has no `method`.")
    fields = cast("dict[str, Any]", message)
    if fields.get("jsonrpc") != "2.0":
        raise AgentMessageError('The body is no JSON-RPC message: `jsonrpc` is not "2.0".')
    if "method" in fields and "id" in fields and type(fields["id"]) not in (str, int):
        # The SDK would take it for a notification, and never answer.
        raise AgentMessageError("The `id` of a request is a text or a whole number.")


def find_called(params: Any) -> str:
    """Return the name of the tool that is called, also of one that is called through another."""
    called = convert(params, CalledTool)
    if called is not None and called.name == CALL:
        called = convert(called.arguments, CalledTool)
    return "" if called is None else called.name


def decode(body: bytes) -> Any:
    """Return the message. Raise `AgentJsonError` for what is not JSON by the letter: the parsers of
    the SDK read more (NaN, UTF-16, half surrogates), and would run what was not looked at here."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        message = f"The body is not JSON in UTF-8, or too deep: {error}."
        raise AgentJsonError(message) from drop_trace(error)


def convert(value: Any, form: Any) -> Any:
    """Return the value in a form; None where it has another one."""
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError:
        return None


async def read_body(
    request: AgentRequest, receive: Receive, bytes_max: int, hold: Callable[[int], None]
) -> bytes:
    """Return the body. `hold` is told of its bytes before they are kept: all at once where their
    number is announced. Raise `AgentBodyTooLargeError`, and what `hold` raises."""
    length = request.find_text(b"content-length")
    announced = int(length[:LENGTH_DIGITS_MAX]) if length.isascii() and length.isdigit() else 0
    if announced > bytes_max:
        raise make_too_large(bytes_max)
    hold(announced)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        piece = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise make_too_large(bytes_max)
        if size > announced:
            hold(len(piece))
        pieces.append(piece)
        if not message.get("more_body", False):
            break
    return b"".join(pieces)


def make_too_large(bytes_max: int) -> AgentBodyTooLargeError:
    return AgentBodyTooLargeError(
        f"The body is larger than {bytes_max} bytes. Hand content over by its address or as a "
        "handle."
    )


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in one piece, and then what the connection gives."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
