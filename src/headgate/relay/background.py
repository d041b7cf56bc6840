"""Price responses that run in the background once, when they end (decision 0033).

The call that creates one ends before the work does. What is known of it then is stored, and its
hold stays. The work is settled by whatever sees its end first: a call that reads, cancels or
deletes the response, or a job that asks the provider.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable
from typing import Any, cast

import msgspec
import structlog
from msgspec.structs import replace

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Request, Timeouts
from headgate.llm import request
from headgate.llm.endpoint import Body, Endpoint, Pricing
from headgate.llm.headers import ACCOUNT
from headgate.llm.providers import openai_fields
from headgate.llm.request import JsonRequest, read_field
from headgate.llm.usage import ParsedUsage
from headgate.llm.wire import responses
from headgate.llm.wire.responses import UNDER_WAY
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.ports import (
    BackgroundResponse,
    BackgroundResponses,
    BackgroundWork,
    Credential,
    Credentials,
    Grant,
    ModelCatalog,
    Receipt,
    Settlement,
    add_work,
)
from headgate.relay.pricing import Charge, estimate_usage, price_call
from headgate.relay.receipts import build_receipt
from headgate.relay.upstream import join_headers

FINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})
OUTCOMES = {"completed": "completed", "incomplete": "completed", "cancelled": "cancelled"}
"""The outcome of a receipt by the last status of a response; of any other, `upstream_error`."""
UNKNOWN = "unknown"
PENDING = Charge(pricing="pending")
ASK_SECONDS = 2.0
"""How long after its creation the provider is first asked."""
ASK_SECONDS_OF_STREAM = 60.0
"""The same where the caller reads the response's own stream, which usually shows its end."""
ASK_TIMEOUTS = Timeouts(5.0, 15.0, 15.0, 30.0)
LOST_SECONDS = 60.0
"""A provider may not find a response that is younger than this, and still have it."""
RESPONSE_ID_CHARACTERS_MAX = 256
KEPT_FIELDS = ("max_output_tokens", "max_tool_calls", "n", "best_of")
"""Fields of a request that bound its usage, and whose values are no content."""
TOOL_TYPE_CHARACTERS_MAX = 64
CREATION = Endpoint(
    "responses",
    ("POST",),
    "/responses",
    responses.METER,
    Body.JSON,
    Pricing.USAGE,
    openai_fields.CHECKED["/responses"],
)
"""What a response is priced as, whoever sees its end."""

log = structlog.get_logger(__name__)


def ignore_receipt(receipt: Receipt, settlement_microseconds: int) -> None:
    """Do nothing: the default observer."""


class BackgroundCalls:
    """Keep, find and settle the responses that run in the background.

    It holds no state. `observe` is told of the receipt of each response, once. A provider's answer
    to the question whether a response has ended has at most `body_bytes_max`.
    """

    def __init__(
        self,
        stored: BackgroundResponses,
        settlement: Settlement,
        models: ModelCatalog,
        credentials: Credentials,
        client: Client,
        clock: Clock,
        *,
        body_bytes_max: int = 64 * 1024 * 1024,
        observe: Callable[[Receipt, int], None] = ignore_receipt,
    ) -> None:
        self._stored = stored
        self._settlement = settlement
        self._models = models
        self._credentials = credentials
        self._client = client
        self._clock = clock
        self._body_bytes_max = body_bytes_max
        self._observe = observe

    async def begin(self, state: CallState) -> None:
        """Prepare a call that creates a response in the background, or names a stored one. Raise a
        `HeadgateError` of kind UNAVAILABLE.

        A response is kept as soon as its stream shows the id, so that a process which dies in the
        middle does not lose it.
        """
        if state.call.endpoint.of_response:
            await self._resolve(state)
            return
        state.is_background = True
        state.on_answer_id = lambda: self._keep_early(state)

    async def finish(self, state: CallState, receipt: Receipt) -> Receipt:
        """Return the receipt of a call as it is to be recorded, and settle the response that it
        names if that has ended. Raise as `Settlement.record`."""
        if state.background is None:
            return self._note(state, receipt)
        await self._settle_named(state, state.background)
        return receipt

    def _note(self, state: CallState, receipt: Receipt) -> Receipt:
        """Return the receipt of a call that created a response, with what is to be kept of it. It
        is pending while the provider works on, also where the call itself broke off."""
        work = describe_work(state, ASK_SECONDS)
        if work is None:
            return receipt
        if work.status in UNDER_WAY:
            receipt = make_pending(receipt)
        return add_work(receipt, work)

    async def _resolve(self, state: CallState) -> None:
        """Find the response that a call names, and let the call go to the credential that created
        it. In the platform's account, only the project that created it finds it.

        What is deleted cannot be asked for any more, so it is asked for before.
        """
        call = state.call
        response_id = read_response_id(call.path)
        found = await self._stored.find(call.grant.organization_id, response_id)
        if found is None:
            return
        receipt = found.receipt
        if receipt.managed:
            if receipt.project_id != call.grant.project_id:
                return
            call.account_id = receipt.credential_id
        if call.credential_name is None and self._find_credential(receipt) is not None:
            call.credential_name = receipt.credential_id
        if call.method == "DELETE" and found.status is None and await self.ask(found):
            found = await self._stored.find(call.grant.organization_id, response_id)
        state.background, state.is_background = found, True

    async def _settle_named(self, state: CallState, found: BackgroundResponse) -> None:
        """Settle the response that a call has read, cancelled or deleted, if that is its end."""
        parsed = state.parsed_usage
        if found.status not in (None, UNKNOWN) or state.status >= 300:
            return
        # Another account may have another response of this id, or claim anything of it.
        if state.credential is None or state.credential.id != found.receipt.credential_id:
            return
        if state.call.method == "DELETE":
            if found.status is None and state.outcome == "completed":
                await self.give_up(found, "background_deleted")
        elif parsed.status in FINAL and parsed.answer_id in (None, found.work.response_id):
            await self.settle(found, parsed, state.credential)

    async def ask(self, response: BackgroundResponse) -> bool:
        """Ask the provider, with the credential that created the response, whether it has ended,
        and settle it then. Return whether it is settled. A provider that cannot be asked now is
        asked again later. Raise as `Settlement.record`."""
        receipt = response.receipt
        credential = self._find_credential(receipt)
        if credential is None:
            self._log_unasked(receipt, "the credential cannot be used")
            return False
        try:
            status, parsed = await self._read(credential, response.work)
        except EgressError as error:
            self._log_unasked(receipt, type(error).__name__)
            return False
        if status == 404 and self._clock.now() - receipt.created_at >= LOST_SECONDS:
            await self.give_up(response, "background_lost")
            return True
        if status != 200:
            self._log_unasked(receipt, f"the provider answered {status}")
            return False
        if parsed.status not in FINAL:
            return False
        await self.settle(response, parsed, credential)
        return True

    async def settle(
        self, response: BackgroundResponse, parsed: ParsedUsage, credential: Credential
    ) -> None:
        """Price and record a response that has ended, once. A bill that was made without knowing
        its end is corrected. Raise as `Settlement.record`."""
        status = parsed.status or "failed"
        # How much of it was delivered, and to whom, has no part in its price.
        parsed = replace(parsed, output_bytes=0, tool_items=None)
        outcome = OUTCOMES.get(status, "upstream_error")
        is_estimate = parsed.usage is None and outcome == "cancelled"
        if is_estimate:
            parsed.usage = response.work.estimate
        state = rebuild_state(response, parsed, credential, self._models)
        state.outcome = outcome
        state.error_code = None if outcome == "completed" else parsed.error_code or status
        charge = price_call(state, self._models, self._clock.now())
        if is_estimate:
            charge = replace(charge, estimated=True)
        await self._record(response, state, charge, status)

    async def give_up(self, response: BackgroundResponse, error_code: str) -> None:
        """Record a response whose end nobody will know: at its hold, else at an estimate of its
        input. Raise as `Settlement.record`."""
        hold, receipt = response.hold, response.receipt
        parsed = ParsedUsage(model=receipt.model_served, answer_id=response.work.response_id)
        if hold is None:
            parsed.usage = response.work.estimate
        credential = self._find_credential(receipt)
        state = rebuild_state(response, parsed, credential, self._models)
        state.outcome, state.error_code = UNKNOWN, error_code
        if hold is None:
            charge = price_call(state, self._models, self._clock.now())
            charge = replace(charge, estimated=True)
        else:
            charge = Charge("priced", None, hold.amount_nano, hold.price_id, estimated=True)
        log.warning("background.unknown", request_id=receipt.request_id, reason=error_code)
        await self._record(response, state, charge, UNKNOWN)

    async def _record(
        self, response: BackgroundResponse, state: CallState, charge: Charge, status: str
    ) -> None:
        now = self._clock.now()
        seen = build_receipt(state, charge, created_at=now, ended_at=0.0)
        created = response.receipt
        # What the call was at its creation, with what its response became.
        receipt = replace(
            created,
            created_at=now,
            model_served=seen.model_served or created.model_served,
            outcome=seen.outcome,
            error_code=seen.error_code,
            usage=seen.usage,
            estimated=seen.estimated,
            service_tier=seen.service_tier or created.service_tier,
            pricing=seen.pricing,
            unpriced_reason=seen.unpriced_reason,
            price_id=seen.price_id,
            cost_nano=seen.cost_nano,
            credit_nano=seen.credit_nano,
        )
        work = replace(response.work, status=status)
        if await self._settlement.record(add_work(receipt, work), response.hold):
            self._observe(receipt, 0)

    def _keep_early(self, state: CallState) -> None:
        work = describe_work(state, ASK_SECONDS_OF_STREAM)
        if work is None or work.status not in UNDER_WAY:
            return
        clock = self._clock
        receipt = build_receipt(state, PENDING, created_at=clock.now(), ended_at=clock.monotonic())
        kept = self._settlement.record(add_work(make_pending(receipt), work), state.hold)
        asyncio.ensure_future(kept).add_done_callback(report_unkept)

    def _find_credential(self, receipt: Receipt) -> Credential | None:
        """Return the credential that created a response; None where it cannot be used."""
        try:
            found = self._credentials.resolve(
                receipt.organization_id,
                integration=receipt.provider,
                name=receipt.credential_id,
                is_free=True,
            )
        except HeadgateError:
            return None
        return found if found.id == receipt.credential_id else None

    async def _read(self, credential: Credential, work: BackgroundWork) -> tuple[int, ParsedUsage]:
        """Return the status of the provider's answer, and what it says of the response."""
        path = urllib.parse.quote(work.response_id, safe="").encode()
        account = [(name.encode(), value.encode("latin-1")) for name, value in work.account]
        answer = await self._client.send(
            Request(
                credential.origin,
                b"GET",
                b"%b/responses/%b" % (credential.base_path, path),
                join_headers(account, credential),
                b"",
                ASK_TIMEOUTS,
                purpose=credential.purpose,
            )
        )
        parsed = ParsedUsage()
        body = await answer.read(self._body_bytes_max)
        if answer.status == 200:
            responses.METER.read_body(body, parsed)
        if parsed.answer_id not in (None, work.response_id):
            parsed = ParsedUsage()
        return answer.status, parsed

    def _log_unasked(self, receipt: Receipt, reason: str) -> None:
        """Log why nothing is known; never what a provider wrote."""
        log.info("background.unasked", request_id=receipt.request_id, reason=reason)


def describe_work(state: CallState, ask_seconds: float) -> BackgroundWork | None:
    """Return what is to be known of the response that a call created; None if it created none."""
    parsed, body = state.parsed_usage, state.body
    if (
        parsed.answer_id is None
        or len(parsed.answer_id) > RESPONSE_ID_CHARACTERS_MAX
        or parsed.status not in UNDER_WAY | FINAL
        or not isinstance(body, JsonRequest)
    ):
        return None
    model_id = parsed.model or state.call.model
    chosen = [header for header in state.call.headers if header[0] in ACCOUNT]
    return BackgroundWork(
        parsed.answer_id,
        parsed.status,
        state.model.id if state.model else state.model_id or model_id,
        describe_request(body),
        estimate_usage(state),
        tuple((name.decode(), value.decode("latin-1")) for name, value in chosen),
        ask_seconds,
    )


def describe_request(body: JsonRequest) -> str:
    """Return a request as JSON with only what bounds its usage: none of its content."""
    fields = body.fields
    kept = {name: read_field(fields[name]) for name in KEPT_FIELDS if name in fields}
    tools = read_field(fields.get("tools"))
    if isinstance(tools, list):
        types = [get_type(tool) for tool in cast("list[Any]", tools)]
        kept["tools"] = [{"type": name[:TOOL_TYPE_CHARACTERS_MAX]} for name in types]
    kept |= {name: {} for name in ("prompt", "prediction") if name in fields}
    return msgspec.json.encode(kept).decode()


def get_type(tool: object) -> str:
    if not isinstance(tool, dict):
        return ""
    found = cast("dict[str, object]", tool).get("type")
    return found if isinstance(found, str) else ""


def make_pending(receipt: Receipt) -> Receipt:
    """Return the receipt of a call whose response runs on: nothing of its cost is known."""
    return replace(
        receipt,
        outcome="pending",
        error_code=None,
        usage=None,
        estimated=False,
        pricing=PENDING.pricing,
        unpriced_reason=None,
        price_id=None,
        cost_nano=0,
        credit_nano=0,
    )


def rebuild_state(
    response: BackgroundResponse,
    parsed: ParsedUsage,
    credential: Credential | None,
    models: ModelCatalog,
) -> CallState:
    """Return the state of the call that created a response, as if its answer had just ended."""
    receipt, work = response.receipt, response.work
    sent = request.decode(work.request.encode(), checked=CREATION.checked)
    call = Call(
        request_id=receipt.request_id,
        grant=Grant(receipt.key_id, receipt.organization_id, receipt.project_id),
        endpoint=CREATION,
        method="POST",
        path=b"/responses",
        query=b"",
        headers=[],
        body=sent,
        started_at=0.0,
        model=receipt.model_requested,
    )
    return CallState(
        call,
        parsed,
        credential=credential,
        model=models.find(work.model_id, receipt.provider) if work.model_id else None,
        model_id=work.model_id,
        body=sent,
        hold=response.hold,
        attempts=1,
        was_sent=True,
    )


def read_response_id(path: bytes) -> str:
    """Return the id in a path below `/responses/`."""
    return urllib.parse.unquote_to_bytes(path.split(b"/")[2]).decode("utf-8", "replace")


def report_unkept(kept: asyncio.Future[bool | None]) -> None:
    """Log a response that was not kept before its stream ended: it is kept at the end."""
    if not kept.cancelled() and (error := kept.exception()) is not None:
        log.warning("background.unkept", error=type(error).__name__)
