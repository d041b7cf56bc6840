"""Load what writes invoices as PDF when the first one is wanted."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from headgate.kit.errors import HeadgateError, Kind
from headgate.payments.model.invoice import StoredInvoice


class PdfNotInstalledError(HeadgateError):
    """Invoices as PDF need an optional package that is not installed.

    Install `headgate[invoices]`, or read the invoice as JSON.
    """

    kind = Kind.UNSUPPORTED
    code = "extra_missing"


def render_pdf(stored: StoredInvoice, font: Path | None = None) -> bytes:
    """Return an invoice as PDF. `font` is a TrueType file for other scripts than Latin. It blocks:
    call it in a thread. Raise `PdfNotInstalledError`."""
    try:
        invoice_pdf: Any = importlib.import_module("headgate.payments.service.invoice_pdf")
    except ModuleNotFoundError as error:
        message = "PDF is not installed; add it: pip install 'headgate[invoices]'. Or read JSON."
        raise PdfNotInstalledError(message) from error
    return invoice_pdf.render(stored, font)


def name_file(stored: StoredInvoice) -> str:
    """Return the name of an invoice's file."""
    return f"{stored.invoice.number.replace('/', '-')}.pdf"
