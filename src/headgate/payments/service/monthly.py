"""Invoice what the managed calls of an organization cost in a calendar month.

A month is invoiced once it is over and all of its calls are settled, so that its receipts do not
change any more: what is corrected later is part of the month in which it is corrected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from headgate.accounts.service import AccountService
from headgate.audit.model import Actor
from headgate.billing.model.budgets import end_of_month, next_month, start_of_month
from headgate.billing.service import wallet
from headgate.billing.service.plans import find_plan
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.metering.model import ManagedUsage
from headgate.metering.store import receipts
from headgate.payments.model.invoice import InvoiceLine, StoredInvoice
from headgate.payments.model.month import MonthNotClosedError, check_month, find_closed_month
from headgate.payments.service.invoices import InvoiceDraft, InvoiceService
from headgate.payments.store import invoices as store

DAY_SECONDS = 86_400.0
CATCH_UP_MAX = 24
"""So many months at most are invoiced after a server did not run."""


class MonthlyInvoices:
    """Draft and issue the invoices of months. The caller commits."""

    def __init__(
        self,
        clock: Clock,
        accounts: AccountService,
        invoices: InvoiceService,
        *,
        retention_days: int,
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._invoices = invoices
        self._retention_days = retention_days

    def find_due_months(self, connection: sa.Connection) -> list[str]:
        """Return the months whose invoices are not all issued, oldest first. The first one is that
        before the first run: older months are issued by hand."""
        last = find_closed_month(self._clock.now())
        done = store.find_last_month(connection)
        if done is None:
            return [last]
        months: list[str] = []
        while done < last:
            done = next_month(done)
            months.append(done)
        return months[-CATCH_UP_MAX:]

    def draft(
        self, connection: sa.Connection, organization_id: str, month: str
    ) -> InvoiceDraft | None:
        """Return what an invoice says of a month; None where no managed call cost anything.

        It only reads, since a closed month does not change. Raise `InvalidMonthError`,
        `MonthNotClosedError` and `AccountNotFoundError`.
        """
        since, until = start_of_month(check_month(month)), end_of_month(month)
        if month > find_closed_month(self._clock.now()):
            raise MonthNotClosedError(
                f"{month} is invoiced 10 minutes after its end, in UTC.", param="month"
            )
        if wallet.has_open_calls(connection, organization_id, before=until):
            raise MonthNotClosedError(f"Calls of {month} are not settled yet.", param="month")
        organization = self._accounts.get_organization(connection, organization_id)
        usages = receipts.sum_managed(connection, organization_id, since=since, until=until)
        if since < self._find_oldest_receipt():
            usages = [*usages, *_find_deleted(connection, organization_id, usages, since, until)]
        usages = [each for each in usages if each.calls or each.cost_nano]
        if not any(each.cost_nano for each in usages):
            return None
        plan = find_plan(connection, organization_id, until - 1)
        return InvoiceDraft(
            organization_id=organization_id,
            organization_name=organization.name,
            kind="month",
            reference=name_reference(organization_id, month),
            lines=tuple(self._make_line(connection, organization_id, each) for each in usages),
            month=month,
            plan="" if plan is None else plan.name,
            credits_nano=sum(each.credit_nano for each in usages),
            note=f"Usage of {month} (UTC)",
        )

    def issue(self, connection: sa.Connection, draft: InvoiceDraft, *, by: Actor) -> StoredInvoice:
        """Issue the invoice of a month, once."""
        return self._invoices.issue(connection, draft, by=by)

    def find_missing(self, connection: sa.Connection, month: str) -> list[str]:
        """Return the organizations with a wallet that have no invoice of a month."""
        known = store.select_references(connection, ending=f":{month}")
        owners = wallet.list_owners(connection)
        return [each for each in owners if name_reference(each, month) not in known]

    def complete(self, connection: sa.Connection, month: str) -> None:
        """Note that all invoices of a month are issued."""
        store.insert_month(connection, month, at=self._clock.now())

    def _find_oldest_receipt(self) -> float:
        """Return the time before which receipts may be deleted; 0 where they are kept."""
        days = self._retention_days
        return self._clock.now() - days * DAY_SECONDS if days else 0.0

    def _make_line(
        self, connection: sa.Connection, organization_id: str, usage: ManagedUsage
    ) -> InvoiceLine:
        if not usage.project_id:
            description = "Calls whose receipts are not kept any more"
            return InvoiceLine(description=description, amount_nano=usage.cost_nano)
        project = self._find_name(connection, organization_id, usage.project_id)
        subject = usage.model or "calls without a model"
        if usage.is_correction:
            subject = f"Corrections of earlier calls: {subject}"
        return InvoiceLine(
            description=f"{subject}, project {project}",
            amount_nano=usage.cost_nano,
            project_id=usage.project_id,
            project=project,
            provider=usage.provider,
            model=usage.model,
            calls=0 if usage.is_correction else usage.calls,
        )

    def _find_name(self, connection: sa.Connection, organization_id: str, project_id: str) -> str:
        try:
            return self._accounts.get_project(connection, organization_id, project_id).name
        except HeadgateError:
            return project_id


def name_reference(organization_id: str, month: str) -> str:
    """Return what makes the invoice of a month unique."""
    return f"month:{organization_id}:{month}"


def _find_deleted(
    connection: sa.Connection,
    organization_id: str,
    usages: Sequence[ManagedUsage],
    since: float,
    until: float,
) -> Iterator[ManagedUsage]:
    """Return what calls were billed beside their receipts, by the ledger, which keeps all."""
    billed, credit = wallet.sum_billed(connection, organization_id, since=since, until=until)
    cost_nano = billed - sum(each.cost_nano for each in usages)
    credit_nano = credit - sum(each.credit_nano for each in usages)
    if cost_nano or credit_nano:
        yield ManagedUsage("", "", "", False, 0, cost_nano, credit_nano)
