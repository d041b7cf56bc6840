"""A small Stripe with a memory: customers, checkout sessions, payments, refunds, signed events.

    with running_stripe() as fake:
        ... HEADGATE_STRIPE_API_BASE=fake.url ...
        events = fake.pay(session_id)
        raw, signature = fake.sign(events[0])

It is asked by the real SDK, repeats answers by `Idempotency-Key` as Stripe does (also errors), and
refuses the same key with other parameters.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import itertools
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WEBHOOK_SECRET = "whsec_0123456789abcdefghijklmnop"
SECRET_KEY = "sk_test_0123456789abcdefghijklmn"

Object = dict[str, Any]
Reply = tuple[int, Object]


class FakeStripe:
    """Keep the objects of one account. `requests` has method, path and parameters of each request.
    `is_down` answers 503. `decline` is the code with which charges are declined, `needs_payer` asks
    for the cardholder. With `loses_answers`, what is asked is done, and nobody is told."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, Object] = {}
        self.events: list[Object] = []
        self.requests: list[tuple[str, str, Object]] = []
        self.versions: set[str] = set()
        self.detached: set[str] = set()
        self.is_down = self.needs_payer = self.loses_answers = False
        self.decline = ""
        self._numbers = itertools.count(1)
        self._replies: dict[str, tuple[str, Reply]] = {}
        self._lock = threading.Lock()
        self._routes: list[tuple[str, Callable[..., Reply]]] = [
            (r"/v1/customers", self._create_customer),
            (r"/v1/checkout/sessions", self._create_session),
            (r"/v1/billing_portal/sessions", self._create_portal),
            (r"/v1/refunds", self._create_refund),
            (r"/v1/payment_intents", self._create_intent),
            (r"/v1/payment_intents/(\w+)", self._retrieve_intent),
            (r"/v1/payment_intents/(\w+)/confirm", self._confirm_intent),
            (r"/v1/payment_intents/(\w+)/cancel", self._cancel_intent),
        ]

    def count(self, path: str) -> int:
        return sum(each == path for _, each, _ in self.requests)

    @property
    def charged(self) -> list[int]:
        """Return the amounts that were charged without a page, oldest first."""
        return [
            each["amount_received"]
            for each in self.all("payment_intent")
            if each["off_session"] and each["status"] == "succeeded"
        ]

    def all(self, kind: str) -> list[Object]:
        return [each for each in self.objects.values() if each["object"] == kind]

    def pay(self, session_id: str, *, method: str = "pm_card_visa") -> list[Object]:
        """Pay a checkout session as its customer would. Return the events that Stripe sends."""
        session = self.objects[session_id]
        intent = self._make_intent(
            session["amount_total"], session["currency"], session["customer"], method
        )
        intent["metadata"] = dict(session["payment_intent_metadata"])
        session |= {"status": "complete", "payment_status": "paid", "payment_intent": intent["id"]}
        return [
            self.tell("payment_intent.succeeded", self._succeed(intent)),
            self.tell("checkout.session.completed", session),
        ]

    def expire(self, session_id: str) -> Object:
        session = self.objects[session_id]
        session["status"] = "expired"
        return self.tell("checkout.session.expired", session)

    def refund(self, intent_id: str, amount: int) -> Object:
        """Refund in the dashboard of Stripe. Return the event."""
        self._create_refund({"payment_intent": intent_id, "amount": str(amount)})
        return self.events[-1]

    def dispute(self, intent_id: str, amount: int, *, won: bool = False) -> Object:
        """Dispute a payment, or win the dispute. Return the event."""
        intent = self.objects[intent_id]
        dispute = {
            "id": f"dp_{intent_id}",
            "object": "dispute",
            "amount": amount,
            "currency": intent["currency"],
            "payment_intent": intent_id,
        }
        word = "reinstated" if won else "withdrawn"
        return self.tell(f"charge.dispute.funds_{word}", dispute)

    def forget_keys(self) -> None:
        """Forget the idempotency keys, as Stripe does after a day."""
        self._replies.clear()

    def tell(self, kind: str, found: Object) -> Object:
        """Make an event about an object as it is now."""
        event: Object = {
            "id": self._make_id("evt"),
            "object": "event",
            "type": kind,
            "created": int(time.time()),
            "data": {"object": json.loads(json.dumps(found))},
        }
        self.events.append(event)
        return event

    def sign(
        self, event: Object, *, secret: str = WEBHOOK_SECRET, age_seconds: int = 0
    ) -> tuple[bytes, str]:
        """Return the body of an event's message and its `Stripe-Signature`."""
        raw = json.dumps(event, indent=2).encode()
        at = int(time.time()) - age_seconds
        digest = hmac.new(secret.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()
        return raw, f"t={at},v1={digest}"

    def answer(self, method: str, path: str, params: Object, headers: dict[str, str]) -> Reply:
        with self._lock:
            self.requests.append((method, path, params))
            self.versions.add(headers.get("stripe-version", ""))
            if headers.get("authorization") != f"Bearer {SECRET_KEY}":
                return _refuse(401, "invalid_request_error", "Invalid API Key provided")
            if self.is_down:
                return _refuse(503, "api_error", "Stripe is down")
            key, asked = headers.get("idempotency-key"), json.dumps([path, params])
            if key is not None and key in self._replies:
                known, reply = self._replies[key]
                if known != asked:
                    text = "Keys for idempotent requests can only be used with the same parameters"
                    return _refuse(400, "idempotency_error", text)
                return reply
            reply = self._route(path, params)
            if key is not None:
                self._replies[key] = (asked, reply)
            return reply

    def _route(self, path: str, params: Object) -> Reply:
        for pattern, route in self._routes:
            match = re.fullmatch(pattern, path)
            if match is not None:
                return route(*match.groups(), params)
        return _refuse(404, "invalid_request_error", "Unrecognized request URL")

    def _make_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):024d}"

    def _add(self, prefix: str, kind: str, **fields: Any) -> Object:
        made: Object = {"id": self._make_id(prefix), "object": kind, **fields}
        self.objects[made["id"]] = made
        return made

    def _create_customer(self, params: Object) -> Reply:
        return 200, self._add(
            "cus", "customer", name=params.get("name"), metadata=_read_map(params, "metadata")
        )

    def _create_session(self, params: Object) -> Reply:
        if params["customer"] not in self.objects:
            return _refuse(400, "invalid_request_error", "No such customer")
        amount = int(params["line_items[0][price_data][unit_amount]"])
        session = self._add(
            "cs_test",
            "checkout.session",
            mode=params["mode"],
            client_reference_id=params["client_reference_id"],
            customer=params["customer"],
            amount_total=amount * int(params["line_items[0][quantity]"]),
            currency=params["line_items[0][price_data][currency]"],
            metadata=_read_map(params, "metadata"),
            payment_intent_metadata=_read_map(params, "payment_intent_data[metadata]"),
            payment_intent=None,
            payment_status="unpaid",
            status="open",
            success_url=params["success_url"],
        )
        session["url"] = f"https://checkout.stripe.com/c/pay/{session['id']}"
        return 200, session

    def _create_portal(self, params: Object) -> Reply:
        if params["customer"] not in self.objects:
            return _refuse(400, "invalid_request_error", "No such customer")
        session = self._add("bps", "billing_portal.session", customer=params["customer"])
        session["url"] = f"https://billing.stripe.com/p/session/{session['id']}"
        return 200, session

    def _make_intent(self, amount: int, currency: str, customer: str, method: str) -> Object:
        return self._add(
            "pi",
            "payment_intent",
            amount=amount,
            amount_received=0,
            currency=currency,
            customer=customer,
            payment_method=method,
            status="requires_confirmation",
            metadata={},
            refunded=0,
            off_session=False,
        )

    def _succeed(self, intent: Object) -> Object:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        return intent

    def _create_intent(self, params: Object) -> Reply:
        if params["customer"] not in self.objects:
            return _refuse(400, "invalid_request_error", "No such customer")
        intent = self._make_intent(
            int(params["amount"]), params["currency"], params["customer"], ""
        )
        intent |= {"metadata": _read_map(params, "metadata"), "off_session": True}
        intent["status"] = "requires_payment_method"
        return 200, intent

    def _retrieve_intent(self, intent_id: str, _params: Object) -> Reply:
        return 200, self.objects[intent_id]

    def _confirm_intent(self, intent_id: str, params: Object) -> Reply:
        intent, method = self.objects[intent_id], params["payment_method"]
        if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
            return _refuse_state(intent)
        if method in self.detached:
            text = f"No such PaymentMethod: '{method}'"
            return _refuse(400, "invalid_request_error", text, code="resource_missing")
        intent["payment_method"] = method
        if self.needs_payer:
            intent["status"] = "requires_action"
            return 200, intent
        if self.decline:
            failure = {"code": "card_declined", "decline_code": self.decline}
            failure["message"] = "Your card was declined."
            intent |= {"status": "requires_payment_method", "last_payment_error": failure}
            self.tell("payment_intent.payment_failed", intent)
            return 402, {"error": {"type": "card_error", **failure}}
        self.tell("payment_intent.succeeded", self._succeed(intent))
        return 200, intent

    def _cancel_intent(self, intent_id: str, _params: Object) -> Reply:
        intent = self.objects[intent_id]
        if intent["status"] in ("succeeded", "canceled"):
            return _refuse_state(intent)
        intent["status"] = "canceled"
        return 200, intent

    def detach(self, method: str) -> Object:
        """Remove a payment method, as its customer would in the portal. Return the event."""
        self.detached.add(method)
        found = {"id": method, "object": "payment_method", "customer": None}
        return self.tell("payment_method.detached", found)

    def _create_refund(self, params: Object) -> Reply:
        intent = self.objects.get(params["payment_intent"])
        if intent is None:
            return _refuse(404, "invalid_request_error", "No such payment_intent")
        amount = int(params["amount"])
        if intent["refunded"] + amount > intent["amount_received"]:
            text = "Refund amount is greater than unrefunded amount on charge"
            return _refuse(400, "invalid_request_error", text)
        intent["refunded"] += amount
        refund = self._add("re", "refund", amount=amount, payment_intent=intent["id"])
        charge = {
            "id": f"ch_{intent['id']}",
            "object": "charge",
            "amount": intent["amount"],
            "amount_refunded": intent["refunded"],
            "currency": intent["currency"],
            "payment_intent": intent["id"],
            "metadata": intent["metadata"],
        }
        self.tell("charge.refunded", charge)
        return 200, refund


def _read_map(params: Object, name: str) -> Object:
    start = f"{name}["
    return {key[len(start) : -1]: value for key, value in params.items() if key.startswith(start)}


def _refuse_state(intent: Object) -> Reply:
    text = f"This PaymentIntent's status is {intent['status']}"
    return _refuse(400, "invalid_request_error", text, code="payment_intent_unexpected_state")


def _refuse(status: int, kind: str, message: str, *, code: str | None = None) -> Reply:
    return status, {"error": {"type": kind, "message": message, "code": code}}


@contextlib.contextmanager
def running_stripe() -> Generator[FakeStripe]:
    fake = FakeStripe()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.handle_request()

        def do_POST(self) -> None:
            self.handle_request()

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            params = dict(urllib.parse.parse_qsl(body))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, reply = fake.answer(self.command, self.path, params, headers)
            if fake.loses_answers:
                self.close_connection = True
                return
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("request-id", "req_fake")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
