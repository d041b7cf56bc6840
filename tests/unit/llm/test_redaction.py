"""A provider's key is removed from responses, however it is spelled and cut into chunks."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.llm.redaction import (
    SECRET_BYTES_MIN,
    StreamRedactor,
    is_secret,
    list_spellings,
    redact,
    redact_error,
    redact_text,
)

KEY = b"sk-proj-0123456789abcdefghijklmn"
ODD = b"pa\"ss\\wo/rd<&>'+%=12345"
printable = (
    st.binary(min_size=SECRET_BYTES_MIN, max_size=40)
    .map(lambda text: bytes(0x21 + (byte + 7 * at) % 94 for at, byte in enumerate(text)))
    .filter(is_secret)
)
fragments = st.lists(st.integers(0, 10), max_size=30)


def spell(secret: bytes) -> list[bytes]:
    text = secret.decode()
    whole = json.dumps(text)[1:-1]
    return [
        secret,
        whole.encode(),
        whole.replace("/", "\\/").encode(),
        urllib.parse.quote(text, safe="").encode(),
    ]


def run(redactor: StreamRedactor, chunks: list[bytes]) -> bytes:
    """Feed the redactor as a stream does: only the chunks that it needs."""
    out = b""
    for chunk in chunks:
        if redactor.needle in chunk or chunk[-1:] > b" ":
            out += redactor.feed(chunk)
        else:
            out += chunk
    return out + redactor.close()


@pytest.mark.parametrize("secret", [KEY, ODD])
def test_key_is_removed_in_every_spelling(secret: bytes) -> None:
    for form in spell(secret):
        assert redact(b'{"a":"%b"}' % form, secret) == b'{"a":"[removed]"}'
        assert form not in run(StreamRedactor(secret), [b"data: " + form + b"\n\n"])


@pytest.mark.parametrize("secret", [KEY, ODD])
@pytest.mark.parametrize("before", [b"", b"x", b"xy", b"xyz", b"Bearer "])
def test_key_in_base64_is_removed_from_an_error(secret: bytes, before: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        said = b'{"error":"%b"}' % encode(before + secret + b"z")
        left = redact_error(said, secret)
        assert b"[removed]" in left
        assert encode(secret)[4:-4] not in left


@pytest.mark.parametrize("secret", [KEY, ODD])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"s", b"sk-proj-", b"pa"])
def test_key_is_removed_from_a_stream_cut_anywhere(secret: bytes, end: bytes) -> None:
    for form in list_spellings(secret):
        whole = b'data: {"a":"' + form + form + b'"}' + end
        for first in range(len(whole) + 1):
            for second in {first, first + 1, min(first + 9, len(whole)), len(whole)}:
                cut = [whole[:first], whole[first:second], whole[second:]]
                out = run(StreamRedactor(secret), cut)
                assert form not in out
                assert len(out) == len(whole)
                assert out.endswith(end)


@given(printable, st.lists(st.binary(max_size=20)), st.data())
def test_stream_is_the_same_but_for_the_key_however_it_is_cut(
    secret: bytes, noise: list[bytes], data: st.DataObject
) -> None:
    pieces = [piece for each in noise for piece in (each, secret[: len(each) % len(secret)])]
    pieces.insert(len(pieces) // 2, secret)
    whole = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    out = run(StreamRedactor(secret), chunks)
    assert secret not in out
    assert len(out) == len(whole)
    if len(list_spellings(secret)) == 1:
        assert out == run(StreamRedactor(secret), [whole])


@given(printable, st.lists(st.binary(max_size=40)))
def test_stream_without_the_key_is_left_as_it_is(secret: bytes, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    if not any(form in whole for form in list_spellings(secret)):
        assert run(StreamRedactor(secret), chunks) == whole
        assert redact(whole, secret) == whole


def test_only_a_possible_beginning_of_the_key_is_held_back() -> None:
    redactor = StreamRedactor(KEY)
    assert redactor.feed(b"a sk-pro") == b"a "
    assert redactor.feed(b"mise") == b"sk-promise"
    assert redactor.feed(KEY[:-1]) == b""
    assert redactor.feed(b"!") == KEY[:-1] + b"!"
    assert redactor.close() == b""


WORDS = [
    b"lm-studio", b"password", b"local", b"sk-no-key-required", b"sk-1234567890123",
    b"dummy-key-for-the-local-model", b"Not.A.Key/at_all:of:any.kind", b"sk-" + b"1" * 40,
    b"x" * 64, b"abababababababababababababab",
]  # fmt: skip
SECRETS = [
    KEY,
    b"0123456789abcdef0123456789abcdef",
    b"sk-or-v1-9f8e7d6c5b4a",
    b"qkzhvbnwtrplxmcdfgsjyeoaiu",
    b"kLmNoPqRsTuV-wXyZaBcDeFgH",
    b"AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    b"my-local-model-key-7f3a9c",
]


@pytest.mark.parametrize("word", WORDS)
def test_key_that_looks_like_a_word_is_not_cut_out_of_answers(word: bytes) -> None:
    text = b"It says: %b, and nothing else" % word
    chunks = [text[at : at + 1] for at in range(len(text))]
    assert redact(text, word) == text == redact_error(text, word)
    assert run(StreamRedactor(word), chunks) == text


@pytest.mark.parametrize("secret", SECRETS)
def test_key_that_nobody_would_write_by_chance_is_cut_out(secret: bytes) -> None:
    assert redact(b"It says: %b" % secret, secret) == b"It says: [removed]"


def test_key_that_looks_like_a_word_is_not_recorded() -> None:
    assert redact_text("bad key lm-studio", b"lm-studio") == "bad key [removed]"
    assert redact_text("a local model", b"local") == "a local model"
