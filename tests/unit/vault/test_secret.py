"""References to stored secrets, and what is shown of one."""

from __future__ import annotations

import pytest

from headgate.vault.model.secret import (
    BrokenReferenceError,
    hint_secret,
    parse_reference,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{{vault:a}}", "a"),
        ("{{ vault: a-b_c.D9 }}", "a-b_c.D9"),
        ("sk-0123456789", None),
        ("{vault:a}", None),
    ],
)
def test_reference_is_told_from_a_value(text: str, name: str | None) -> None:
    assert parse_reference(text) == name


@pytest.mark.parametrize("text", ["{{vault:}}", "{{a}}", "x{{vault:a}}", "{{vault:a}}{{vault:b}}"])
def test_what_is_half_a_reference_is_none(text: str) -> None:
    with pytest.raises(BrokenReferenceError, match="with nothing before or after it"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("value", "hint"), [("x" * 19, "...."), ("sk-proj-0123456789abc", "sk-p...."), ("", "....")]
)
def test_hint_shows_the_beginning_of_long_values_only(value: str, hint: str) -> None:
    assert hint_secret(value) == hint
