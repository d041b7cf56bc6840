"""The rules of `tools/tidy.py` that keep names and docstrings plain."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools import tidy


@pytest.mark.parametrize("name", ["ShownKey", "PriceBook", "_Shelf", "take_up", "OpenAiFace"])
def test_retired_name_is_refused(name: str) -> None:
    found = list(tidy.check_names(ast.parse(f"class {name}: pass\ndef {name}(): pass")))
    assert len(found) == 2


@pytest.mark.parametrize("name", ["KeyResponse", "PriceService", "BoundedStore", "reload"])
def test_plain_name_passes(name: str) -> None:
    assert list(tidy.check_names(ast.parse(f"class {name}: pass"))) == []


def test_class_name_that_two_modules_define_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.py", "class Same: pass"), ("b.py", "class Same: pass\nclass Own: pass")):
        (tmp_path / name).write_text(text)
    found = list(tidy.find_doubled_classes([tmp_path / "a.py", tmp_path / "b.py"], tmp_path))
    assert found == ["b.py: class `Same` is also in a.py"]


def test_docstring_that_only_points_elsewhere_is_refused() -> None:
    text = '"""Role."""\ndef one():\n    """See `two`."""\ndef two():\n    """See that it ends."""'
    [found] = tidy.check_docstrings(ast.parse(text))
    assert "`one`" in found


def test_docstring_that_opens_with_no_verb_is_refused() -> None:
    text = 'def one():\n    """The total."""\ndef two():\n    """Return the total."""'
    [found] = tidy.check_first_words(ast.parse(text))
    assert "`one`" in found


def test_file_with_a_retired_name_is_refused() -> None:
    assert list(tidy.check_file_name(Path("src/headgate/keys/journey.py")))
    assert list(tidy.check_file_name(Path("src/headgate/keys/keys.py"))) == []
