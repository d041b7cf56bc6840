from __future__ import annotations

import contextlib
import functools
import gzip
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any, cast

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.kit import decoding
from headgate.kit.decoding import Decoder

MEBIBYTE = 1 << 20
ZEROS = bytes(MEBIBYTE)


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def pack_brotli(data: bytes) -> bytes:
    return cast("Any", brotli).compress(data, quality=1)


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("Deflate", deflate_raw),
    "br": (" br ", pack_brotli),
    "zstd": ("zstd", zstd.compress),
}


@functools.cache
def build_bomb(name: str) -> bytes:
    """96 MiB of zeros."""
    return PACKERS[name][1](bytes(96 * MEBIBYTE))


def decode(
    coding: str,
    data: bytes,
    *,
    cut: int = 0,
    output_bytes_max: int = 8 * MEBIBYTE,
    ratio_max: int = 100,
) -> bytes:
    decoder = Decoder(coding, output_bytes_max=output_bytes_max, ratio_max=ratio_max)
    cut = cut or len(data) or 1
    output = b"".join(
        piece for at in range(0, len(data), cut) for piece in decoder.feed(data[at : at + cut])
    )
    decoder.finish()
    assert (decoder.input_bytes, decoder.output_bytes) == (len(data), len(output))
    return output


@pytest.mark.parametrize("name", PACKERS)
@settings(max_examples=40, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=120), st.binary(max_size=9)),
    cut=st.integers(1, 400),
    times=st.sampled_from([1, 8_000]),
)
def test_compressed_data_decodes_at_any_cut(name: str, data: bytes, cut: int, times: int) -> None:
    coding, pack = PACKERS[name]
    data *= times
    assert decode(coding, pack(data), cut=cut) == data


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_one_after_the_other_are_one_body(name: str) -> None:
    coding, pack = PACKERS[name]
    assert decode(coding, pack(b"one ") + pack(b"") + pack(b"two"), cut=7) == b"one two"
    with pytest.raises(decoding.CorruptEncodingError, match="64 members"):
        decode(coding, pack(b"x") * 65)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_truncated_or_trailing_bytes_are_corrupt(name: str, cut: int) -> None:
    coding, pack = PACKERS[name]
    whole = pack(b"some words, some words, some more words" * 9)
    for broken in (b"", whole[:1], whole[:-1], whole[: len(whole) // 2], whole + b"more"):
        with pytest.raises(decoding.CorruptEncodingError):
            decode(coding, broken, cut=cut)


@pytest.mark.parametrize("name", PACKERS)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80), flips=st.lists(st.integers(0, 10_000), max_size=3))
def test_no_bytes_raise_anything_else(name: str, data: bytes, flips: list[int]) -> None:
    coding, pack = PACKERS[name]
    packed = bytearray(pack(data))
    for flip in flips:
        packed[flip % len(packed)] ^= 1 << flip % 8
    for given_bytes in (data, bytes(packed)):
        with contextlib.suppress(decoding.DecodingError):
            decode(coding, given_bytes)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_bomb_is_refused_with_little_decoded_and_held(name: str) -> None:
    bomb = build_bomb(name)
    decoder = Decoder(name, output_bytes_max=64 * MEBIBYTE)
    tracemalloc.start()
    try:
        with pytest.raises(decoding.CompressionRatioError):
            sum(len(piece) for piece in decoder.feed(bomb))
        assert tracemalloc.get_traced_memory()[1] < MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_output_ends_at_its_limit_where_any_ratio_is_allowed(name: str) -> None:
    decoder = Decoder(name, output_bytes_max=3 * MEBIBYTE, ratio_max=1 << 40)
    sizes: list[int] = []
    with pytest.raises(decoding.OutputTooLargeError):
        sizes.extend(len(piece) for piece in decoder.feed(build_bomb(name)))
    assert max(sizes) < 2 * decoding.PIECE_BYTES_MAX
    assert 2 * MEBIBYTE < sum(sizes) <= 3 * MEBIBYTE


def test_short_body_may_have_any_ratio() -> None:
    assert decode("gzip", gzip.compress(ZEROS)) == ZEROS


def test_window_that_is_larger_than_http_allows_is_refused() -> None:
    packer = zstd.ZstdCompressor(options={int(zstd.CompressionParameter.window_log): 24})
    with pytest.raises(decoding.CorruptEncodingError):
        decode("zstd", packer.compress(b"x" * 100) + packer.flush())


@pytest.mark.parametrize(
    "coding", ["", "identity", "compress", "gzip, gzip", "br,gzip", "gzip;q=1"]
)
def test_other_codings_are_unknown(coding: str) -> None:
    with pytest.raises(decoding.UnknownEncodingError, match="gzip, deflate, br, zstd"):
        Decoder(coding, output_bytes_max=1)


def test_no_library_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, headgate.kit.decoding as d; d.Decoder('gzip', output_bytes_max=1);"
        "print([n for n in ('brotli', '_brotli', 'backports.zstd') if n in sys.modules])"
    )
    listing = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert listing.stdout == b"[]\n"


@pytest.mark.parametrize(("window_bits", "is_refused"), [(10, False), (22, False), (24, True)])
def test_brotli_may_not_ask_for_any_window(window_bits: int, is_refused: bool) -> None:
    body = cast("Any", brotli).compress(b"word " * 1000, lgwin=window_bits)
    decoder = Decoder("br", output_bytes_max=1 << 20)
    refused = pytest.raises(decoding.CorruptEncodingError, match="window")
    with refused if is_refused else contextlib.nullcontext():
        assert b"".join(decoder.feed(body)) == b"word " * 1000
