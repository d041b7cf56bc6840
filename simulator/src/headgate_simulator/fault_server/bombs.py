"""Compressed zeros: at most a mebibyte on the wire, a gibibyte when unpacked.

They are assembled from repeated parts, so that making one takes milliseconds and no library.
"""

from __future__ import annotations

import base64
import functools
import struct
import zlib

SIZE_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20
_ZEROS_CRC32 = 0x5B64C2B0
"""The checksum of `SIZE_BYTES` zeros."""
_BROTLI = (
    "eNo7//9/PYMKw6ONDkXv///8/5+/gcVBRqzh3V/7////M05g6DjMdGHv/+f//9szCDEURjDs+v7/z///"
    "7A5MCnzcDt//zQeqYvBgOJLI+OLe/8///8szcDZY6DDc/V3/7/9/ZgVGgXbWBdX/z0Mt2cBQMmrJqCVD"
    "0RJ7APFnrt4="
)
"""`SIZE_BYTES` zeros by brotli (quality 5, window 24), compressed once more by zlib."""


@functools.cache
def gzip() -> bytes:
    """Return RFC 1952: one deflated block repeated, byte-aligned by a full flush."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packer.compress(bytes(_BLOCK_BYTES))
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(_BLOCK_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    end = b"\x03\x00" + struct.pack("<II", _ZEROS_CRC32, SIZE_BYTES)
    return head + block * (SIZE_BYTES // _BLOCK_BYTES) + end


@functools.cache
def nested() -> bytes:
    """Return the gzip bomb compressed again: a few kilobytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(gzip()) + packer.flush()


@functools.cache
def zstd() -> bytes:
    """Return RFC 8878: one frame of RLE blocks, 128 KiB of zeros in four bytes each."""
    block_bytes = 128 * 1024
    blocks = SIZE_BYTES // block_bytes
    rle = (block_bytes << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (block_bytes << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    window = bytes([7 << 3])  # 2 ** (10 + 7) bytes
    return b"\x28\xb5\x2f\xfd\x00" + window + rle * (blocks - 1) + last


@functools.cache
def brotli() -> bytes:
    """Return RFC 7932: under a kilobyte."""
    return zlib.decompress(base64.b64decode(_BROTLI))
