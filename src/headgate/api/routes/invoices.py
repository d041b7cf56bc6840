"""The invoices of an organization."""

from __future__ import annotations

import asyncio

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty, FileBody
from headgate.api.schemas.invoices import (
    InvoicePage,
    InvoiceQuery,
    InvoiceResponse,
    to_invoice_response,
)
from headgate.payments.service.documents import name_file
from headgate.payments.service.invoices import get_invoice as find_invoice
from headgate.payments.service.invoices import list_invoices as select_invoices

OPERATIONS = Operations(
    "Invoices", "Invoices of payments and of each month's usage, and the credit notes."
)
READ = organization("invoices:read")


@OPERATIONS.both("GET", "/invoices", access=READ, summary="List invoices")
async def list_invoices(context: RequestContext[InvoiceQuery, Empty]) -> InvoicePage:
    """Return the invoices of payments and of months, and credit notes, newest first; with `kind`,
    only those."""
    context.principal.check_organization_wide()
    query = context.query
    found = await context.read(
        lambda connection: select_invoices(
            connection,
            context.organization_id,
            kind=query.kind,
            before=query.cursor,
            limit=query.limit,
        )
    )
    responses = [to_invoice_response(each) for each in found]
    return InvoicePage(responses, responses[-1].id if len(responses) == query.limit else None)


@OPERATIONS.both("GET", "/invoices/{invoice_id}", access=READ, summary="Read an invoice")
async def get_invoice(context: RequestContext[Empty, Empty]) -> InvoiceResponse:
    """Return an invoice of a payment or of a month, or a credit note."""
    context.principal.check_organization_wide()
    return to_invoice_response(
        await context.read(
            lambda connection: find_invoice(
                connection, context.organization_id, context.path["invoice_id"]
            )
        )
    )


@OPERATIONS.both("GET", "/invoices/{invoice_id}/pdf", access=READ, summary="Read an invoice as PDF")
async def get_invoice_pdf(context: RequestContext[Empty, Empty]) -> FileBody:
    """Return an invoice as a PDF file. 501 if the operator has not installed the extra
    `invoices`."""
    context.principal.check_organization_wide()
    stored = await context.read(
        lambda connection: find_invoice(
            connection, context.organization_id, context.path["invoice_id"]
        )
    )
    content = await asyncio.to_thread(context.services.render_invoice, stored)
    return FileBody(content, "application/pdf", name_file(stored))
