"""Events of billing for the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headgate.llm.usage import Usage
from headgate.relay.ports import BackgroundReceipt


class UsageThresholdReached(msgspec.Struct, frozen=True):
    """Announce, once in a month, that a part of a budget is used. Amounts are nano-dollars."""

    type: ClassVar[str] = "usage.threshold_reached"

    organization_id: str
    scope: str
    scope_id: str
    month: str
    threshold: int
    limit_nano: int
    used_nano: int
    managed_only: bool
    request_id: str
    """The call whose settlement reached it."""

    @property
    def id(self) -> str:
        return f"{self.type}:{self.scope}:{self.scope_id}:{self.month}:{self.threshold}"


TOPICS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.cancelled",
}
"""The events of a response by its last status; of any other, `response.failed`."""


class ResponseEnded(msgspec.Struct, frozen=True):
    """Announce that a response in the background has ended and was settled.

    `status` is the provider's, or `unknown` where nobody knows the end. `request_id` is the call
    that created the response, and names its receipt. Amounts are nano-dollars.
    """

    response_id: str
    status: str
    request_id: str
    organization_id: str
    project_id: str
    key_id: str
    managed: bool
    model: str | None
    outcome: str
    error_code: str | None
    usage: Usage | None
    pricing: str
    estimated: bool
    cost_nano: int
    metadata: str

    @classmethod
    def of(cls, receipt: BackgroundReceipt) -> ResponseEnded:
        return cls(
            response_id=receipt.work.response_id,
            status=receipt.work.status,
            request_id=receipt.request_id,
            organization_id=receipt.organization_id,
            project_id=receipt.project_id,
            key_id=receipt.key_id,
            managed=receipt.managed,
            model=receipt.model_served or receipt.model_requested,
            outcome=receipt.outcome,
            error_code=receipt.error_code,
            usage=receipt.usage,
            pricing=receipt.pricing,
            estimated=receipt.estimated,
            cost_nano=receipt.cost_nano,
            metadata=receipt.metadata,
        )

    @property
    def type(self) -> str:
        return TOPICS.get(self.status, "response.failed")
