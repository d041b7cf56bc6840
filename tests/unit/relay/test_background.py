"""Who finds a response in the background, by what it is settled, and what is kept of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError
from headgate.llm.request import JsonRequest
from headgate.llm.usage import Usage
from headgate.relay.background import (
    UNKNOWN,
    BackgroundCalls,
    describe_request,
    make_pending,
    read_response_id,
)
from headgate.relay.breaker import Breakers
from headgate.relay.call_state import CallState
from headgate.relay.ports import (
    BackgroundReceipt,
    BackgroundResponse,
    BackgroundWork,
    Credential,
    Hold,
    Receipt,
)
from headgate.relay.routing import Routing, SharedAccountError
from tests.fakes.example_receipt import make_receipt
from tests.fakes.pipeline import (
    CREDENTIAL,
    GRANT,
    FakeClient,
    FakeCredentials,
    FakeLedger,
    FakeModels,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)

pytestmark = pytest.mark.anyio

CREATION = {"model": "gpt-5.4-mini", "input": "secret words", "background": True}
PLATFORM = replace(CREDENTIAL, id="cred_platform", name="openai", managed=True)
OTHER = replace(CREDENTIAL, id="cred_other", name="other")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Store:
    """Hold one response, of one organization."""

    def __init__(self, response: BackgroundResponse | None = None) -> None:
        self.response = response

    async def find(self, organization_id: str, response_id: str) -> BackgroundResponse | None:
        found = self.response
        if found is None or found.work.response_id != response_id:
            return None
        return found if found.receipt.organization_id == organization_id else None


class NamedCredentials(FakeCredentials):
    """Resolve the named one of some credentials, else the first."""

    def __init__(self, *credentials: Credential) -> None:
        super().__init__(credentials[0])
        self._named = {each.id: each for each in credentials}

    def resolve(self, organization_id: str, *, name: str | None, **other: Any) -> Credential:
        if name is None:
            return self.credential
        if name not in self._named:
            raise HeadgateError("There is no such credential.")
        return self._named[name]


class Setup:
    """Run parts of calls against one stored response."""

    def __init__(self, response: BackgroundResponse | None, *credentials: Credential) -> None:
        self.ledger = FakeLedger()
        self.store = Store(response)
        self.client = FakeClient(FakeResponse(body=b'{"id":"resp_1","status":"in_progress"}'))
        self.credentials = NamedCredentials(*(credentials or (CREDENTIAL,)))
        clock = ManualClock()
        self.calls = BackgroundCalls(
            self.store, self.ledger, FakeModels(), self.credentials, self.client, clock
        )
        self.routing = Routing(self.credentials, FakeModels(), Breakers(clock))

    async def read(
        self, method: str = "GET", path: str = "/responses/resp_1", **changes: Any
    ) -> CallState:
        """Return the state of a call that names the response, as it is sent."""
        call = make_call(path, body=b"", method=method, grant=replace(GRANT, **changes))
        state = make_state(call)
        await self.calls.begin(state)
        self.routing.plan(state)
        return state

    async def end(self, state: CallState, status: str | None = "completed") -> list[Receipt]:
        """Let the provider answer the call. Return what was settled."""
        state.status, state.outcome = 200, "completed"
        state.parsed_usage.status = status
        state.parsed_usage.usage = Usage(10, output_tokens=2)
        receipt = make_receipt()
        assert await self.calls.finish(state, receipt) is receipt
        return self.ledger.receipts


def make_response(
    *, credential: Credential = CREDENTIAL, status: str | None = None, **changes: Any
) -> BackgroundResponse:
    receipt = make_receipt(
        organization_id=GRANT.organization_id,
        project_id=GRANT.project_id,
        credential_id=credential.id,
        managed=credential.managed,
        model_requested="gpt-5.4-mini",
        **changes,
    )
    hold = Hold(receipt.request_id, receipt.organization_id, 500) if credential.managed else None
    work = BackgroundWork("resp_1", "queued", "gpt-5.4-mini")
    return BackgroundResponse(make_pending(receipt), work, hold, status)


async def test_project_reads_its_response_in_the_account_of_the_platform() -> None:
    setup = Setup(make_response(credential=PLATFORM), PLATFORM)
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        state = await setup.read(method, f"/responses/resp_1{path}")
        assert state.credential is PLATFORM
    (receipt,) = await setup.end(await setup.read())
    assert isinstance(receipt, BackgroundReceipt)
    assert (receipt.work.status, receipt.cost_nano) == ("completed", 30)


@pytest.mark.parametrize(
    ("response", "scope"),
    [
        (None, {}),
        (make_response(credential=PLATFORM), {"project_id": "proj_2"}),
        (make_response(credential=PLATFORM), {"organization_id": "org_2"}),
        # A provider of one's own may claim any id.
        (make_response(credential=CREDENTIAL), {}),
    ],
)
async def test_account_of_the_platform_stays_closed_to_all_others(
    response: BackgroundResponse | None, scope: dict[str, str]
) -> None:
    setup = Setup(response, PLATFORM)
    for method in ("GET", "DELETE"):
        with pytest.raises(SharedAccountError):
            await setup.read(method, **scope)
    assert setup.client.sent == []


async def test_own_response_is_read_with_the_credential_that_created_it() -> None:
    setup = Setup(make_response(credential=OTHER), CREDENTIAL, OTHER)
    assert (await setup.read()).credential is OTHER
    # That credential was removed: the default one is taken, and nothing that it says is believed.
    setup = Setup(make_response(credential=OTHER), CREDENTIAL)
    state = await setup.read()
    assert state.credential is CREDENTIAL
    assert await setup.end(state) == []
    assert await setup.end(await setup.read("DELETE"), None) == []


@pytest.mark.parametrize("status", ["queued", "in_progress", None, "unheard_of"])
async def test_response_that_runs_is_not_settled(status: str | None) -> None:
    setup = Setup(make_response())
    assert await setup.end(await setup.read(), status) == []


async def test_another_response_than_the_named_one_settles_nothing() -> None:
    setup = Setup(make_response())
    state = await setup.read()
    state.parsed_usage.answer_id = "resp_2"
    assert await setup.end(state) == []


async def test_settled_response_is_settled_again_only_if_its_end_was_unknown() -> None:
    setup = Setup(make_response(status="completed"))
    assert await setup.end(await setup.read()) == []
    setup = Setup(make_response(status=UNKNOWN))
    assert len(await setup.end(await setup.read())) == 1


async def test_deletion_asks_first_and_leaves_an_unknown_end() -> None:
    setup = Setup(make_response())
    state = await setup.read("DELETE")
    assert [each.method for each in setup.client.sent] == [b"GET"]
    (receipt,) = await setup.end(state, None)
    assert (receipt.outcome, receipt.error_code) == ("unknown", "background_deleted")


async def test_deletion_that_the_provider_refuses_changes_nothing() -> None:
    setup = Setup(make_response())
    state = await setup.read("DELETE")
    state.status, state.outcome = 404, "upstream_error"
    assert await setup.calls.finish(state, make_receipt())
    assert setup.ledger.receipts == []


async def create(setup: Setup, body: dict[str, Any], **parsed: Any) -> Receipt:
    """Return what is recorded of a call that creates a response."""
    call = make_call("/responses", body=json.dumps(body).encode())
    call.headers = [(b"openai-project", b"proj_upstream"), (b"openai-beta", b"x")]
    state = make_state(call)
    state.body_bytes = 40
    await setup.calls.begin(state)
    for name, value in parsed.items():
        setattr(state.parsed_usage, name, value)
    return await setup.calls.finish(state, make_receipt())


async def test_creation_is_pending_while_the_response_runs() -> None:
    receipt = await create(Setup(None), CREATION, answer_id="resp_1", status="queued")
    assert isinstance(receipt, BackgroundReceipt)
    assert (receipt.outcome, receipt.pricing, receipt.cost_nano) == ("pending", "pending", 0)
    assert (receipt.usage, receipt.work.response_id) == (None, "resp_1")
    assert receipt.work.estimate == Usage(input_tokens=10)
    assert receipt.work.account == (("openai-project", "proj_upstream"),)
    assert "secret words" not in receipt.work.request


async def test_creation_that_ends_at_once_keeps_its_price() -> None:
    receipt = await create(Setup(None), CREATION, answer_id="resp_1", status="completed")
    assert isinstance(receipt, BackgroundReceipt)
    assert (receipt.outcome, receipt.cost_nano) == ("completed", make_receipt().cost_nano)
    assert receipt.to_receipt() == make_receipt()


@pytest.mark.parametrize(
    "parsed",
    [{}, {"status": "queued"}, {"answer_id": "r" * 300, "status": "queued"}, {"answer_id": "r"}],
)
async def test_creation_without_a_response_is_a_call_like_any_other(parsed: dict[str, Any]) -> None:
    assert await create(Setup(None), CREATION, **parsed) == make_receipt()


def test_only_what_bounds_the_usage_is_kept_of_a_request() -> None:
    body = {
        **CREATION,
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "instructions": "more secret words",
        "prompt": {"id": "secret"},
        "tools": [
            {"type": "web_search", "user_location": {"city": "secret"}},
            {"type": "function", "name": "secret", "parameters": {"secret": 1}},
            "secret",
        ],
    }
    call = make_call("/responses", body=json.dumps(body).encode())
    assert isinstance(call.body, JsonRequest)
    kept = describe_request(call.body)
    assert "secret" not in kept
    assert json.loads(kept) == {
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "tools": [{"type": "web_search"}, {"type": "function"}, {"type": ""}],
        "prompt": {},
    }


def test_id_of_a_path_is_decoded() -> None:
    assert read_response_id(b"/responses/resp_1/cancel") == "resp_1"
    assert read_response_id(b"/responses/a%2Fb%ff") == "a/b\ufffd"
