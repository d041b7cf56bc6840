"""Invoices as PDF say what their JSON says."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pypdf
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from msgspec.structs import replace

from headgate.payments.model.invoice import Invoice, InvoiceLine, Party, StoredInvoice
from headgate.payments.service.documents import PdfNotInstalledError, name_file, render_pdf
from headgate.payments.service.invoice_pdf import format_amount

ISSUED = 1_801_440_600.0
NANO = 10**9

PAYMENT = Invoice(
    id="inv_1",
    organization_id="org_1",
    number="INV-000007",
    kind="payment",
    reference="pay_1",
    currency="usd",
    total_nano=25 * NANO,
    issued_at=ISSUED,
    issuer=Party("Headgate GmbH", "Hafenstraße 1\n20457 Hamburg", "DE123456789"),
    customer=Party("Acme Inc.", "1 Main Street\nSpringfield", "US-42"),
    lines=(InvoiceLine(description="Payment into the prepaid wallet", amount_nano=25 * NANO),),
    note="Payment pay_1",
)


def make_month(lines: int) -> Invoice:
    made = tuple(
        InvoiceLine(
            description=f"model-{number:03d}, project Search",
            amount_nano=NANO + number,
            project_id="prj_1",
            model=f"model-{number:03d}",
            calls=1_000 + number,
        )
        for number in range(lines)
    )
    return replace(
        PAYMENT,
        kind="month",
        reference="month:org_1:2026-12",
        month="2026-12",
        plan="Pro",
        lines=made,
        total_nano=sum(each.amount_nano for each in made),
        credits_nano=20 * NANO,
        due_nano=5 * NANO,
        note="Usage of 2026-12 (UTC)",
    )


def read(stored: StoredInvoice) -> tuple[int, str]:
    """Return the number of pages and the text of all of them."""
    reader = pypdf.PdfReader(io.BytesIO(render_pdf(stored)))
    return len(reader.pages), "\n".join(page.extract_text() for page in reader.pages)


def test_an_invoice_of_a_payment_has_what_its_json_has() -> None:
    pages, text = read(StoredInvoice(PAYMENT, ISSUED))
    assert pages == 1
    for part in (
        *("Invoice INV-000007", "Headgate GmbH", "Hafenstraße 1", "20457 Hamburg"),
        *("Tax id: DE123456789", "Acme Inc.", "Springfield", "Date: 2027-02-01"),
        *("Paid: 2027-02-01", "Payment into the prepaid wallet", "25.00", "Currency: USD"),
        "page 1 of 1",
    ):
        assert part in text


def test_a_long_invoice_of_a_month_has_every_line_and_its_sums() -> None:
    invoice = make_month(120)
    pages, text = read(StoredInvoice(invoice, None))
    assert pages > 2
    for line in invoice.lines:
        assert line.description in text
        assert format_amount(line.amount_nano) in text
        assert f"{line.calls:,}" in text
    assert f"page {pages} of {pages}" in text
    for part in (
        *("Month: 2026-12 (UTC)", "Plan: Pro", format_amount(invoice.total_nano)),
        *("Paid by the credits of the plan", "20.00", "Overage, paid from the wallet"),
        *(format_amount(invoice.wallet_nano - 5 * NANO), "Due", "5.00"),
    ):
        assert part in text
    _, paid = read(StoredInvoice(invoice, ISSUED))
    assert format_amount(invoice.wallet_nano) in paid


def test_a_credit_note_names_itself_and_is_negative() -> None:
    line = InvoiceLine(description="Credit for invoice INV-000007", amount_nano=-10 * NANO)
    note = replace(PAYMENT, kind="credit_note", lines=(line,), total_nano=-10 * NANO)
    _, text = read(StoredInvoice(note, ISSUED))
    assert "Credit note INV-000007" in text
    assert "-10.00" in text
    assert "Paid:" not in text


def test_the_same_invoice_gives_the_same_bytes() -> None:
    stored = StoredInvoice(make_month(3), ISSUED)
    assert render_pdf(stored) == render_pdf(stored)


def test_what_the_font_does_not_have_is_a_question_mark() -> None:
    customer = Party("株式会社 Acme", "Česká 1\x07")
    _, text = read(StoredInvoice(replace(PAYMENT, customer=customer), ISSUED))
    assert "???? Acme" in text


def test_amounts_are_exact() -> None:
    assert format_amount(1) == "0.000000001"
    assert format_amount(1_234_567 * NANO + NANO // 2) == "1,234,567.50"
    assert format_amount(-NANO) == "-1.00"
    assert format_amount(0) == "0.00"


def test_the_file_has_the_name_of_the_number() -> None:
    stored = StoredInvoice(replace(PAYMENT, number="2026/7-000001"), None)
    assert name_file(stored) == "2026-7-000001.pdf"


def make_font(path: Path, characters: str) -> None:
    """Write a font with empty glyphs for some characters."""
    names = {ord(each): f"uni{ord(each):04X}" for each in characters}
    order = [".notdef", *names.values()]
    builder: Any = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf({name: TTGlyphPen(None).glyph() for name in order})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (500, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Tiny", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)


def test_another_font_shows_other_scripts(tmp_path: Path) -> None:
    font = tmp_path / "tiny.ttf"
    make_font(font, "".join(map(chr, range(32, 127))) + "株式会社ß")
    customer = Party("株式会社 Acme")
    stored = StoredInvoice(replace(PAYMENT, customer=customer), None)
    reader = pypdf.PdfReader(io.BytesIO(render_pdf(stored, font)))
    assert "株式会社 Acme" in reader.pages[0].extract_text()


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headgate.payments.service.invoice_pdf")
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(PdfNotInstalledError, match=r"pip install 'headgate\[invoices\]'"):
        render_pdf(StoredInvoice(PAYMENT, None))
