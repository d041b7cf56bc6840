"""Serve clients of VM-X: the prefix of their addresses, and the envelope in their requests.

What their answers have beside the provider's own is in `gateway.vmx_answers`.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from typing import Protocol

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.message import Headers
from headgate.llm.endpoint import CHAT_COMPLETIONS, MESSAGES, RESPONSES
from headgate.llm.request import JsonRequest
from headgate.llm.vmx import (
    EMPTY,
    NAME,
    Envelope,
    InvalidEnvelopeError,
    check_metadata,
    parse_envelope,
    read_correlation_id,
)
from headgate.llm.vmx_names import to_own_names
from headgate.relay.call import Call
from headgate.relay.ports import Grant
from headgate.relay.targets import RouteOptions

PREFIX = b"/completion/"
"""The beginning of a path below `/v1` that names a workspace and an environment."""
PREFIX_BYTES = len(PREFIX)
METADATA_PREFIX = b"x-vmx-metadata-"
SURFACES = frozenset({CHAT_COMPLETIONS, RESPONSES, MESSAGES})
"""Endpoints whose bodies may have arguments for the provider, and whose answers have `vmx`."""
PASSING_HEADERS = frozenset(
    {
        b"anthropic-beta",
        b"anthropic-version",
        b"content-encoding",
        b"content-type",
        b"idempotency-key",
        b"openai-beta",
        b"openai-organization",
        b"openai-project",
        b"x-client-request-id",
        b"x-goog-user-project",
    }
)
"""Headers of a client that reach the provider of a call below the prefix: those of VM-X, and those
that describe the body."""
_PATH = re.compile(rb"/completion/([^/]+)/([^/]+)(?:/anthropic(?=/))?(?:/v1(?=/))?(/.*)", re.DOTALL)


class WorkspaceNotFoundError(HeadgateError):
    """The address names no workspace and environment that the key may use.

    Use `/v1/completion/{workspace}/{environment}` with the id or name of the key's organization,
    and of its project.
    """

    kind = Kind.MISSING
    code = "workspace_not_found"


class Workspaces(Protocol):
    """Find projects by what addresses call them, from memory."""

    def find(self, grant: Grant, workspace: str, environment: str) -> str | None:
        """Return the project that a workspace and an environment name, among those that the key may
        use; None for any other."""
        ...


class NoWorkspaces:
    """Know ids only (`Workspaces`)."""

    def find(self, grant: Grant, workspace: str, environment: str) -> str | None:
        is_own = workspace == grant.organization_id
        return environment if is_own and environment in list_projects(grant) else None


NO_WORKSPACES: Workspaces = NoWorkspaces()


def list_projects(grant: Grant) -> tuple[str, ...]:
    """Return the projects that the key may use, its own first."""
    return (grant.project_id, *grant.projects)


def enter_workspace(path: bytes, grant: Grant, workspaces: Workspaces) -> tuple[bytes, Grant]:
    """Return what a path with the prefix means below `/v1`, and the grant for the project that it
    names. Raise `WorkspaceNotFoundError`."""
    match = _PATH.fullmatch(path)
    if match is not None:
        workspace, environment = (urllib.parse.unquote(match[n].decode("latin-1")) for n in (1, 2))
        project_id = workspaces.find(grant, workspace, environment)
        if project_id is not None:
            if project_id != grant.project_id:
                grant = msgspec.structs.replace(grant, project_id=project_id)
            return match[3], grant
    raise WorkspaceNotFoundError(
        "The address must be /v1/completion/{workspace}/{environment}/..., with the id or name of "
        "this key's organization, and the id or name of a project that the key may use.",
        should_retry=False,
    )


def keep_passing_headers(headers: Headers) -> Headers:
    """Return the headers that reach the provider of a call below the prefix."""
    return [each for each in headers if each[0] in PASSING_HEADERS]


def add_correlation_id(envelope: Envelope | None, value: str) -> Envelope:
    """Return the envelope with the header `x-vmx-correlation-id`. Raise `InvalidEnvelopeError`."""
    return msgspec.structs.replace(envelope or EMPTY, correlation_id=read_correlation_id(value))


def add_metadata(envelope: Envelope | None, name: bytes, value: bytes) -> Envelope:
    """Return the envelope with the pair of a header `x-vmx-metadata-<key>`."""
    envelope = envelope or EMPTY
    key = name[len(METADATA_PREFIX) :].decode("latin-1")
    pair = {key: value.decode("utf-8", "replace")}
    return msgspec.structs.replace(envelope, metadata={**envelope.metadata, **pair})


def add_envelope(call: Call, headers: Envelope | None, *, needs_resource: bool) -> None:
    """Read the envelope of a call's body over that of its headers, and put into the call what it
    says. A call with neither stays as it is. `needs_resource` says that its `model` must be a
    resource, a target or a known model.

    Raise `InvalidEnvelopeError`.
    """
    envelope = headers
    raw = None
    if isinstance(call.body, JsonRequest) and call.body.has_envelopes:
        raw = call.body.fields.get(NAME)
    if raw is not None and bytes(raw) != b"null":
        envelope = parse_envelope(bytes(raw), headers or EMPTY)
    if envelope is None:
        return
    if envelope.provider_args and call.endpoint.name not in SURFACES:
        raise InvalidEnvelopeError(
            "Invalid 'vmx.providerArgs': only chat completions, responses and messages take them. "
            "Put the fields into the body.",
            param="vmx.providerArgs",
            should_retry=False,
        )
    call.envelope = envelope
    call.correlation_id = envelope.correlation_id or call.correlation_id
    call.deadline_seconds = envelope.timeout_seconds
    call.route_options = make_route_options(envelope, is_required=needs_resource)
    if envelope.metadata:
        call.metadata = merge_metadata(call.metadata, envelope.metadata)


def make_route_options(envelope: Envelope, *, is_required: bool) -> RouteOptions | None:
    """Return what an envelope asks of the route of its call; None where it asks nothing."""
    index, overrides = envelope.secondary_model_index, envelope.resource_overrides
    if index is None and overrides is None and not is_required:
        return None
    return RouteOptions(index, None if overrides is None else to_own_names(overrides), is_required)


def merge_metadata(stated: str, metadata: Mapping[str, str]) -> str:
    """Return the metadata of a receipt: the pairs of `x-headgate-metadata`, and over them those of
    the envelope. Raise `InvalidEnvelopeError`."""
    pairs: dict[str, str] = msgspec.json.decode(stated) if stated else {}
    pairs |= metadata
    check_metadata(pairs)
    return msgspec.json.encode(pairs).decode()
