"""Take payments by Stripe. This module is loaded at the first payment, with the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import stripe
import structlog

from headgate.kit.clock import Clock
from headgate.kit.http.message import Client
from headgate.payments.model.order import (
    STRIPE,
    ChargeOutcome,
    CheckoutPage,
    NoticeKind,
    PaymentDeclinedError,
    PaymentNotice,
    PaymentOrder,
    PaymentProviderError,
    Refund,
)
from headgate.payments.service.provider import InvalidPaymentSignatureError
from headgate.payments.service.stripe_transport import StripeTransport

API_VERSION = "2026-10-28.endive"
"""The version of Stripe's API that requests are made in, whatever the account's default is."""
TOLERANCE_SECONDS = 300
RETRIES_MAX = 2
CALL_SECONDS_MAX = 45.0

NOTICES: Mapping[str, NoticeKind] = {
    "checkout.session.completed": "paid",
    "checkout.session.async_payment_succeeded": "paid",
    "checkout.session.async_payment_failed": "failed",
    "checkout.session.expired": "expired",
    "payment_intent.succeeded": "paid",
    "payment_intent.payment_failed": "failed",
    "charge.refunded": "refunded",
    "charge.dispute.funds_withdrawn": "disputed",
    "charge.dispute.funds_reinstated": "dispute_won",
    "payment_method.detached": "method_removed",
}
FINAL_CODES = frozenset(
    {
        *("authentication_required", "expired_card", "incorrect_number", "invalid_number"),
        *("fraudulent", "lost_card", "pickup_card", "restricted_card", "stolen_card"),
        *("card_not_supported", "currency_not_supported", "invalid_account"),
        *("revocation_of_all_authorizations", "revocation_of_authorization"),
    }
)
"""The codes of declined payments that will not succeed later either; card networks forbid to try
them again."""
UNEXPECTED_STATE = "payment_intent_unexpected_state"
WITHOUT_PAYER = {"enabled": True, "allow_redirects": "never"}

FAILURES = (stripe.StripeError, TimeoutError, ValueError)

log = structlog.get_logger(__name__)


class StripeConfig(msgspec.Struct, frozen=True):
    secret_key: str
    webhook_secret: str
    api_base: str

    def __repr__(self) -> str:
        return f"StripeConfig({self.api_base})"


class StripeGateway:
    """Implement `PaymentProvider` with the Stripe SDK."""

    name = STRIPE

    def __init__(self, config: StripeConfig, client: Client, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._client = stripe.StripeClient(
            config.secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": config.api_base},
            max_network_retries=RETRIES_MAX,
            http_client=StripeTransport(client),
        )

    async def create_customer(self, organization_id: str, name: str) -> str:
        customer = await self._call(
            self._client.v1.customers.create_async(
                {"name": name, "metadata": {"organization_id": organization_id}},
                {"idempotency_key": f"customer:{organization_id}"},
            )
        )
        return str(customer.id)

    async def open_checkout(
        self, order: PaymentOrder, customer_id: str, return_url: str
    ) -> CheckoutPage:
        metadata = {"order_id": order.id, "organization_id": order.organization_id}
        intent: dict[str, Any] = {"metadata": metadata}
        if order.save_payment_method:
            intent["setup_future_usage"] = "off_session"
        params: dict[str, Any] = {
            "mode": "payment",
            "client_reference_id": order.id,
            "customer": customer_id,
            "metadata": metadata,
            "payment_intent_data": intent,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": order.currency,
                        "unit_amount": order.amount_cents,
                        "product_data": {"name": "Wallet top-up"},
                    },
                }
            ],
            "success_url": return_url,
            "cancel_url": return_url,
        }
        session = await self._call(
            self._client.v1.checkout.sessions.create_async(
                cast("Any", params), {"idempotency_key": order.id}
            )
        )
        return CheckoutPage(str(session.id), str(session.url))

    async def open_portal(self, customer_id: str, return_url: str) -> str:
        session = await self._call(
            self._client.v1.billing_portal.sessions.create_async(
                {"customer": customer_id, "return_url": return_url}
            )
        )
        return str(session.url)

    async def create_payment(self, order: PaymentOrder, customer_id: str) -> str:
        params: dict[str, Any] = {
            "amount": order.amount_cents,
            "currency": order.currency,
            "customer": customer_id,
            "automatic_payment_methods": WITHOUT_PAYER,
            "metadata": {"order_id": order.id, "organization_id": order.organization_id},
        }
        intents = self._client.v1.payment_intents
        try:
            intent = await self._ask(
                intents.create_async(cast("Any", params), {"idempotency_key": order.id})
            )
        except stripe.InvalidRequestError as error:
            raise PaymentDeclinedError(_log_refusal(error)) from error
        except FAILURES as error:
            raise _to_provider_error(error) from error
        return str(intent.id)

    async def charge_payment(self, order: PaymentOrder, payment_method_id: str) -> ChargeOutcome:
        assert order.payment_id is not None, "the payment is created before it is charged"
        params: dict[str, Any] = {"payment_method": payment_method_id, "off_session": True}
        # Another method is another attempt; the payment itself succeeds once at most.
        key = {"idempotency_key": f"{order.id}:{payment_method_id}"}
        intents = self._client.v1.payment_intents
        return await self._decide(
            order, intents.confirm_async(order.payment_id, cast("Any", params), cast("Any", key))
        )

    async def cancel_payment(self, order: PaymentOrder) -> ChargeOutcome:
        assert order.payment_id is not None, "a payment that was never created needs no end"
        return await self._decide(
            order, self._client.v1.payment_intents.cancel_async(order.payment_id)
        )

    async def _decide(self, order: PaymentOrder, call: Any) -> ChargeOutcome:
        """Return what became of a payment that a call changes."""
        assert order.payment_id is not None, "the payment is created"
        try:
            return _read_outcome(order, await self._ask(call))
        except stripe.CardError as error:
            return _read_decline(error)
        except stripe.InvalidRequestError as error:
            if error.code != UNEXPECTED_STATE:
                return ChargeOutcome("failed", _log_refusal(error), is_final=True)
        except FAILURES as error:
            raise _to_provider_error(error) from error
        # It was charged or canceled before.
        retrieved = self._client.v1.payment_intents.retrieve_async(order.payment_id)
        return _read_outcome(order, await self._call(retrieved))

    async def refund(self, order: PaymentOrder, amount_cents: int, reference: str) -> Refund:
        assert order.payment_id is not None, "only a paid order can be refunded"
        made = await self._call(
            self._client.v1.refunds.create_async(
                {
                    "payment_intent": order.payment_id,
                    "amount": amount_cents,
                    "metadata": {"order_id": order.id},
                },
                {"idempotency_key": reference},
            )
        )
        return Refund(str(made.id), int(made.amount))

    async def _call(self, call: Any) -> Any:
        """Await a call of the SDK. Raise `PaymentDeclinedError` and `PaymentProviderError`."""
        try:
            return await self._ask(call)
        except stripe.CardError as error:
            reason = error.user_message or "The payment was declined."
            raise PaymentDeclinedError(f"The payment was declined: {reason}") from error
        except FAILURES as error:
            raise _to_provider_error(error) from error

    async def _ask(self, call: Any) -> Any:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            return await call

    def read_notice(self, raw: bytes, signature: str) -> PaymentNotice:
        try:
            event = self._client.construct_event(
                raw, signature, self._config.webhook_secret, TOLERANCE_SECONDS
            )
            # The SDK accepts a time in the future.
            if _read_time(signature) > self._clock.now() + TOLERANCE_SECONDS:
                raise ValueError("the time is in the future")
            return _read_event(cast("Any", event).to_dict())
        except (stripe.SignatureVerificationError, ValueError, TypeError, KeyError) as error:
            raise InvalidPaymentSignatureError(
                "The message is not signed by the payment provider, or is older than 5 minutes."
            ) from error


def _to_provider_error(error: Exception) -> PaymentProviderError:
    # The text of Stripe may name objects of the account, so callers do not get it.
    log.warning("payments.provider_failed", provider=STRIPE, error=str(error)[:500])
    return PaymentProviderError(
        "The payment provider did not answer as it should. Repeat the request later with the same "
        "Idempotency-Key."
    )


def _log_refusal(error: stripe.InvalidRequestError) -> str:
    """Log why Stripe refused a request, and return what its owner may know."""
    log.warning("payments.charge_refused", provider=STRIPE, error=str(error)[:500])
    return "The payment provider refused the saved payment method. Save one again."


def _read_decline(error: stripe.CardError) -> ChargeOutcome:
    decline: Any = getattr(error.error, "decline_code", None)
    reason = error.user_message or "The payment was declined."
    return ChargeOutcome("failed", str(reason), is_final=_is_final(error.code, decline))


def _is_final(*codes: Any) -> bool:
    return not FINAL_CODES.isdisjoint(str(code) for code in codes)


def _read_outcome(order: PaymentOrder, intent: Any) -> ChargeOutcome:
    """Read what became of the payment of an order."""
    status = str(intent.status)
    if status == "succeeded":
        paid = (int(intent.amount_received), str(intent.currency))
        if paid != (order.amount_cents, order.currency):
            log.error("payments.charge_mismatch", provider=STRIPE, order=order.id)
            return ChargeOutcome("open")
        return ChargeOutcome("paid")
    if status == "canceled":
        return ChargeOutcome("canceled")
    if status in ("requires_action", "requires_payment_method", "requires_confirmation"):
        failure = "The bank asks the cardholder to confirm the payment. Top up once by hand."
        return ChargeOutcome("failed", failure, is_final=True)
    return ChargeOutcome("open")


def _read_time(signature: str) -> int:
    return int(next(part[2:] for part in signature.split(",") if part.startswith("t=")))


def _read_event(event: Mapping[str, Any]) -> PaymentNotice:
    """Read what matters of an event, which names an object as it was at that time."""
    type_, found = str(event["type"]), event["data"]["object"]
    kind = NOTICES.get(type_, "unrelated")
    read = _READERS.get(str(found.get("object")), _read_nothing)
    fields = read(found) if kind != "unrelated" else {}
    if fields.pop("is_open", False) and kind == "paid":
        # A bank transfer is paid later, and told by another event.
        kind = "unrelated"
    return PaymentNotice(
        id=str(event["id"]),
        type=type_,
        kind=kind,
        object_id=str(found.get("id", "")),
        currency=str(found.get("currency") or ""),
        **fields,
    )


def _read_nothing(_found: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _read_map(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return found.get(name) or {}


def _read_order_id(found: Mapping[str, Any]) -> str:
    return str(_read_map(found, "metadata").get("order_id") or "")


def _read_session(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "order_id": str(found.get("client_reference_id") or "") or _read_order_id(found),
        "payment_id": _read_id(found.get("payment_intent")),
        "amount_cents": int(found.get("amount_total") or 0),
        "customer_id": _read_id(found.get("customer")),
        "is_open": found.get("payment_status") != "paid",
    }


def _read_intent(found: Mapping[str, Any]) -> dict[str, Any]:
    failure = _read_map(found, "last_payment_error")
    return {
        "order_id": _read_order_id(found),
        "payment_id": str(found["id"]),
        "amount_cents": int(found.get("amount_received") or 0),
        "customer_id": _read_id(found.get("customer")),
        "payment_method_id": _read_id(found.get("payment_method")),
        "failure": str(failure.get("message") or ""),
        "is_final": _is_final(failure.get("code"), failure.get("decline_code")),
        "is_open": found.get("status") != "succeeded",
    }


def _read_charge(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "order_id": _read_order_id(found),
        "payment_id": _read_id(found.get("payment_intent")),
        "amount_cents": int(found.get("amount_refunded") or 0),
    }


def _read_dispute(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "payment_id": _read_id(found.get("payment_intent")),
        "amount_cents": int(found.get("amount") or 0),
    }


def _read_method(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"payment_method_id": str(found["id"])}


def _read_id(value: Any) -> str:
    """Return the id of an object, which may be given whole."""
    return str(cast("Any", value).get("id", "")) if isinstance(value, dict) else str(value or "")


_READERS = {
    "checkout.session": _read_session,
    "payment_intent": _read_intent,
    "charge": _read_charge,
    "dispute": _read_dispute,
    "payment_method": _read_method,
}
