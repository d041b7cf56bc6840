"""The bounds of decoding, to the byte, and the words of its refusals."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any, cast

import brotli
import pytest
from backports import zstd

from headgate.kit import decoding
from headgate.kit.decoding import Decoder

KNOWN = "gzip, deflate, br, zstd"


def decode(coding: str, data: bytes, *, output_bytes_max: int = 4 << 20, **bounds: int) -> bytes:
    decoder = Decoder(coding, output_bytes_max=output_bytes_max, **bounds)
    output = b"".join(decoder.feed(data))
    decoder.finish()
    return output


def deflate_raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def pack_brotli(data: bytes, **settings: int) -> bytes:
    return cast("Any", brotli).compress(data, **settings)


def assert_broken(coding: str, data: bytes, message: str) -> None:
    with pytest.raises(decoding.CorruptEncodingError) as broken:
        decode(coding, data)
    assert str(broken.value) == message


def test_output_may_be_as_large_as_allowed_and_not_a_byte_larger() -> None:
    packed = gzip.compress(b"some words " * 100)
    assert len(decode("gzip", packed, output_bytes_max=1100)) == 1100
    with pytest.raises(decoding.OutputTooLargeError) as refused:
        decode("gzip", packed, output_bytes_max=1099)
    assert str(refused.value) == "Decoded it is larger than 1099 bytes."


def test_ratio_is_a_hundred_unless_told_otherwise() -> None:
    body = random.Random(0).randbytes(12_000) + bytes(1_466_000)
    packed = zlib.compress(body)
    assert 100 < len(body) / len(packed) < 101
    assert decode("deflate", packed, ratio_max=101) == body
    with pytest.raises(decoding.CompressionRatioError) as refused:
        decode("deflate", packed)
    assert str(refused.value) == "Decoded it is more than 100 times its size."


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_sixty_four_members_are_a_body_and_one_more_is_not(pack: Any) -> None:
    coding = "gzip" if pack is gzip.compress else "zstd"
    assert decode(coding, pack(b"x") * 64) == b"x" * 64
    assert_broken(coding, pack(b"x") * 65, f"The {coding} data has more than 64 members.")


@pytest.mark.parametrize("extra", range(0, 300, 13))
def test_output_that_fills_a_piece_leaves_nothing_behind(extra: int) -> None:
    body = bytes(decoding.PIECE_BYTES_MAX + extra)
    for coding, packed in (
        ("deflate", deflate_raw(body)),
        ("gzip", gzip.compress(body)),
        ("br", pack_brotli(body)),
        ("zstd", zstd.compress(body)),
    ):
        assert decode(coding, packed) == body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_nothing_at_all_is_no_body_of_a_coding(coding: str) -> None:
    assert_broken(coding, b"", f"The {coding} data ends in the middle.")


def test_decoding_error_says_what_is_wrong() -> None:
    assert_broken("gzip", b"not gzip at all", "The data is not valid gzip.")
    message = "There are bytes after the end of the deflate data."
    assert_broken("deflate", zlib.compress(b"x") + b"more", message)
    message = "The brotli data asks for a window of more than 4 MiB."
    assert_broken("br", pack_brotli(b"word " * 1000, lgwin=24), message)


@pytest.mark.parametrize(
    ("first", "bits"),
    [
        *((0b0000, 16), (0b1110, 16), (0b0010, 16), (0b0011, 18), (0b0101, 19), (0b1001, 21)),
        *((0b1011, 22), (0b1101, 23), (0b1111, 24), (0b1111_0101, 19)),
    ],
)
def test_first_byte_of_brotli_announces_its_window(first: int, bits: int) -> None:
    assert decoding.read_brotli_window_bits(first) == bits


@pytest.mark.parametrize("coding", ["GZip", " gzip", "gzip\t", "X-Gzip"])
def test_coding_is_read_in_any_case_and_without_blanks_around(coding: str) -> None:
    assert decode(coding, gzip.compress(b"x")) == b"x"


@pytest.mark.parametrize("coding", ["gzip\n", "gzip\r", "\x0bgzip", "XXgzip"])
def test_other_signs_around_a_coding_make_another_of_it(coding: str) -> None:
    with pytest.raises(decoding.UnknownEncodingError) as unknown:
        Decoder(coding, output_bytes_max=1)
    assert str(unknown.value) == f"This coding is not known; known are {KNOWN}."


def test_several_codings_are_told_from_an_unknown_one() -> None:
    with pytest.raises(decoding.UnknownEncodingError) as unknown:
        Decoder("gzip,br", output_bytes_max=1)
    assert str(unknown.value) == (
        f"Only one coding at a time is decoded ({KNOWN}), and this body has several."
    )
