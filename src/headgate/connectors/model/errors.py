"""The errors of connectors and tools, and how they are described to programs."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.connectors.model.tool import ErrorObject
from headgate.kit.errors import HeadgateError, Kind


class ToolError(HeadgateError):
    """Run no tool: a subclass says why.

    Follow `recovery`.
    """

    recovery: str | None = None
    """What to do next, in words that a model can follow."""


class UnknownIntegrationError(ToolError):
    """There is no integration of this name, or it has no actions.

    List the integrations, and use one of their names.
    """

    kind = Kind.MISSING
    code = "integration_not_found"


class UnknownActionError(ToolError):
    """The integration has no action of this name; the message names those that it has.

    Use one of them.
    """

    kind = Kind.MISSING
    code = "endpoint_not_found"


class NotConfiguredError(ToolError):
    """The integration has no credential in this organization.

    Call `setup_integration` with its secrets, or ask somebody who may.
    """

    kind = Kind.CONFLICT
    code = "integration_not_configured"


class InvalidInputError(ToolError):
    """A field of the input is missing, has a wrong type, or is out of its limits.

    Correct the field that the message names; the schema of the action has all of them.
    """

    kind = Kind.INVALID
    code = "invalid_input"


class ToolForbiddenError(ToolError):
    """The key or the connected application may not use this tool.

    Use a key whose scopes include it, or connect the application again with more access.
    """

    kind = Kind.FORBIDDEN
    code = "tool_forbidden"


class ActionTimedOutError(ToolError):
    """The action took longer than its time-out.

    Give it more time, or ask for less. What the provider charged is on the receipt.
    """

    kind = Kind.UPSTREAM_TIMEOUT
    code = "action_timed_out"


class ProviderRefusedError(ToolError):
    """The provider answered with an error, which the message repeats.

    Correct what it names. `status` and `data` have its answer.
    """

    kind = Kind.UPSTREAM
    code = "provider_error"
    headers: Mapping[str, str] = {}
    """Those of the answer, of a raw request."""

    def __init__(
        self, message: str, *, status: int, data: object = None, param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.data = data


class CallRefusedError(ToolError):
    """The gateway itself refused the model call of an action: a budget, a limit or a scope.

    Do what the message says. Kind and code are those of the same refusal below `/v1`.
    """

    kind = Kind.FORBIDDEN
    code = "call_refused"

    def __init__(self, message: str, *, kind: Kind, code: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.kind = kind
        self.code = code or self.code


class NoModelsError(ToolError):
    """This process calls no models, so that no action can.

    Call the server that answers below `/v1`.
    """

    kind = Kind.UNAVAILABLE
    code = "models_unavailable"


class AnswerTooLargeError(ToolError):
    """The answer to the call of an action is larger than what is held in memory.

    Ask for less, or call the address below `/v1`, which passes answers of any size on.
    """

    kind = Kind.UPSTREAM
    code = "answer_too_large"


class CallBrokenError(ToolError):
    """The call of an action was cut before it had an answer: its key was revoked, or the server is
    stopping.

    Call it again, with a key that is valid. What the provider charged is on the receipt.
    """

    kind = Kind.UNAVAILABLE
    code = "call_broken"


RECOVERY_BY_KIND = {
    Kind.INVALID: "Correct the input and call the tool again.",
    Kind.UNPROCESSABLE: "Correct the input and call the tool again.",
    Kind.UNAUTHENTICATED: "Send a key or a token that is valid; ask its owner for one.",
    Kind.UNPAID: "Do not try again. Ask for less, or tell the owner of the key.",
    Kind.FORBIDDEN: "This key may not do it; do not try again. Ask its owner for access.",
    Kind.MISSING: "Check the name; list what there is.",
    Kind.CONFLICT: "Look at what is there now, then decide whether to call again.",
    Kind.TOO_LARGE: "Send less, or hand content over by its address or as a handle.",
    Kind.LIMITED: "Wait, then try again.",
    Kind.FAULT: "Try again later. If it fails again, tell the user what the message says.",
    Kind.UNSUPPORTED: "Do not try again; use another tool.",
    Kind.UPSTREAM: "The service behind it failed. What was asked for may be done: check, if it "
    "matters, before you call again.",
    Kind.UNAVAILABLE: "Wait a moment, then try again.",
    Kind.UPSTREAM_TIMEOUT: "What was asked for may be done: check, if it matters, before you call "
    "again. Ask for less, or give it more time.",
}
CORRECT_REQUEST = "Correct the request as the message says."
"""What to do about the kinds of errors that no tool has, such as a wrong method."""


def describe_error(error: HeadgateError) -> ErrorObject:
    """Return an error as programs see it, in REST envelopes and in results of tools."""
    recovery: str | None = getattr(error, "recovery", None)
    return ErrorObject(
        type=error.kind.name.lower(),
        code=error.code,
        message=error.message,
        field=error.param,
        recovery=recovery or RECOVERY_BY_KIND.get(error.kind, CORRECT_REQUEST),
    )
