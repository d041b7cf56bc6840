"""Send one delivery: sign it, post it through the guarded client, judge the answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import msgspec

from headgate import __version__
from headgate.kit.http.errors import EgressError, PoolExhaustedError
from headgate.kit.http.message import Client, Headers, Request, Response, Timeouts
from headgate.llm.provider_errors import parse_retry_after
from headgate.webhooks.model.delivery import (
    Attempt,
    ClaimedDelivery,
    DeliveryStatus,
    choose_next_attempt,
)
from headgate.webhooks.model.signature import sign
from headgate.webhooks.service import PURPOSE, EndpointRoute

ANSWER_BYTES_MAX = 64 * 1024
"""The answer is read only so that its connection can serve the next delivery."""
ANSWER_SECONDS = 1.0
KEPT_BYTES_MAX = 512
"""The beginning of an answer that is kept with the attempt."""
ERROR_CHARACTERS_MAX = 500
GONE = 410
THROTTLED = frozenset({429, 502, 504})
OWN_SHORTAGE_SECONDS = 1.0

USER_AGENT = f"Headgate/{__version__}".encode()


class Sender:
    """Send deliveries by the egress client, which checks every address and follows no redirect."""

    def __init__(
        self,
        client: Client,
        *,
        read_now: Callable[[], float],
        read_monotonic: Callable[[], float],
        timeout_seconds: float = 15.0,
        choose_jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._now = read_now
        self._monotonic = read_monotonic
        self._choose_jitter = choose_jitter
        self._timeouts = Timeouts(
            connect_seconds=min(5.0, timeout_seconds),
            first_byte_seconds=timeout_seconds,
            idle_seconds=timeout_seconds,
            total_seconds=timeout_seconds,
        )

    async def send(self, route: EndpointRoute, delivery: ClaimedDelivery) -> Attempt:
        """Make one attempt. Whatever happens is in the result."""
        at, begin = self._now(), self._monotonic()
        request = self._make_request(route, delivery, int(at))
        try:
            response = await self._client.send(request)
            response_body = await _read(response)
        except PoolExhaustedError as error:
            return Attempt(
                delivery=delivery,
                at=at,
                status=DeliveryStatus.PENDING,
                error=_shorten(error),
                next_at=at + OWN_SHORTAGE_SECONDS,
                counts=False,
            )
        except (EgressError, ValueError) as error:
            failed = Attempt(delivery=delivery, at=at, status=DeliveryStatus.PENDING)
            return self._fail(failed, self._measure(begin), error=_shorten(error))
        attempt = self._judge(delivery, response, at=at, latency=self._measure(begin))
        return msgspec.structs.replace(attempt, response_body=response_body)

    def _make_request(self, route: EndpointRoute, delivery: ClaimedDelivery, at: int) -> Request:
        signature = sign(route.find_signers(at), delivery.event_id, at, delivery.body)
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", USER_AGENT),
            (b"webhook-id", delivery.event_id.encode()),
            (b"webhook-timestamp", str(at).encode()),
            (b"webhook-signature", signature.encode()),
        ]
        return Request(
            origin=route.origin,
            method=b"POST",
            target=route.target,
            headers=headers,
            body=delivery.body,
            timeouts=self._timeouts,
            purpose=PURPOSE,
        )

    def _judge(
        self, delivery: ClaimedDelivery, response: Response, *, at: float, latency: int
    ) -> Attempt:
        status = response.status
        attempt = Attempt(
            delivery=delivery,
            at=at,
            status=DeliveryStatus.DELIVERED,
            status_code=status,
            latency_microseconds=latency,
        )
        if 200 <= status < 300:
            return attempt
        if status == GONE:
            return msgspec.structs.replace(
                attempt,
                status=DeliveryStatus.EXHAUSTED,
                error="The receiver answered 410: it wants no more events.",
                is_gone=True,
            )
        error = f"The receiver answered {status}."
        if 300 <= status < 400:
            error += " Redirects are not followed."
        return self._fail(
            attempt,
            latency,
            error=error,
            retry_after_seconds=parse_retry_after(response.headers, at) or 0.0,
        )

    def _fail(
        self, attempt: Attempt, latency: int, *, error: str, retry_after_seconds: float = 0.0
    ) -> Attempt:
        next_at = choose_next_attempt(
            attempt.delivery.attempts + 1,
            now=self._now(),
            random=self._choose_jitter(),
            retry_after_seconds=retry_after_seconds,
        )
        return msgspec.structs.replace(
            attempt,
            status=DeliveryStatus.EXHAUSTED if next_at is None else DeliveryStatus.PENDING,
            error=error,
            latency_microseconds=latency,
            next_at=next_at,
        )

    def _measure(self, begin: float) -> int:
        return int((self._monotonic() - begin) * 1_000_000)


async def _read(response: Response) -> str:
    """Read a small answer, so that the connection can be used again, and return its beginning. The
    status has decided by now, so an answer that is large, slow or broken off only costs its
    connection."""
    with contextlib.suppress(EgressError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            body = await response.read(ANSWER_BYTES_MAX)
            return body[:KEPT_BYTES_MAX].decode(errors="replace")
    return ""


def _shorten(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:ERROR_CHARACTERS_MAX]
