"""Read receipts with everything that explains their amounts."""

from __future__ import annotations

import functools

import msgspec
import sqlalchemy as sa

from headgate.billing.model.receipts import ReceiptDetails, find_corrected, name_transactions
from headgate.billing.model.recomputation import recompute
from headgate.billing.service.price_versions import PriceVersions
from headgate.billing.service.recomputation import RecomputedReceipts, recompute_some
from headgate.billing.service.reconciliation import CORRECTIONS_MAX
from headgate.billing.store import receipts as store
from headgate.catalog.service.prices import PriceService
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.page_cursor import PageCursor
from headgate.metering import store as metering
from headgate.metering.model.receipt_filter import ReceiptFilter, ReceiptList
from headgate.metering.store import receipt_list
from headgate.relay.ports import Receipt


class ReceiptNotFoundError(HeadgateError):
    """There is no receipt of this id that the key may see, or it was deleted by age.

    Use the id in the header `x-headgate-request-id` of the answer, or list the receipts.
    """

    kind = Kind.MISSING
    code = "receipt_not_found"


class ReceiptService:
    """Find receipts. `ReceiptFilter` says which of them the reader may see."""

    def __init__(self, prices: PriceService) -> None:
        self._versions = PriceVersions(prices)

    def list(
        self,
        connection: sa.Connection,
        filters: ReceiptFilter,
        *,
        after: PageCursor | None,
        limit: int,
    ) -> ReceiptList:
        """Return a page of receipts, newest first."""
        return receipt_list.list_page(connection, filters, after=after, limit=limit)

    def get(self, connection: sa.Connection, visible: ReceiptFilter, name: str) -> ReceiptDetails:
        """Return the receipt of a call, with its details.

        `name` is its request id; or another id of the call, then the newest receipt with it among
        the newest `SCANNED_MAX` of the organization. Raise `ReceiptNotFoundError`.
        """
        receipt = metering.find(connection, name)
        if receipt is None or not is_visible(receipt, visible):
            named = msgspec.structs.replace(visible, name=name)
            found = receipt_list.list_page(connection, named, after=None, limit=1).receipts
            if not found:
                raise ReceiptNotFoundError(f"There is no receipt {name[:200]!r}.")
            receipt = found[0]
        return self._describe(connection, receipt)

    def recompute(
        self,
        connection: sa.Connection,
        filters: ReceiptFilter,
        *,
        after: PageCursor | None,
        limit: int,
    ) -> RecomputedReceipts:
        """Recompute receipts of an organization and a range of time, oldest first."""
        return recompute_some(connection, self._versions, filters, after=after, rows_max=limit)

    def _describe(self, connection: sa.Connection, receipt: Receipt) -> ReceiptDetails:
        corrections: tuple[Receipt, ...] = ()
        if find_corrected(receipt) is None:
            corrections = list_corrections(connection, receipt.request_id)
            names = name_transactions(receipt.request_id, [each.request_id for each in corrections])
        else:
            names = name_transactions("", [receipt.request_id])
        hold = store.find_hold(connection, receipt.request_id)
        find_price = functools.partial(self._versions.find, connection)
        return ReceiptDetails(
            receipt,
            recompute(receipt, find_price, lambda _: hold.amount_nano if hold else None),
            hold,
            tuple(store.select_entries(connection, names)),
            corrections,
        )


def is_visible(receipt: Receipt, visible: ReceiptFilter) -> bool:
    """Return whether a reader may see a receipt: one of its organization, projects and key."""
    return (
        receipt.organization_id == visible.organization_id
        and (not visible.projects or receipt.project_id in visible.projects)
        and visible.key_id in (None, receipt.key_id)
    )


def list_corrections(connection: sa.Connection, request_id: str) -> tuple[Receipt, ...]:
    """Return the receipts that correct a call, oldest first."""
    found: list[Receipt] = []
    for number in range(1, CORRECTIONS_MAX + 1):
        correction = metering.find(connection, f"{request_id}.c{number}")
        if correction is None:
            break
        found.append(correction)
    return tuple(found)
