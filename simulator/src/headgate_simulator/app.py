"""The simulator as an ASGI application: one request in, one labelled answer out."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from headgate_simulator import delivery, faults, form, limits
from headgate_simulator.faults import FaultSpec
from headgate_simulator.memory import Memory
from headgate_simulator.messages import ApiError, ApiRequest, ApiResponse, EventStream
from headgate_simulator.router import Router
from headgate_simulator.routes import ROUTES
from headgate_simulator.seed import Seed
from headgate_simulator.settings import SimulatorSettings

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header"
    " using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with"
    " blank username) if you're accessing the API from your browser and are prompted for a"
    " username and password. You can obtain an API key from"
    " https://platform.openai.com/account/api-keys."
)
_NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using"
    " your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was"
    " not valid JSON. If you have trouble figuring out how to fix this, please contact us through"
    " our help center at help.openai.com.)"
)


def build_app(settings: SimulatorSettings) -> ASGIApp:
    return _Simulator(settings).handle


class _Simulator:
    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._memory = Memory(settings)
        self._router = Router(ROUTES)
        self._memory.run = self._run
        self._gate = faults.FaultGate()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        writer = delivery.ResponseWriter(scope, receive, send)
        fault, seed = faults.NONE, Seed(scope["path"].encode())
        try:
            headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
            data = await _read(receive, self._settings.body_bytes_max)
            _authenticate(headers)
            request = _decode(scope, headers, data)
            fault = faults.read_fault(request, headers.get(faults.HEADER, ""))
            # The fault is gone from the model's name, so that a retry without it gets the same ids.
            request.seed = seed = Seed.of_body(
                request.body, [upload.data for upload in request.uploads]
            )
            await writer.pause(fault.delay)
            fault = self._gate.check(fault, f"{scope['path']} {seed.hex} {fault}")
            request.work_seconds = fault.work / 1000
            answer = self._run(request)
        except ApiError as error:
            if not writer.is_gone:
                await _refuse(writer, error, _headers(seed, 0, fault))
            return
        if fault.drop:
            await writer.cut()
        if writer.is_gone:
            return
        head = _headers(seed, answer.tokens, fault)
        if isinstance(answer, ApiResponse):
            await delivery.send_response(writer, answer, head, fault=fault)
            return
        delay = self._settings.chunk_delay_seconds
        await delivery.send_stream(writer, answer, head, fault=fault, chunk_delay_seconds=delay)

    def _run(self, request: ApiRequest) -> ApiResponse | EventStream:
        handler, request.ids = self._router.find(request.method, request.path)
        if "nonexistent" in request.model:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found")
        # Handlers trust the types in a body; a wrong one shows as one of these errors.
        try:
            return handler(request, self._memory)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ApiError(
                400, f"Invalid type in the body: {error}", code="invalid_type"
            ) from error


async def _read(receive: Receive, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        more = message.get("more_body", False)
        if size > bytes_max:
            raise ApiError(413, f"Maximum content size limit ({bytes_max}) exceeded.")
    return b"".join(pieces)


def _authenticate(headers: dict[str, str]) -> None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise ApiError(401, _NO_KEY)
    if not key.startswith("sk-"):
        shown = key[:4] + "*" * max(0, len(key) - 8) + key[-4:] if len(key) > 8 else "****"
        where = "You can find your API key at https://platform.openai.com/account/api-keys."
        raise ApiError(401, f"Incorrect API key provided: {shown}. {where}", code="invalid_api_key")


def _decode(scope: Scope, headers: dict[str, str], data: bytes) -> ApiRequest:
    kind = headers.get("content-type", "")
    body: dict[str, Any] = {}
    request = ApiRequest(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"))),
        body=body,
        seed=Seed(b""),
    )
    if kind.startswith("multipart/form-data"):
        request.body, request.uploads = form.parse(kind, data)
    elif data.strip():
        request.body = _decode_json(data)
    return request


def _decode_json(data: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, _NOT_JSON) from error
    if not isinstance(body, dict):
        raise ApiError(400, "Invalid type for the body: expected an object.", code="invalid_type")
    return cast(dict[str, Any], body)


def _headers(seed: Seed, tokens_used: int, fault: FaultSpec) -> delivery.RawHeaders:
    named = {
        "x-headgate-simulator": "true",
        "openai-version": "2020-10-01",
        "openai-organization": "simulator",
        "openai-processing-ms": str(20 + seed.number(400)),
        "x-request-id": f"req_sim_{seed.hex}",
        **limits.headers(tokens_used, fault),
    }
    return [(name.encode(), value.encode()) for name, value in named.items()]


async def _refuse(
    writer: delivery.ResponseWriter, error: ApiError, head: delivery.RawHeaders
) -> None:
    data = msgspec.json.encode({"error": error.error})
    extra = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    sized = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await writer.send_head(error.status, [*head, *extra, *sized])
    await writer.send_body(data, more=False)
