"""Request bodies that come compressed: decoded within bounds, unless the operator refuses them.

What is read is what is sent: the body goes on decompressed, without its Content-Encoding.
"""

from __future__ import annotations

import io

from headgate.gateway.exchange import RequestTooLargeError
from headgate.kit import decoding
from headgate.kit.errors import HeadgateError, Kind


class UnsupportedContentEncodingError(HeadgateError):
    kind = Kind.MEDIA_TYPE
    code = "unsupported_content_encoding"


class InvalidContentEncodingError(HeadgateError):
    kind = Kind.INVALID
    code = "invalid_content_encoding"


def check_coding(coding: str, *, accepted: bool) -> None:
    """Raises `UnsupportedContentEncodingError` for a coding that is not decoded here, or for
    any if none is.
    """
    if not accepted:
        raise UnsupportedContentEncodingError(
            "This address reads the body, which it cannot while it is compressed. Send it "
            "without Content-Encoding."
        )
    if coding not in decoding.CODINGS:
        known = ", ".join(decoding.CODINGS)
        raise UnsupportedContentEncodingError(
            f"A body is decompressed from one of {known}, and from one at a time. Send it in "
            "one of these, or without Content-Encoding."
        )


def decompress(body: bytes, coding: str, *, body_bytes_max: int, ratio_max: int) -> bytes:
    """The body as its sender meant it.

    Raises `RequestTooLargeError` and `InvalidContentEncodingError`.
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
