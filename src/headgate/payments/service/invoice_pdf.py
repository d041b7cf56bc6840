"""Write invoices as PDF. This module is loaded at the first one, with the library for it (extra
`invoices`)."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import cast

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos

from headgate.kit.money import format_dollars
from headgate.payments.model.invoice import Invoice, Party, StoredInvoice

OWN_FONT = "invoice"
BUILT_IN_FONT = "Helvetica"
ENCODING = "cp1252"
"""What the built-in fonts of PDF can show."""
MARGIN = 18.0
AMOUNT_WIDTH = 38.0
CALLS_WIDTH = 24.0
LINE_HEIGHT = 5.5
GREY = 110
TITLES = {"payment": "Invoice", "month": "Invoice for usage", "credit_note": "Credit note"}


class InvoicePdf(FPDF):
    """Lay out one invoice in A4. `font` is a TrueType file for other scripts than Latin."""

    def __init__(self, number: str, font: Path | None) -> None:
        super().__init__(format="A4")
        self._number = number
        self._has_own_font = font is not None
        if font is not None:
            for style in ("", "B"):
                self.add_font(OWN_FONT, style, font)
        self.set_margin(MARGIN)
        self.set_auto_page_break(auto=True, margin=22)

    def write_text(
        self, text: str, *, size: float = 10, bold: bool = False, grey: bool = False
    ) -> None:
        """Set the font, and write a text over the whole width, which may have several lines."""
        self.choose(size, bold=bold, grey=grey)
        self.multi_cell(0, LINE_HEIGHT, self.clean(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def write_row(self, cells: tuple[str, str, str], *, bold: bool = False) -> None:
        """Write a row of description, number of calls and amount, on one page."""
        self.choose(9.5, bold=bold)
        width = self.epw - AMOUNT_WIDTH - CALLS_WIDTH
        description, calls, amount = map(self.clean, cells)
        measured = self.multi_cell(
            width, LINE_HEIGHT, description, dry_run=True, output=MethodReturnValue.HEIGHT
        )
        height = cast("float", measured)
        if self.will_page_break(height):
            self.add_page()
        top = self.get_y()
        self.multi_cell(
            width, LINE_HEIGHT, description, align="L", new_x=XPos.RIGHT, new_y=YPos.TOP
        )
        self.cell(CALLS_WIDTH, LINE_HEIGHT, calls, align="R")
        self.cell(AMOUNT_WIDTH, LINE_HEIGHT, amount, align="R")
        self.set_xy(self.l_margin, top + height)

    def draw_rule(self) -> None:
        self.ln(1.5)
        self.set_draw_color(180)
        self.line(self.l_margin, self.get_y(), self.w - self.r_margin, self.get_y())
        self.ln(1.5)

    def choose(self, size: float, *, bold: bool = False, grey: bool = False) -> None:
        family = OWN_FONT if self._has_own_font else BUILT_IN_FONT
        self.set_font(family, "B" if bold else "", size)
        self.set_text_color(GREY if grey else 0)

    def clean(self, text: str) -> str:
        """Return a text with a question mark for what the font cannot show."""
        if self._has_own_font:
            return text
        return text.encode(ENCODING, "replace").decode(ENCODING)

    def footer(self) -> None:
        self.set_y(-15)
        self.choose(8, grey=True)
        self.cell(0, 6, self.clean(f"{self._number}, page {self.page_no()} of {{nb}}"), align="C")


def render(stored: StoredInvoice, font: Path | None = None) -> bytes:
    """Return an invoice as PDF. The same invoice gives the same bytes, until it is paid."""
    invoice = stored.invoice
    issued = datetime.datetime.fromtimestamp(invoice.issued_at, datetime.UTC)
    pdf = InvoicePdf(invoice.number, font)
    pdf.set_creation_date(issued)
    pdf.set_title(f"{TITLES[invoice.kind]} {invoice.number}")
    pdf.set_author(invoice.issuer.name)
    pdf.set_lang("en")
    pdf.add_page()
    _write_head(pdf, stored, issued)
    _write_lines(pdf, invoice)
    _write_sums(pdf, stored)
    return bytes(pdf.output())


def _write_head(pdf: InvoicePdf, stored: StoredInvoice, issued: datetime.datetime) -> None:
    invoice = stored.invoice
    _write_party(pdf, invoice.issuer)
    pdf.ln(8)
    pdf.write_text("To", size=8.5, grey=True)
    _write_party(pdf, invoice.customer)
    pdf.ln(8)
    pdf.write_text(f"{TITLES[invoice.kind]} {invoice.number}", size=16, bold=True)
    pdf.ln(2)
    pdf.write_text(f"Date: {issued:%Y-%m-%d}")
    if invoice.month:
        pdf.write_text(f"Month: {invoice.month} (UTC)")
    if invoice.plan:
        pdf.write_text(f"Plan: {invoice.plan}")
    pdf.write_text(f"Currency: {invoice.currency.upper()}")
    pdf.write_text(f"Reference: {invoice.reference}")
    if stored.paid_at is not None and invoice.kind != "credit_note":
        paid = datetime.datetime.fromtimestamp(stored.paid_at, datetime.UTC)
        pdf.write_text(f"Paid: {paid:%Y-%m-%d}")
    pdf.ln(6)


def _write_party(pdf: InvoicePdf, party: Party) -> None:
    pdf.write_text(party.name, bold=True)
    if party.address:
        pdf.write_text(party.address)
    if party.tax_id:
        pdf.write_text(f"Tax id: {party.tax_id}")


def _write_lines(pdf: InvoicePdf, invoice: Invoice) -> None:
    has_calls = invoice.kind == "month"
    pdf.write_row(("Description", "Calls" if has_calls else "", "US dollars"), bold=True)
    pdf.draw_rule()
    for line in invoice.lines:
        calls = f"{line.calls:,}" if line.calls else ""
        pdf.write_row((line.description, calls, format_amount(line.amount_nano)))
    pdf.draw_rule()


def _write_sums(pdf: InvoicePdf, stored: StoredInvoice) -> None:
    invoice = stored.invoice
    pdf.write_row(("Total", "", format_amount(invoice.total_nano)), bold=True)
    if invoice.kind == "month":
        wallet = "Overage, paid from the wallet" if invoice.plan else "Paid from the wallet"
        due_nano = invoice.due_nano if stored.paid_at is None else 0
        pdf.write_row(("Paid by the credits of the plan", "", format_amount(invoice.credits_nano)))
        pdf.write_row((wallet, "", format_amount(invoice.wallet_nano - due_nano)))
        pdf.write_row(("Due", "", format_amount(due_nano)), bold=True)
    if invoice.note:
        pdf.ln(6)
        pdf.write_text(invoice.note, size=9, grey=True)


def format_amount(nano: int) -> str:
    """Format nano-dollars exactly, with thousands and at least two decimal places."""
    sign = "-" if nano < 0 else ""
    whole, _, places = format_dollars(abs(nano)).partition(".")
    return f"{sign}{int(whole):,}.{places[:2]}{places[2:].rstrip('0')}"
