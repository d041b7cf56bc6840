"""A provider's key that the provider repeats."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.llm import redaction

SECRET = b"sk-sk-0123456789-sk-sk-"
MASK = b"[removed]".ljust(len(SECRET), b"*")


def run(chunks: list[bytes]) -> bytes:
    redactor = redaction.watch(SECRET)
    assert redactor is not None
    return b"".join([*map(redactor.feed, chunks), redactor.close()])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


PIECES = st.lists(st.sampled_from([SECRET, SECRET[:9], SECRET[3:], b"s", b"data: x\n\n", b"\n"]))


@given(PIECES.map(b"".join), st.lists(st.integers(0, 200)))
def test_key_is_removed_however_the_stream_is_cut(data: bytes, places: list[int]) -> None:
    assert run(cut(data, places)) == data.replace(SECRET, MASK)


def test_length_of_the_stream_stays_as_it_was_announced() -> None:
    assert len(run([b"a" + SECRET + b"b"])) == len(SECRET) + 2


def test_nothing_waits_that_cannot_become_the_key() -> None:
    redactor = redaction.watch(SECRET)
    assert redactor is not None
    assert redactor.feed(b"data: sk") == b"data: "
    assert redactor.feed(b"y\n\n") == b"sky\n\n"


@pytest.mark.parametrize("word", [b"x", b"ollama", b"not-needed"])
def test_word_in_the_place_of_a_key_may_stand_in_answers(word: bytes) -> None:
    assert redaction.redact(b"<" + word + b">", word) == b"<" + word + b">"
    assert redaction.watch(word) is None


def test_key_is_removed_from_errors_sooner() -> None:
    told = redaction.redact(b"bad key: k-123456", b"k-123456", redaction.SECRET_IN_ERROR_BYTES_MIN)
    assert told == b"bad key: [removed]"
