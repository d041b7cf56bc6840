"""What bytes are, and what may be claimed about them."""

from __future__ import annotations

import pytest

from headgate.assets.model.asset import make_slug
from headgate.assets.model.errors import MediaTypeError
from headgate.assets.model.media_type import ACCEPTED, choose_type, read_header, sniff

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
SVG = b'<?xml version="1.0"?>\n<!-- a <svg> -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
DOCX = b"PK\x03\x04\x14\0[Content_Types].xml word/document.xml"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
        (b"GIF89a\1\0", "image/gif"),
        (WEBP, "image/webp"),
        (b"\0\0\0\x1cftypavif\0\0", "image/avif"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"wOF2\0\1", "font/woff2"),
        (b"\0\1\0\0\0\x10", "font/ttf"),
        (b"true", "text/plain"),
        (b"true\0\x10", "font/ttf"),
        (
            DOCX,
            ACCEPTED[
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
            ].name,
        ),
        (b"PK\x03\x04 a.txt", "application/zip"),
        (SVG, "image/svg+xml"),
        ("\ufeff<svg/>".encode(), "image/svg+xml"),
        (b"<!-- -->" * 127 + b"<svh>", "text/plain"),
        (b"<p><svg></svg></p>", "text/plain"),
        ("\ufeff <SVG >".encode(), "image/svg+xml"),
        ("héllo\n".encode(), "text/plain"),
        (b"<script>alert(1)</script>", "text/plain"),
        (b"h\xe9llo", None),
        (b"a\0b", None),
        (b"MZ\x90\0", None),
        (b"\x7fELF\2\1", None),
    ],
)
def test_bytes_tell_what_they_are(content: bytes, found: str | None) -> None:
    assert sniff(content) == found


@pytest.mark.parametrize(
    ("content", "claimed", "chosen"),
    [
        (PNG, "image/png", "image/png"),
        (PNG, "", "image/png"),
        (SVG, "", "image/svg+xml"),
        (SVG, "text/plain", "text/plain"),
        (SVG, "image/svg+xml", "image/svg+xml"),
        (b"# Title", "text/markdown", "text/markdown"),
        (b"{}", "application/json", "application/json"),
        (b"<p>", "text/html", "text/html"),
        (PNG, "image/jpeg", None),
        (PNG, "image/svg+xml", None),
        (PNG, "text/plain", None),
        (b"<p>", "image/png", None),
        (b"<p>", "image/svg+xml", None),
        (b"let a", "text/javascript", None),
        (b"\0", "", None),
        (b"\0", "image/png", None),
    ],
)
def test_claim_has_to_agree_with_the_bytes(
    content: bytes, claimed: str, chosen: str | None
) -> None:
    claims = ((claimed, "media_type"),)
    if chosen is None:
        with pytest.raises(MediaTypeError):
            choose_type(content, claims)
    else:
        assert choose_type(content, claims).name == chosen


@pytest.mark.parametrize(
    ("header", "content", "claimed"),
    [
        ("image/jpeg; q=1", PNG, ""),
        ("application/octet-stream", PNG, ""),
        ("text/html", PNG, "text/html"),
        ("text/html; charset=utf-8", b"<p>", "text/html"),
        ("image/png", b"<p>no such picture", "image/png"),
    ],
)
def test_header_of_a_server_is_believed_about_the_kind_of_content_only(
    header: str, content: bytes, claimed: str
) -> None:
    assert read_header(header, content) == claimed


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Größe 1.PNG", "Groe-1.PNG"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("写真", ""),
        ("x" * 200 + ".png", "x" * 124 + ".png"),
    ],
)
def test_slug_is_made_of_any_name(name: str, slug: str) -> None:
    assert make_slug(name) == slug
