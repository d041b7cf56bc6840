"""Compare the variables of a call with the values of conditions.

The type of the right-hand side says how both sides are read. Nothing is guessed: a text that is no
number is an error where a number is compared, and an error makes its condition false.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.resources.model.paths import MISSING, InvalidRoutingError, is_list, is_object
from headgate.resources.model.patterns import Pattern
from headgate.resources.model.routing_config import Comparator, ConditionValue, ValueType

LIST_ITEMS_MAX = 1_000
COMPARED_MAX = 1 << 25
"""The most characters that are searched through for all values of a list together."""
ITEM_CHARACTERS = 256
"""How many characters take as long as one item of a list."""
SHOWN_CHARACTERS_MAX = 64

Test = Callable[[Any], bool]
"""Takes the left-hand side; raises `UncomparableError`."""


class UncomparableError(Exception):
    """The two sides of a condition cannot be compared.

    Write a value of the variable's type, or choose another comparator.
    """


class CostlyComparisonError(UncomparableError):
    """A comparison would take too long.

    Look for fewer values, or in a smaller part of the request.
    """


def build_test(comparator: Comparator, value: ConditionValue) -> Test:
    """Return the comparison with a value. Raise `InvalidRoutingError` for a value that is not of
    its type."""
    if comparator is Comparator.EXISTS:
        return exists
    if not value.expression.strip():
        return _never
    right = read_value(value)
    build = _BUILDERS.get(comparator)
    if build is not None:
        return build(right, value)
    positive = _NEGATED[comparator]
    return _negate(_BUILDERS[positive](right, value))


def read_value(value: ConditionValue) -> Any:
    """Return a literal as its type reads it. Raise `InvalidRoutingError`."""
    text = value.expression
    kind = value.type
    if kind is ValueType.NUMBER:
        return _parse_number(text)
    if kind is ValueType.BOOLEAN:
        lowered = text.strip().lower()
        if lowered not in ("true", "false"):
            raise InvalidRoutingError(f"A boolean is `true` or `false`, not {text[:64]!r}.")
        return lowered == "true"
    if kind is ValueType.COMMA_DELIMITED_LIST:
        return [part for each in text.split(",") if (part := each.strip())]
    if kind in (ValueType.JSON_OBJECT, ValueType.JSON_ARRAY):
        return _parse_json(text, kind)
    return text


def _parse_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        raise InvalidRoutingError(f"A number is expected, not {text[:64]!r}.")
    return number


def _parse_json(text: str, kind: ValueType) -> Any:
    try:
        parsed: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRoutingError(f"The value is not JSON: {error}.") from None
    of_its_type = is_object(parsed) if kind is ValueType.JSON_OBJECT else is_list(parsed)
    if not of_its_type:
        raise InvalidRoutingError(f"The value is JSON, but no {kind.value.replace('-', ' ')}.")
    if len(parsed) > LIST_ITEMS_MAX:
        raise InvalidRoutingError(f"A value has at most {LIST_ITEMS_MAX} items.")
    return parsed


def exists(left: Any) -> bool:
    """Return whether a variable is there and not empty. A number 0 and `false` are there."""
    return left is not MISSING and left is not None and left not in ("", [], (), {})


def to_text(value: Any) -> str:
    """Return a value as text, as JSON writes it; texts as they are, whole numbers without a
    fraction."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_number(value: Any) -> float:
    """Return a value as a number. Raise `UncomparableError`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise UncomparableError(f"{describe(value)} is no number")


def describe(value: Any) -> str:
    """Return a short description of a value for an explanation."""
    if value is MISSING:
        return "what is missing"
    text = to_text(value)
    shown = text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."
    return repr(shown) if isinstance(value, str) else shown


def is_same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal. Numbers are equal by value; a boolean is no
    number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if is_object(left) and is_object(right):
        return left.keys() == right.keys() and all(
            is_same(value, right[name]) for name, value in left.items()
        )
    if is_list(left) and is_list(right):
        return len(left) == len(right) and all(map(is_same, left, right))
    return bool(left == right)


def _never(_left: Any) -> bool:
    """Answer for an empty right-hand side, with which nothing compares."""
    return False


def _negate(test: Test) -> Test:
    return lambda left: not test(left)


def _as_json(left: Any) -> Any:
    """Return a value that may come as the text of a JSON document, such as metadata."""
    if isinstance(left, str):
        try:
            return msgspec.json.decode(left)
        except (msgspec.DecodeError, RecursionError):
            return left
    return left


def _build_equal(right: Any, value: ConditionValue) -> Test:
    kind, text = value.type, value.expression
    if kind is ValueType.STRING:
        return lambda left: left == text if isinstance(left, str) else _equals_text(left, text)
    if kind is ValueType.NUMBER:
        return lambda left: left is not MISSING and left is not None and to_number(left) == right
    if kind is ValueType.BOOLEAN:
        shown = "true" if right else "false"
        return lambda left: left is right or left == shown
    if kind is ValueType.COMMA_DELIMITED_LIST:
        return lambda left: (
            [to_text(each) for each in left] == right if is_list(left) else _equals_text(left, text)
        )
    return lambda left: is_same(_as_json(left), right)


def _equals_text(left: Any, text: str) -> bool:
    return left is not MISSING and left is not None and to_text(left) == text


def _list_wanted(right: Any, value: ConditionValue) -> list[Any]:
    """Return the values of which one has to be found: those of a list, or the only one."""
    if is_list(right):
        return right
    return [value.expression if value.type is not ValueType.JSON_OBJECT else right]


def _build_contains(right: Any, value: ConditionValue) -> Test:
    wanted = _list_wanted(right, value)
    texts = [to_text(each) for each in wanted]

    def test(left: Any) -> bool:
        if left is MISSING or left is None:
            return False
        if len(texts) > 1:
            _check_size(left, len(texts))
        if isinstance(left, str):
            return any(text in left for text in texts)
        if is_list(left):
            return any(_is_one_of(each, wanted, texts) for each in left)
        if is_object(left) and is_object(right):
            return _includes(left, right)
        shown = to_text(left)
        return any(text in shown for text in texts)

    return test


def _check_size(left: Any, number: int) -> None:
    """Raise `CostlyComparisonError` where a search for so many values would take too long."""
    size = len(to_text(left))
    if is_list(left):
        size += len(left) * ITEM_CHARACTERS
    if size * number > COMPARED_MAX:
        message = f"{size} characters are too many to look for {number} values in them"
        raise CostlyComparisonError(message)


def _is_one_of(item: Any, wanted: Sequence[Any], texts: Sequence[str]) -> bool:
    """Return whether an item of a list is one of the values: as it is, as text, or somewhere in an
    object."""
    shown, is_known = to_text(item), is_object(item)
    for each, text in zip(wanted, texts, strict=True):
        if shown == text or is_same(item, each):
            return True
        if is_known and (_includes(item, each) if is_object(each) else text in shown):
            return True
    return False


def _includes(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return all(name in left and is_same(left[name], each) for name, each in right.items())


def _build_in(right: Any, value: ConditionValue) -> Test:
    wanted = _list_wanted(right, value)
    others = [each for each in wanted if is_object(each) or is_list(each)]
    texts = frozenset(to_text(each) for each in wanted if each not in others)

    def test(left: Any) -> bool:
        if isinstance(left, str):
            return left in texts or bool(others and _is_among(_as_json(left), others))
        if left is MISSING or left is None:
            return False
        if is_list(left):
            return _is_among(left, others) or any(test(each) for each in left)
        if is_object(left):
            return _is_among(left, others)
        return to_text(left) in texts

    return test


def _is_among(left: Any, others: Sequence[Any]) -> bool:
    return any(is_same(left, each) for each in others)


def _build_text_test(find: Callable[[str, str], bool]) -> Callable[[Any, ConditionValue], Test]:
    def build(right: Any, value: ConditionValue) -> Test:
        texts = [to_text(each) for each in _list_wanted(right, value)]

        def test(left: Any) -> bool:
            if left is MISSING or left is None:
                return False
            shown = left if isinstance(left, str) else to_text(left)
            return any(find(shown, text) for text in texts)

        return test

    return build


def _build_pattern(right: Any, value: ConditionValue) -> Test:
    if value.type is ValueType.COMMA_DELIMITED_LIST or value.type is ValueType.JSON_ARRAY:
        patterns = [Pattern(to_text(each)) for each in right]
    else:
        patterns = [Pattern(value.expression)]

    def test(left: Any) -> bool:
        if left is MISSING or left is None:
            return False
        shown = left if isinstance(left, str) else to_text(left)
        return any(pattern.is_in(shown) for pattern in patterns)

    return test


def _build_order(decide: Callable[[Any, Any], bool]) -> Callable[[Any, ConditionValue], Test]:
    """Return the builder of a comparison by size: of numbers, or of texts by their characters."""

    def build(right: Any, value: ConditionValue) -> Test:
        kind = value.type

        def test_number(left: Any) -> bool:
            if left is MISSING or left is None:
                return False
            return decide(to_number(left), right)

        def test_text(left: Any) -> bool:
            if left is MISSING or left is None:
                return False
            return decide(left if isinstance(left, str) else to_text(left), right)

        def fail(_left: Any) -> bool:
            raise UncomparableError(f"a {kind.value} has no order")

        if kind is ValueType.NUMBER:
            return test_number
        return test_text if kind is ValueType.STRING else fail

    return build


_BUILDERS: Mapping[Comparator, Callable[[Any, ConditionValue], Test]] = {
    Comparator.EQUAL: _build_equal,
    Comparator.GREATER_THAN: _build_order(lambda left, right: left > right),
    Comparator.GREATER_THAN_OR_EQUAL: _build_order(lambda left, right: left >= right),
    Comparator.LESS_THAN: _build_order(lambda left, right: left < right),
    Comparator.LESS_THAN_OR_EQUAL: _build_order(lambda left, right: left <= right),
    Comparator.CONTAINS: _build_contains,
    Comparator.STARTS_WITH: _build_text_test(str.startswith),
    Comparator.ENDS_WITH: _build_text_test(str.endswith),
    Comparator.PATTERN: _build_pattern,
    Comparator.IN: _build_in,
}
_NEGATED = {
    Comparator.NOT_EQUAL: Comparator.EQUAL,
    Comparator.NOT_CONTAINS: Comparator.CONTAINS,
    Comparator.NOT_IN: Comparator.IN,
}
