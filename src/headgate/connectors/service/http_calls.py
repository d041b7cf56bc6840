"""Send the requests of plain HTTP connectors, and record them."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Mapping

from headgate.connectors.model.action import TIMEOUT_SECONDS, ActionAnswer
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.errors import ActionTimedOutError, ToolError
from headgate.connectors.service.action_receipts import (
    CONNECTOR_HTTP,
    ActionReceipts,
    OutgoingCall,
)
from headgate.connectors.service.registry import Connector, ConnectorRegistry
from headgate.credentials.model.integration import Integration
from headgate.credentials.service import CredentialResolver
from headgate.kit.clock import Clock
from headgate.kit.errors import Kind
from headgate.kit.http.errors import (
    EgressError,
    FirstByteTimeoutError,
    IdleTimeoutError,
    TotalTimeoutError,
)
from headgate.kit.http.message import Client, Headers, Request, Response, Timeouts
from headgate.kit.ids import IdGenerator
from headgate.llm.headers import DENIED
from headgate.llm.redaction import redact_error
from headgate.relay.ports import Credential
from headgate.vault.model.base_url import parse_base_url

ANSWER_BYTES_MAX = 16 * 1024 * 1024
CONNECT_SECONDS = 5.0
TIMEOUT_ERRORS = (FirstByteTimeoutError, IdleTimeoutError, TotalTimeoutError)
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class ServiceUnreachableError(ToolError):
    """The service behind a connector did not answer: it could not be reached, broke off, or sent
    more than is read.

    Try again later; the message says what happened.
    """

    kind = Kind.UPSTREAM
    code = "service_unreachable"


class HttpCalls:
    """Send requests for actions (`connectors.model.action.HttpCaller`).

    They go to the address of the connector's integration, or of the credential that is used, and
    nowhere else.
    """

    def __init__(
        self,
        client: Client,
        registry: ConnectorRegistry,
        resolver: CredentialResolver,
        receipts: ActionReceipts,
        *,
        integrations: Mapping[str, Integration],
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._client = client
        self._registry = registry
        self._resolver = resolver
        self._receipts = receipts
        self._integrations = integrations
        self._clock = clock
        self._ids = ids

    async def send(
        self,
        caller: ToolCaller,
        connector: str,
        action: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        credential: str | None = None,
        timeout_seconds: float | None = None,
    ) -> ActionAnswer:
        """Return the answer, of whatever status, without the credential's secret where it is
        repeated. Raise `NoCredentialError`, `UnusableCredentialError`, `ActionTimedOutError` and
        `ServiceUnreachableError`."""
        found = self._registry.find(connector)
        opened = self._find_credential(found, caller, credential)
        self._receipts.check()
        call = OutgoingCall(
            request_id=self._ids.make("req"),
            endpoint=CONNECTOR_HTTP,
            method=method,
            provider=connector,
            tool=found.find_action(action).tool_name,
            started_at=self._clock.monotonic(),
            credential_id=opened.id or None,
            request_bytes=len(body),
        )
        request = build_request(
            opened,
            method,
            build_target(opened.base_path, path, query),
            build_headers(opened, headers),
            body,
            timeout_seconds=timeout_seconds or TIMEOUT_SECONDS,
        )
        try:
            answer = await self._exchange(request, opened, call)
        except asyncio.CancelledError:
            self._receipts.defer(caller, call)
            raise
        except EgressError as error:
            note_failure(call, error)
            await self._receipts.record(caller, call)
            raise describe_failure(error, found.manifest.display_name) from error
        await self._receipts.record(caller, call)
        return answer

    async def _exchange(
        self, request: Request, credential: Credential, call: OutgoingCall
    ) -> ActionAnswer:
        response: Response = await self._client.send(request)
        body = await response.read(ANSWER_BYTES_MAX)
        call.complete(response.status, len(body), self._clock.monotonic())
        headers = {
            name.decode("latin-1"): redact_error(value, credential.secret).decode("latin-1")
            for name, value in response.headers
        }
        return ActionAnswer(response.status, headers, redact_error(body, credential.secret))

    def _find_credential(
        self, connector: Connector, caller: ToolCaller, named: str | None
    ) -> Credential:
        """Return the credential of a call; one without a secret for a connector that needs none."""
        manifest = connector.manifest
        integration = self._integrations[manifest.integration]
        if manifest.needs_credential or named is not None:
            return self._resolver.resolve(
                caller.organization_id,
                integration=manifest.integration,
                name=named,
                is_free=True,
            )
        origin, base_path = parse_base_url(integration.base_url)
        return Credential(
            id="",
            name="",
            integration=manifest.integration,
            managed=False,
            origin=origin,
            base_path=base_path,
            headers=[],
            secret=b"",
        )


def note_failure(call: OutgoingCall, error: EgressError) -> None:
    """Note on the receipt of a request why it got no answer."""
    is_late = isinstance(error, TIMEOUT_ERRORS)
    kind = Kind.UPSTREAM_TIMEOUT if is_late else Kind.UPSTREAM
    code = "provider_timeout" if is_late else "provider_unreachable"
    call.fail(kind.value, code, was_sent=error.sent)


def describe_failure(error: EgressError, display_name: str) -> ToolError:
    """Return the error of an action whose request got no answer."""
    if isinstance(error, TIMEOUT_ERRORS):
        return ActionTimedOutError(f"{display_name} did not answer in time: {error}")
    return ServiceUnreachableError(f"{display_name} did not answer: {error}")


def build_request(
    credential: Credential,
    method: str,
    target: bytes,
    headers: Headers,
    body: bytes,
    *,
    timeout_seconds: float,
) -> Request:
    """Build the request of an action to the address of a credential."""
    assert method in METHODS, "an action names a method that the egress client knows"
    return Request(
        origin=credential.origin,
        method=method.encode(),
        target=target,
        headers=headers,
        body=body,
        timeouts=Timeouts(
            connect_seconds=min(CONNECT_SECONDS, timeout_seconds),
            first_byte_seconds=timeout_seconds,
            idle_seconds=timeout_seconds,
            total_seconds=timeout_seconds,
        ),
        purpose=credential.purpose,
    )


def build_target(base_path: bytes, path: str, query: Mapping[str, str]) -> bytes:
    """Return the target of a request: a path below the address of the credential, escaped."""
    assert path.startswith("/"), "an action names a path, not an address"
    target = base_path + urllib.parse.quote(path, safe="/%:@!$&'()*+,;=~").encode()
    return target + (b"?" + urllib.parse.urlencode(query).encode() if query else b"")


def build_headers(credential: Credential, headers: Mapping[str, str]) -> Headers:
    """Return the headers of a request. Those of the credential win; those of a connection, and such
    that carry other credentials, are left out."""
    own = {name for name, _ in credential.headers}
    given = [(name.lower().encode("latin-1"), value) for name, value in headers.items()]
    passed = [
        (name, value.encode("latin-1", "replace"))
        for name, value in given
        if name not in own and not DENIED.denies(name)
    ]
    return [(b"accept-encoding", b"identity"), *passed, *credential.headers]
