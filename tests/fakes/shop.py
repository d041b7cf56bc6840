"""The platform API in this process, which takes payments from a fake Stripe."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from headgate.billing.service import ledger, wallet
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.main.application import Application
from headgate.main.payments import build_jobs
from headgate.payments.service.invoices import list_invoices
from tests.fakes.api import NO_PROPS, Answer, Api, Props, open_client, running_api
from tests.fakes.stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe, running_stripe

CALLBACK = "/api/payments/stripe/callback"


@dataclass
class Shop:
    """Hold an API that takes payments from a fake Stripe."""

    api: Api
    stripe: FakeStripe

    def start(self, amount: str = "25", **given: Any) -> dict[str, Any]:
        answer = self.api.post("/api/wallet/top-ups", {"amount": amount, **given})
        assert answer.status == 201, answer.text
        return answer.json

    def send(self, event: dict[str, Any], **given: Any) -> Answer:
        raw, signature = self.stripe.sign(event, **given)
        return self.send_raw(raw, signature)

    def send_raw(self, raw: bytes, signature: str) -> Answer:
        headers = {"stripe-signature": signature}
        return self.api.post(CALLBACK, content=raw, key="", organization="", headers=headers)

    @property
    def available(self) -> str:
        return self.api.get("/api/wallet").json["available"]

    def check_ledger(self) -> None:
        assert self.api.read(ledger.find_inconsistencies) == []

    def actions(self, order_id: str) -> list[str]:
        return [action for action, of in self.api.audited() if of == order_id]

    def topics(self) -> list[str]:
        return self.api.read(
            lambda c: list(c.exec_driver_sql("SELECT topic FROM outbox ORDER BY id").scalars())
        )

    def invoices(self) -> list[tuple[str, str, int]]:
        """Return number, kind and total of the invoices, oldest first."""
        found = self.api.read(
            lambda c: list_invoices(c, self.api.organization_id, before=None, limit=100)
        )
        return [
            (each.invoice.number, each.invoice.kind, each.invoice.total_nano)
            for each in reversed(found)
        ]

    def run(self, name: str) -> None:
        """Run a background job once."""
        api = self.api
        jobs = build_jobs(api.application, api.writer, api.client, lambda: None)
        [job] = [each for each in jobs if each.name == name]
        api.portal.call(job.run)

    def pay(self, amount: str = "25", **given: Any) -> dict[str, Any]:
        """Top up, and let Stripe tell of it."""
        order = self.start(amount, **given)
        for event in self.stripe.pay(order["session_id"]):
            assert self.send(event).status == 200
        return order

    def spend(self, dollars: int) -> None:
        """Take money out of the wallet, as calls would."""
        application = self.api.application
        with application.database.transaction() as connection:
            wallet.debit(
                connection,
                f"adjustment:{self.api.organization_id}:{application.ids.make('spent')}",
                self.api.organization_id,
                target="adjustments",
                amount_nano=dollars * NANO_PER_DOLLAR,
                now=1.0,
            )


@contextlib.contextmanager
def running_shop(folder: Path, props: Props = NO_PROPS, /, **variables: str) -> Generator[Shop]:
    """Run the API with a Stripe of its own; `variables` are further settings."""
    with contextlib.ExitStack() as stack:
        stripe = stack.enter_context(running_stripe())
        given = {
            "stripe_secret_key": SECRET_KEY,
            "stripe_webhook_secret": WEBHOOK_SECRET,
            "stripe_api_base": stripe.url,
            "test_mode": "true",
            **variables,
        }
        yield Shop(stack.enter_context(running_api(folder, props, **given)), stripe)


@dataclass
class Peer:
    """Run the jobs of another process on the database of a shop."""

    application: Application
    writer: Writer
    client: HttpClient
    portal: BlockingPortal

    def run(self, name: str) -> None:
        jobs = build_jobs(self.application, self.writer, self.client, lambda: None)
        [job] = [each for each in jobs if each.name == name]
        self.portal.call(job.run)


@contextlib.contextmanager
def running_peer(shop: Shop) -> Generator[Peer]:
    """Open the database of a shop, which several processes may share, once more."""
    application = shop.api.application
    database = Database(application.database.place)
    peer = Application(
        application.settings, database, application.egress_rules, clock=application.clock
    )
    writer = Writer(database)
    with contextlib.ExitStack() as stack:
        stack.callback(peer.close)
        portal = stack.enter_context(start_blocking_portal())

        async def start() -> HttpClient:
            writer.start()
            return await open_client(peer)

        client = portal.call(start)
        stack.callback(portal.call, writer.stop)
        stack.callback(portal.call, client.close)
        yield Peer(peer, writer, client, portal)
