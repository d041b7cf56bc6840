"""Background jobs of payments."""

from __future__ import annotations

import structlog

from headgate.audit.model import SYSTEM
from headgate.payments.model.month import MonthNotClosedError
from headgate.payments.service.checkout import Storage
from headgate.payments.service.invoices import InvoiceService
from headgate.payments.service.monthly import MonthlyInvoices

TOP_UP_SECONDS = 5.0
"""How often wallets are compared with the thresholds of their automatic top-ups."""
INVOICE_SECONDS = 300.0
"""How often invoices are issued that are due."""

log = structlog.get_logger(__name__)


class InvoiceJob:
    """Issue the invoices of months that are over, and note which ones were paid later."""

    def __init__(
        self, storage: Storage, invoices: InvoiceService, monthly: MonthlyInvoices
    ) -> None:
        self._storage = storage
        self._invoices = invoices
        self._monthly = monthly

    async def run(self) -> None:
        for month in await self._storage.read(self._monthly.find_due_months):
            if not await self._issue(month):
                break
            await self._storage.write(lambda c, month=month: self._monthly.complete(c, month))
        if await self._storage.read(self._invoices.has_owed):
            await self._storage.write(self._invoices.mark_owed_paid)

    async def _issue(self, month: str) -> bool:
        """Issue all invoices of a month. Return whether none has to wait for open calls."""
        monthly, storage = self._monthly, self._storage
        is_whole = True
        for organization_id in await storage.read(lambda c: monthly.find_missing(c, month)):
            try:
                draft = await storage.read(
                    lambda c, owner=organization_id: monthly.draft(c, owner, month)
                )
            except MonthNotClosedError as error:
                log.info("payments.invoice_waits", organization=organization_id, why=error.message)
                is_whole = False
                continue
            if draft is not None:
                await storage.write(lambda c, draft=draft: monthly.issue(c, draft, by=SYSTEM))
        return is_whole
