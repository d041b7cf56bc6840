"""Decompress request bodies within bounds, unless the operator refuses compressed ones.

The provider gets the same bytes that were checked: the decompressed body without Content-Encoding.
"""

from __future__ import annotations

import io

from headgate.gateway.exchange import RequestTooLargeError
from headgate.kit import decoding
from headgate.kit.errors import HeadgateError, Kind


class UnsupportedContentEncodingError(HeadgateError):
    """The request body is compressed in a way that this address does not read.

    Send it in one of the encodings that the message names, or without `Content-Encoding`.
    """

    kind = Kind.MEDIA_TYPE
    code = "unsupported_content_encoding"


class InvalidContentEncodingError(HeadgateError):
    """The request body cannot be decompressed.

    Check that the body is what `Content-Encoding` says.
    """

    kind = Kind.INVALID
    code = "invalid_content_encoding"


def check_coding(coding: str, *, accepted: bool) -> None:
    """Raise `UnsupportedContentEncodingError` unless the coding is supported and accepted."""
    if not accepted:
        raise UnsupportedContentEncodingError(
            "This endpoint does not accept compressed request bodies. Send the body without "
            "Content-Encoding."
        )
    if coding not in decoding.CODINGS:
        known = ", ".join(decoding.CODINGS)
        raise UnsupportedContentEncodingError(
            f"A request body may be compressed with one of {known}, and with one at a time. Send "
            "it in one of these, or without Content-Encoding."
        )


def decompress(body: bytes, coding: str, *, body_bytes_max: int, ratio_max: int) -> bytes:
    """Return the decompressed body.

    Raise `RequestTooLargeError` and `InvalidContentEncodingError`.
    """
    decoder = decoding.Decoder(coding, output_bytes_max=body_bytes_max, ratio_max=ratio_max)
    decoded = io.BytesIO()
    try:
        for piece in decoder.feed(body):
            decoded.write(piece)
        decoder.finish()
    except (decoding.OutputTooLargeError, decoding.CompressionRatioError) as error:
        raise RequestTooLargeError(f"The request body is too large. {error}") from None
    except decoding.DecodingError as error:
        raise InvalidContentEncodingError(
            f"The request body cannot be decompressed. {error}"
        ) from None
    return decoded.getvalue()
