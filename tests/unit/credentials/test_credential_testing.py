"""A credential is tried by one call, and the answer is judged in words."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from headgate.credentials.service import CredentialTestResult, run_credential_test
from headgate.credentials.service import testing as testing
from headgate.credentials.service.testing import ANSWER_BYTES_MAX, TIMEOUTS
from headgate.kit.http.errors import DisconnectedError, EgressError
from headgate.kit.http.message import Client, HoldBytes, Origin, Request, Response
from headgate.relay.ports import Credential

pytestmark = pytest.mark.anyio
SECRET = b"sk-proj-0123456789abcdefWXYZ"
CREDENTIAL = Credential(
    id="cred_1",
    name="mine",
    integration="openai",
    managed=False,
    origin=Origin("https", "api.example", 443),
    base_path=b"/v1",
    headers=[(b"authorization", b"Bearer " + SECRET)],
    secret=SECRET,
)


class Call(msgspec.Struct, frozen=True):
    method: str = "POST"
    path: str = "/responses"
    status_codes: tuple[int, ...] = (200, 201)
    response_fields: tuple[str, ...] = ("id", "output")
    cost_level: str = "minimal"
    body: dict[str, object] = msgspec.field(default_factory=lambda: {"model": "m", "n": 1})


class Provider:
    """Answer every call alike, and record the requests."""

    def __init__(self, status: int, body: bytes, failure: EgressError | None = None) -> None:
        self.status = status
        self.headers = list[tuple[bytes, bytes]]()
        self.asked: list[Request] = []
        self.then: tuple[int, bytes] | None = None
        self._body = body
        self._failure = failure

    async def send(self, request: Request) -> Response:
        self.asked.append(request)
        if self._failure is not None:
            raise self._failure
        if self.then is not None and len(self.asked) > 1:
            self.status, self._body = self.then
        return cast("Response", self)

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        assert bytes_max == ANSWER_BYTES_MAX
        return self._body


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def send_test_call(provider: Provider) -> CredentialTestResult:
    return await run_credential_test(cast("Client", provider), CREDENTIAL, Call())


async def test_credential_is_sent_where_it_belongs_and_found_good() -> None:
    provider = Provider(201, b'{"id":"r","output":[],"more":1}')
    result = await send_test_call(provider)
    assert result == CredentialTestResult(True, "https://api.example:443 accepts it.", 201)
    (request,) = provider.asked
    assert request == Request(
        origin=Origin("https", "api.example", 443),
        method=b"POST",
        target=b"/v1/responses",
        headers=[
            (b"authorization", b"Bearer " + SECRET),
            (b"content-type", b"application/json"),
        ],
        body=b'{"model":"m","n":1}',
        timeouts=TIMEOUTS,
    )


async def test_refusal_is_told_with_the_providers_words_and_without_the_secret() -> None:
    words = b"Incorrect API key provided: " + SECRET + b"\xff" + b"z" * 400
    result = await send_test_call(Provider(401, words))
    assert (result.is_valid, result.status) == (False, 401)
    said = "https://api.example:443 answered 401: Incorrect API key provided: ...\ufffd"
    assert result.message.startswith(said + "zzz")
    assert len(result.message.partition("401: ")[2]) == 300
    assert "WXYZ" not in result.message


async def test_another_key_in_the_answer_is_cut_down_too() -> None:
    result = await send_test_call(
        Provider(403, b"sk-live-abcdefghijklmnopqrstuvwxyz012345 is not it")
    )
    assert "uvwxyz012345" not in result.message


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b'"id"'])
async def test_answer_that_is_no_json_object_is_no_proof(body: bytes) -> None:
    result = await send_test_call(Provider(200, body))
    assert result == CredentialTestResult(
        None, "https://api.example:443 answered 200, but not in JSON.", 200
    )


async def test_answer_without_its_fields_is_no_proof_and_they_are_named() -> None:
    result = await send_test_call(Provider(200, b'{"object":"x"}'))
    said = "https://api.example:443 answered 200, but without id, output."
    assert result == CredentialTestResult(None, said, 200)


async def test_refusal_under_a_good_status_is_one_if_it_says_so_of_the_key() -> None:
    result = await send_test_call(Provider(200, tell("invalid_api_key")))
    assert (result.is_valid, result.status) == (False, 200)


async def test_provider_that_does_not_answer_is_told_apart() -> None:
    result = await send_test_call(
        Provider(200, b"", failure=DisconnectedError("The peer closed: EOF."))
    )
    said = "https://api.example:443 did not answer: The peer closed: EOF."
    assert result == CredentialTestResult(None, said, 0)


def tell(code: str, message: str = "No.", **more: object) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "code": code, **more}})


@pytest.mark.parametrize(
    ("status", "body", "is_valid"),
    [
        (401, tell("invalid_api_key"), False),
        (401, b"", False),
        (403, tell("invalid_api_key"), False),
        (400, b'[{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}]', False),
        (401, tell("ip_not_authorized"), True),
        (401, tell("insufficient_permissions"), True),
        (403, tell("unsupported_country_region_territory"), True),
        (429, tell("insufficient_quota"), True),
        (429, tell("rate_limit_exceeded"), True),
        (402, tell("billing_hard_limit_reached"), True),
        (404, tell("model_not_found"), True),
        (400, tell("unsupported_parameter", param="n"), True),
        (403, b"<html>blocked</html>", None),
        (404, b"<html>nothing here</html>", None),
        (404, tell("not_found"), None),
        (429, b"slow down", None),
        (307, b"", None),
        (500, tell("server_error"), None),
        (503, b"", None),
    ],
)
async def test_key_is_invalid_only_when_the_provider_says_so_of_the_key(
    status: int, body: bytes, is_valid: bool | None
) -> None:
    result = await send_test_call(Provider(status, body))
    assert (result.is_valid, result.status) == (is_valid, status)
    assert f" {status}" in result.message


class LimitedCall(Call, frozen=True):
    body: dict[str, object] = msgspec.field(
        default_factory=lambda: {"model": "m", "max_tokens": 10, "n": 1}
    )


REFUSAL = tell("unsupported_parameter", "Unsupported parameter: 'max_tokens'.", param="max_tokens")


@pytest.mark.parametrize(
    ("then", "is_valid"),
    [
        ((201, b'{"id":"r","output":[]}'), True),
        ((401, tell("invalid_api_key")), False),
        ((400, REFUSAL), True),
    ],
)
async def test_call_is_repeated_once_with_the_field_that_current_models_take(
    then: tuple[int, bytes], is_valid: bool
) -> None:
    provider = Provider(400, REFUSAL)
    provider.then = then
    made = await testing.send_test_call(cast("Client", provider), CREDENTIAL, LimitedCall())
    assert (made.result.is_valid, made.calls) == (is_valid, 2)
    bodies = [request.body for request in provider.asked]
    renamed = b'{"model":"m","max_completion_tokens":16,"n":1}'
    assert bodies == [b'{"model":"m","max_tokens":10,"n":1}', renamed]


async def test_call_is_not_repeated_for_any_other_refusal() -> None:
    for status, body in ((400, tell("x", "No.")), (404, REFUSAL), (200, b'{"id":"r","output":[]}')):
        provider = Provider(status, body)
        await run_credential_test(cast("Client", provider), CREDENTIAL, LimitedCall())
        assert len(provider.asked) == 1
    provider = Provider(400, REFUSAL)
    await send_test_call(provider)
    assert len(provider.asked) == 1
