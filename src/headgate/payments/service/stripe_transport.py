"""Let the Stripe SDK speak through the egress client. This module is loaded with the SDK only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import stripe

from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Request, Timeouts
from headgate.kit.http.url import parse_url
from headgate.payments.service.provider import PAYMENTS

RESPONSE_BYTES_MAX = 1024 * 1024
TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=15.0, idle_seconds=15.0, total_seconds=20.0
)
OWN_HEADERS = frozenset({"host", "content-length", "connection", "transfer-encoding"})


class StripeTransport(stripe.HTTPClient):
    """Implement the SDK's HTTP client. The SDK itself retries, with its idempotency key."""

    name = "headgate"

    def __init__(self, client: Client) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self._client = client

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        origin, target = parse_url(url)
        sent = [
            (name.lower().encode(), value.encode())
            for name, value in headers.items()
            if name.lower() not in OWN_HEADERS
        ]
        body = post_data.encode() if isinstance(post_data, str) else (post_data or b"")
        request = Request(
            origin, method.upper().encode(), target, sent, body, TIMEOUTS, purpose=PAYMENTS
        )
        try:
            response = await self._client.send(request)
            answer = await response.read(RESPONSE_BYTES_MAX)
        except EgressError as error:
            raise stripe.APIConnectionError(str(error), should_retry=True) from error
        names = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers
        }
        return answer, response.status, names

    def sleep_async(self, secs: float) -> Any:
        return asyncio.sleep(secs)

    async def close_async(self) -> None:
        """Leave the client open: it belongs to the server."""
