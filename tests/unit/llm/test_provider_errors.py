from __future__ import annotations

import pytest

from headgate.llm.provider_errors import (
    ErrorCategory,
    classify,
    parse_duration,
    parse_reset,
    parse_retry_after,
)


@pytest.mark.parametrize(
    ("status", "code", "category"),
    [
        (429, "rate_limit_exceeded", ErrorCategory.RATE),
        (429, "", ErrorCategory.RATE),
        (429, "insufficient_quota", ErrorCategory.QUOTA),
        (400, "billing_hard_limit_reached", ErrorCategory.QUOTA),
        (402, "", ErrorCategory.QUOTA),
        (401, "invalid_api_key", ErrorCategory.AUTH),
        (403, "", ErrorCategory.AUTH),
        (400, "invalid_value", ErrorCategory.CLIENT),
        (404, "model_not_found", ErrorCategory.CLIENT),
        (409, "", ErrorCategory.CLIENT),
        (408, "", ErrorCategory.SERVER),
        (500, "", ErrorCategory.SERVER),
        (529, "overloaded", ErrorCategory.SERVER),
    ],
)
def test_refusal_is_judged_by_status_and_code(
    status: int, code: str, category: ErrorCategory
) -> None:
    fault = classify(status, b'{"error":{"message":"m","type":"t","code":"%b"}}' % code.encode())
    assert (fault.category, fault.code, fault.type, fault.message) == (category, code, "t", "m")


def test_quota_error_is_recognized_by_type() -> None:
    assert classify(429, b'{"error":{"type":"insufficient_quota"}}').category is ErrorCategory.QUOTA


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"no"}', "no"),
        (b'{"message":"no"}', "no"),
        (b'{"detail":"no"}', "no"),
        (b'[{"error":{"message":"no"}}]', "no"),
        (b'{"error":{"message":7}}', "7"),
        (b'{"error":{"message":[]}}', ""),
        (b"<html>no</html>", ""),
        (b"\xff", ""),
        (b"", ""),
        (b"[]", ""),
        (b"null", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_error_of_any_shape_is_read_leniently(body: bytes, message: str) -> None:
    assert classify(500, body).message == message


def test_long_message_is_cut() -> None:
    assert len(classify(500, b'{"error":"%b"}' % (b"x" * 10_000)).message) == 2000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([(b"retry-after", b"7")], 7.0),
        ([(b"retry-after", b" 1.5 ")], 1.5),
        ([(b"retry-after", b"3600")], 3600.0),
        ([(b"retry-after-ms", b"250"), (b"retry-after", b"7")], 0.25),
        ([(b"retry-after-ms", b"x"), (b"retry-after", b"7")], 7.0),
        ([(b"retry-after", b"Sun, 06 Nov 1994 08:49:37 GMT")], 37.0),
        ([(b"retry-after", b"Sun, 06 Nov 1994 08:48:37 GMT")], 0.0),
        ([(b"retry-after", b"Sun, 99 Nov 1994 08:49:37 GMT")], None),
        ([(b"retry-after", b"Sun, 06 Nix 1994 08:49:37 GMT")], None),
        *(
            ([(b"retry-after", value)], None)
            for value in (b"", b"soon", b"-5", b"nan", b"inf", b"1e9", b"1_0", b"9" * 30, b"\xb2")
        ),
        ([], None),
    ],
)
def test_retry_after_is_read_in_every_form(
    headers: list[tuple[bytes, bytes]], seconds: float | None
) -> None:
    assert parse_retry_after(headers, now=784_111_740.0) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360), ("1m30s", 90), ("120ms", 0.12), ("1h2m3s", 3723), ("1.5s", 1.5), ("0s", 0),
        ("2d1h", 176400), ("1s250ms", 1.25), ("17.5ms", 0.0175), ("5m", 300),
        *((text, None) for text in ("", "s", "5", "-1s", "1s1m", "1x", "s5", "1.5m", "9" * 20)),
    ],
)  # fmt: skip
def test_compound_durations_are_read(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_longer_of_both_resets_counts() -> None:
    headers = [(b"x-ratelimit-reset-requests", b"120ms"), (b"x-ratelimit-reset-tokens", b"6m0s")]
    assert parse_reset(headers) == 360
    assert parse_reset([*headers[:1], (b"x-ratelimit-reset-tokens", b"?")]) == pytest.approx(0.12)
    assert parse_reset([]) is None
