"""The invoices of an organization."""

from __future__ import annotations

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.invoices import InvoicePage, InvoiceResponse, to_invoice_response
from headgate.api.schemas.wallet import IdCursorQuery
from headgate.payments.service.invoices import get_invoice as find_invoice
from headgate.payments.service.invoices import list_invoices as select_invoices

OPERATIONS = Operations("Invoices", "Invoices of payments, and the credit notes that correct them.")


@OPERATIONS.get("/api/invoices", access=organization("invoices:read"), summary="List invoices")
async def list_invoices(context: RequestContext[IdCursorQuery, Empty]) -> InvoicePage:
    """Return the invoices and credit notes of the organization, newest first."""
    context.principal.check_organization_wide()
    query = context.query
    found = await context.read(
        lambda connection: select_invoices(
            connection, context.organization_id, before=query.cursor, limit=query.limit
        )
    )
    responses = [to_invoice_response(each) for each in found]
    return InvoicePage(responses, responses[-1].id if len(responses) == query.limit else None)


@OPERATIONS.get(
    "/api/invoices/{invoice_id}", access=organization("invoices:read"), summary="Read an invoice"
)
async def get_invoice(context: RequestContext[Empty, Empty]) -> InvoiceResponse:
    """Return an invoice of a payment, or a credit note."""
    context.principal.check_organization_wide()
    return to_invoice_response(
        await context.read(
            lambda connection: find_invoice(
                connection, context.organization_id, context.path["invoice_id"]
            )
        )
    )
