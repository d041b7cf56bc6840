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
    `is_down` answers 503."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, Object] = {}
        self.events: list[Object] = []
        self.requests: list[tuple[str, str, Object]] = []
        self.versions: set[str] = set()
        self.is_down = False
        self._numbers = itertools.count(1)
        self._replies: dict[str, tuple[str, Reply]] = {}
        self._lock = threading.Lock()
        self._routes: list[tuple[str, Callable[[Object], Reply]]] = [
            (r"/v1/customers", self._create_customer),
            (r"/v1/checkout/sessions", self._create_session),
            (r"/v1/billing_portal/sessions", self._create_portal),
            (r"/v1/refunds", self._create_refund),
        ]

    def count(self, path: str) -> int:
        return sum(each == path for _, each, _ in self.requests)

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
            reply = self._find_route(path)(params)
            if key is not None:
                self._replies[key] = (asked, reply)
            return reply

    def _find_route(self, path: str) -> Callable[[Object], Reply]:
        for pattern, route in self._routes:
            if re.fullmatch(pattern, path):
                return route
        return lambda _params: _refuse(404, "invalid_request_error", "Unrecognized request URL")

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
        )

    def _succeed(self, intent: Object) -> Object:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        return intent

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


def _refuse(status: int, kind: str, message: str, *, code: str | None = None) -> Reply:
    return status, {"error": {"type": kind, "message": message, "code": code}}


@contextlib.contextmanager
def running_stripe() -> Generator[FakeStripe]:
    fake = FakeStripe()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            params = dict(urllib.parse.parse_qsl(body))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, reply = fake.answer("POST", self.path, params, headers)
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
