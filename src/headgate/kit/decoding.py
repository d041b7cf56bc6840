"""Decode the content coding of a body piece by piece, with limits on output, ratio and memory.

Compressed bytes are a stranger's program for our memory: 800 bytes of brotli can say a gibibyte.
So nothing is decoded before somebody takes it, and what is taken is counted.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

PIECE_BYTES_MAX = 64 * 1024
"""Approximate size of a decoded piece; brotli rounds it up to 96 KiB."""
FREE_RATIO_BYTES = 1 << 20
"""The ratio is not limited up to this size: short bodies compress well and do no harm."""
MEMBERS_MAX = 64
"""Limit for the members of a gzip or zstd body, which may be concatenated."""
ZSTD_WINDOW_BITS_MAX = 23
"""8 MiB, what RFC 9659 allows in HTTP. Deflate's own bound is 32 KiB."""
BROTLI_WINDOW_BITS_MAX = 22
"""4 MiB, what its encoders choose by themselves; the format goes up to 16 MiB."""

_SLICE_BYTES = 16 * 1024
_ZLIB_BITS, _GZIP_BITS, _RAW_BITS = 15, 31, -15
_ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_MEMBER_CODINGS = frozenset({"gzip", "zstd"})


class DecodingError(Exception):
    """Report a body that cannot be decoded; the message says why."""


class UnknownEncodingError(DecodingError):
    """Report a coding without a decoder, or several codings on top of each other."""


class CorruptEncodingError(DecodingError):
    """Report bytes that are not of the coding, end early, or go on after their end."""


class OutputTooLargeError(DecodingError):
    """Report that the decoded body would be larger than allowed."""


class CompressionRatioError(DecodingError):
    """Report a decoded body so much larger than the input that it is taken for a bomb."""


class _Stage(Protocol):
    """Describe what the standard library's decompressors share (`bz2`, `lzma`, `zstd`)."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Deflated:
    """Decompress zlib and raw deflate.

    The first byte of a body of coding deflate tells whether it has zlib's header: not every sender
    adds it.
    """

    def __init__(self, bits: int | None) -> None:
        self._inner = zlib.decompressobj(bits) if bits is not None else None
        self._tail = b""
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._inner is None:
            self._inner = zlib.decompressobj(_ZLIB_BITS if data[0] & 0x8F == 8 else _RAW_BITS)
        output = self._inner.decompress(self._tail or data, max_length)
        self._tail = self._inner.unconsumed_tail
        self.needs_input = len(output) < max_length and not self._tail
        self.eof = self._inner.eof
        self.unused_data = self._inner.unused_data
        return output


class _Brotli:
    """Decompress brotli; bytes after its end are refused by the library."""

    unused_data = b""

    def __init__(self) -> None:
        self._inner = importlib.import_module("brotli").Decompressor()
        self._begun = False
        self.needs_input = True
        self.eof = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if not self._begun:
            self._begun = True
            if read_brotli_window_bits(data[0]) > BROTLI_WINDOW_BITS_MAX:
                raise CorruptEncodingError("The brotli data asks for a window of more than 4 MiB.")
        output: bytes = self._inner.process(data, output_buffer_limit=max_length)
        self.eof = self._inner.is_finished()
        # It also says that it accepts more while output is left.
        self.needs_input = len(output) < max_length and self._inner.can_accept_more_data()
        return output


def read_brotli_window_bits(first: int) -> int:
    """Return the window size that the first byte of a body announces, if it is a large one. RFC
    7932, 9.1: a set lowest bit followed by three bits that are not all zero means 18 to 24."""
    larger = first >> 1 & 7
    return 17 + larger if first & 1 else 16


def _open_zstd() -> _Stage:
    library: Any = importlib.import_module(_ZSTD_MODULE)
    window = library.DecompressionParameter.window_log_max
    return library.ZstdDecompressor(options={window: ZSTD_WINDOW_BITS_MAX})


_STAGES: dict[str, Callable[[], _Stage]] = {
    "gzip": lambda: _Deflated(_GZIP_BITS),
    "deflate": lambda: _Deflated(None),
    "br": _Brotli,
    "zstd": _open_zstd,
}
_ALIASES = {"x-gzip": "gzip"}
CODINGS = (*_STAGES, *_ALIASES)


class Decoder:
    """Decode one body of one coding: `feed` it what arrives, `finish` at the end.

    Hold at most 16 KiB of input, one piece of output, and the coding's window. `ratio_max` is
    decoded bytes per byte fed, and counts from `FREE_RATIO_BYTES` on. `coding` is the value of
    Content-Encoding, in any case. Raise `UnknownEncodingError`.
    """

    def __init__(self, coding: str, *, output_bytes_max: int, ratio_max: int = 100) -> None:
        name = coding.strip(" \t").lower()
        name = _ALIASES.get(name, name)
        if name not in _STAGES:
            raise UnknownEncodingError(_describe_unknown(name))
        self._coding = name
        self._open = _STAGES[name]
        self._stage = self._open()
        self._members = 1
        self._output_bytes_max = output_bytes_max
        self._ratio_max = ratio_max
        self.input_bytes = 0
        self.output_bytes = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decoded pieces of `data`; the caller must take all of them.

        Raise `CorruptEncodingError`, `OutputTooLargeError` or `CompressionRatioError`; the decoder
        is unusable afterwards.
        """
        view = memoryview(data)
        for start in range(0, len(view), _SLICE_BYTES):
            yield from self._expand(bytes(view[start : start + _SLICE_BYTES]))

    def finish(self) -> None:
        """Check that the body is complete. Raise `CorruptEncodingError` if something is missing."""
        if not self._stage.eof:
            raise CorruptEncodingError(f"The {self._coding} data ends in the middle.")

    def _expand(self, data: bytes) -> Iterator[bytes]:
        self.input_bytes += len(data)
        while data or not (self._stage.eof or self._stage.needs_input):
            if self._stage.eof:
                self._begin_member()
            piece = self._decompress(data)
            data = self._stage.unused_data if self._stage.eof else b""
            if piece:
                self._count(len(piece))
                yield piece

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._stage.decompress(data, PIECE_BYTES_MAX)
        except (MemoryError, DecodingError):
            raise
        # Each library has its own error, and brotli and zstd may never have been imported.
        except Exception as error:
            raise CorruptEncodingError(f"The data is not valid {self._coding}.") from error

    def _begin_member(self) -> None:
        if self._coding not in _MEMBER_CODINGS:
            raise CorruptEncodingError(f"There are bytes after the end of the {self._coding} data.")
        if self._members >= MEMBERS_MAX:
            raise CorruptEncodingError(
                f"The {self._coding} data has more than {MEMBERS_MAX} members."
            )
        self._members += 1
        self._stage = self._open()

    def _count(self, size: int) -> None:
        self.output_bytes += size
        if self.output_bytes > self._output_bytes_max:
            raise OutputTooLargeError(f"Decoded it is larger than {self._output_bytes_max} bytes.")
        if self.output_bytes > max(FREE_RATIO_BYTES, self.input_bytes * self._ratio_max):
            raise CompressionRatioError(
                f"Decoded it is more than {self._ratio_max} times its size."
            )


def _describe_unknown(name: str) -> str:
    known = ", ".join(_STAGES)
    if "," in name:
        return f"Only one coding at a time is decoded ({known}), and this body has several."
    return f"This coding is not known; known are {known}."
