from __future__ import annotations

import re

import pytest

from headgate.kit.errors import HeadgateError
from tools import errors

CODE = re.compile(r"[a-z][a-z0-9_]*|[A-Z][A-Z0-9_]*")


@pytest.mark.parametrize("error", errors.list_errors(), ids=lambda error: error.__name__)
def test_error_says_what_it_means_and_what_to_do(error: type[HeadgateError]) -> None:
    meaning, advice = errors.split_docstring(error)
    assert meaning.endswith(".")
    assert advice.endswith(".")
    assert CODE.fullmatch(error.code)


def test_page_of_errors_is_what_the_classes_say() -> None:
    assert errors.DOCUMENT.read_text() == errors.build_page()
