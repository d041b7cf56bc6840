"""Estimate what a PDF is for a model: the text of its pages, and a picture of each.

No page is rendered and no font is read. Pages are counted by their objects, and characters by the
strings that content streams show, so the estimate holds for fonts of any encoding, and a page that
is one scanned picture has no text.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterator

import msgspec

PAGE_SIZE = (1_024, 1_325)
"""The size of the picture of a page, in pixels: a sheet at 125 dots an inch."""
INFLATED_BYTES_MAX = 16 << 20
"""The streams of a document are searched up to so many bytes together."""
STREAMS_MAX = 10_000
PAGES_MAX = 10_000
TEXTS_MAX = 200_000
SEARCHED_BYTES = 65_536
"""How much is searched for strings at once, so that other threads get their turn."""

_STREAM = re.compile(rb"stream\r?\n")
_PAGE = re.compile(rb"/Type\s{0,4}/Page(?![A-Za-z])")
_COUNT = re.compile(rb"/Count\s{1,4}(\d{1,5})")
# Possessive, so that no garbled text makes a search go back.
_STRINGS = re.compile(rb"\(((?:[^()\\]++|\\.)*+)\)|<([0-9A-Fa-f\s]*+)>", re.DOTALL)
_ESCAPES = re.compile(rb"\\(?:[0-7]{1,3}|.)", re.DOTALL)


class DocumentSize(msgspec.Struct, frozen=True):
    pages: int
    characters: int


def measure_document(data: bytes) -> DocumentSize:
    """Return the pages and the characters of a PDF, at least one page."""
    streams = list(_inflate(data))
    pages = sum(len(_PAGE.findall(each)) for each in (data, *streams))
    stated = max((int(each) for each in _COUNT.findall(data)), default=0)
    texts = itertools.chain.from_iterable(map(_find_texts, streams))
    characters = sum(map(_count_characters, itertools.islice(texts, TEXTS_MAX)))
    return DocumentSize(min(max(pages or stated, 1), PAGES_MAX), characters)


def _inflate(data: bytes) -> Iterator[bytes]:
    """Yield the streams of a document, as far as they are text or deflated."""
    left = INFLATED_BYTES_MAX
    start = 0
    for _ in range(STREAMS_MAX):
        found = _STREAM.search(data, start)
        if found is None or left <= 0:
            return
        end = data.find(b"endstream", found.end())
        end = len(data) if end < 0 else end
        start = end + len(b"endstream")
        raw = data[found.end() : end]
        try:
            stream = zlib.decompressobj().decompress(raw, left)
        except zlib.error:
            stream = raw[:left]
        left -= len(stream)
        yield stream


def _find_texts(stream: bytes) -> Iterator[bytes]:
    """Yield what stands between `BT` and `ET`, in pieces."""
    start = stream.find(b"BT")
    while start >= 0:
        end = stream.find(b"ET", start)
        if end < 0:
            return
        for piece in range(start, end, SEARCHED_BYTES):
            yield stream[piece : min(end, piece + SEARCHED_BYTES)]
        start = stream.find(b"BT", end)


def _count_characters(shown: bytes) -> int:
    """Return the characters of the strings between `BT` and `ET`. Those in hexadecimal digits have
    two bytes for a character, as composite fonts do."""
    total = 0
    for plain, hexadecimal in _STRINGS.findall(shown):
        total += len(_ESCAPES.sub(b".", plain)) if plain else -(-len(hexadecimal) // 4)
    return total
