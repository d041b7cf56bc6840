"""The types of files that are accepted, how large each may be, and what bytes really are.

A file is served with the type that its bytes were checked against, never with one that somebody
only claimed. Scripts are no assets: a page of this installation could be made to load them.
"""

from __future__ import annotations

import re

import msgspec

from headgate.assets.model.errors import MediaTypeError

MEBIBYTE = 1024 * 1024
LARGE_BYTES_MAX = 5 * MEBIBYTE
"""Images and documents."""
FONT_BYTES_MAX = 2 * MEBIBYTE
OTHER_BYTES_MAX = MEBIBYTE
SNIFFED_BYTES = 1024
UNCLAIMED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Types that claim nothing."""
PLAIN = "text/plain"
SVG = "image/svg+xml"
ZIP = "application/zip"
_OFFICE = "application/vnd.openxmlformats-officedocument"
_SVG_ROOT = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<\?xml[^>]*>|<!--(?:(?!-->).)*-->|<!DOCTYPE\s+svg[^>]*>)*<svg[\s/>]",
    re.DOTALL | re.IGNORECASE,
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class MediaType(msgspec.Struct, frozen=True):
    """Describe an accepted type. The first extension is the usual one. `is_inline` is whether
    browsers may show it; everything else is downloaded. `is_text` is whether it is UTF-8."""

    name: str
    extensions: tuple[str, ...]
    bytes_max: int = LARGE_BYTES_MAX
    is_inline: bool = False
    is_text: bool = False


def _image(name: str, *extensions: str) -> MediaType:
    return MediaType(name, extensions, is_inline=True)


def _text(name: str, *extensions: str, bytes_max: int = LARGE_BYTES_MAX) -> MediaType:
    return MediaType(name, extensions, bytes_max, is_text=True)


ACCEPTED = {
    each.name: each
    for each in (
        _image("image/png", "png"),
        _image("image/jpeg", "jpg", "jpeg"),
        _image("image/gif", "gif"),
        _image("image/webp", "webp"),
        _image("image/avif", "avif"),
        _image("image/x-icon", "ico"),
        _text(SVG, "svg"),
        MediaType("application/pdf", ("pdf",)),
        MediaType(f"{_OFFICE}.wordprocessingml.document", ("docx",)),
        MediaType(f"{_OFFICE}.spreadsheetml.sheet", ("xlsx",)),
        MediaType(f"{_OFFICE}.presentationml.presentation", ("pptx",)),
        MediaType(PLAIN, ("txt",), is_inline=True, is_text=True),
        _text("text/markdown", "md"),
        _text("text/csv", "csv"),
        _text("text/html", "html", "htm"),
        _text("application/json", "json"),
        _text("application/xml", "xml"),
        MediaType("font/woff2", ("woff2",), FONT_BYTES_MAX),
        MediaType("font/woff", ("woff",), FONT_BYTES_MAX),
        MediaType("font/ttf", ("ttf",), FONT_BYTES_MAX),
        MediaType("font/otf", ("otf",), FONT_BYTES_MAX),
        _text("text/css", "css", bytes_max=OTHER_BYTES_MAX),
        MediaType("audio/mpeg", ("mp3",), OTHER_BYTES_MAX),
        MediaType("audio/wav", ("wav",), OTHER_BYTES_MAX),
        MediaType("audio/ogg", ("ogg",), OTHER_BYTES_MAX),
        MediaType("video/mp4", ("mp4",), OTHER_BYTES_MAX),
        MediaType("video/webm", ("webm",), OTHER_BYTES_MAX),
        MediaType(ZIP, ("zip",), OTHER_BYTES_MAX),
    )
}
BYTES_MAX = max(each.bytes_max for each in ACCEPTED.values())
BY_EXTENSION = {extension: each for each in ACCEPTED.values() for extension in each.extensions}
SYNONYMS = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/vnd.microsoft.icon": "image/x-icon",
    "text/xml": "application/xml",
    "text/json": "application/json",
    "text/x-markdown": "text/markdown",
    "application/csv": "text/csv",
    "application/font-woff": "font/woff",
    "application/font-woff2": "font/woff2",
    "application/x-font-ttf": "font/ttf",
    "application/x-font-otf": "font/otf",
    "application/x-zip-compressed": ZIP,
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
}
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (0, b"\x00\x00\x01\x00", "image/x-icon"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", ZIP),
    (0, b"wOF2", "font/woff2"),
    (0, b"wOFF", "font/woff"),
    (0, b"\x00\x01\x00\x00", "font/ttf"),
    (0, b"true", "font/ttf"),
    (0, b"OTTO", "font/otf"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (8, b"WAVE", "audio/wav"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
)
_OFFICE_FOLDERS = (
    (b"word/", BY_EXTENSION["docx"].name),
    (b"xl/", BY_EXTENSION["xlsx"].name),
    (b"ppt/", BY_EXTENSION["pptx"].name),
)


def normalize(claimed: str) -> str:
    """Return a claimed type without parameters, in the name used here; empty for none."""
    name = claimed.partition(";")[0].strip().lower()
    return "" if name in UNCLAIMED else SYNONYMS.get(name, name)


def find_by_name(file_name: str) -> str:
    """Return the type that the extension of a name claims; empty for none that is known."""
    _, dot, extension = file_name.rpartition(".")
    known = BY_EXTENSION.get(extension.lower()) if dot else None
    return known.name if known else ""


def sniff(content: bytes) -> str | None:
    """Return the type that the first bytes show: of text `text/plain` or SVG. None for bytes that
    are neither known nor text."""
    for offset, magic, name in _MAGIC:
        if content.startswith(magic, offset):
            is_text_too = name == "font/ttf" and magic == b"true" and is_text(content)
            if not is_text_too:
                return _sniff_zip(content) if name == ZIP else name
    if not is_text(content):
        return None
    return SVG if _SVG_ROOT.match(content[:SNIFFED_BYTES]) else PLAIN


def _sniff_zip(content: bytes) -> str:
    if b"[Content_Types].xml" in content:
        for folder, name in _OFFICE_FOLDERS:
            if folder in content:
                return name
    return ZIP


def is_text(content: bytes) -> bool:
    """Return whether content is UTF-8 without control characters."""
    if _CONTROL.search(content):
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def choose_type(content: bytes, claims: tuple[tuple[str, str], ...]) -> MediaType:
    """Return the type of content, which every claim has to agree with. A claim is a type and who
    makes it, for the message.

    Raise `MediaTypeError`.
    """
    found = sniff(content)
    if found is None:
        raise MediaTypeError(
            f"The content is of no known type. {describe_accepted()}", param="content"
        )
    for claimed, claimant in claims:
        if claimed and claimed not in ACCEPTED:
            raise MediaTypeError(
                f"{claimant} says {claimed[:80]!r}, which is not accepted. {describe_accepted()}",
                param="media_type",
            )
        if claimed and not _agrees(claimed, found):
            raise MediaTypeError(
                f"{claimant} says {claimed}, but the content is {_describe(found)}.",
                param="media_type",
            )
    named = next((claimed for claimed, _ in claims if claimed), found)
    return ACCEPTED[named if ACCEPTED[found].is_text else found]


def read_header(content_type: str, content: bytes) -> str:
    """Return what the header of a server claims; nothing where it is right about the kind of
    content, such as `image`: servers are often wrong about the rest."""
    claimed = normalize(content_type)
    found = sniff(content) or ""
    is_right = claimed.partition("/")[0] == found.partition("/")[0] and found not in (PLAIN, SVG)
    return "" if is_right else claimed


def _agrees(claimed: str, found: str) -> bool:
    if claimed == found:
        return True
    # All that is known of text is that it is text.
    return found in (PLAIN, SVG) and ACCEPTED[claimed].is_text and claimed != SVG


def _describe(found: str) -> str:
    extension = ACCEPTED[found].extensions[0]
    return "text" if found == PLAIN else f"{found} (.{extension})"


def describe_accepted() -> str:
    extensions = ", ".join(each.extensions[0] for each in ACCEPTED.values())
    return f"Accepted are {extensions}."
