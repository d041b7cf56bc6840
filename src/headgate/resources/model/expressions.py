"""Evaluate the expressions of rules, written in the Common Expression Language (CEL).

An expression is compiled once, when its resource is saved or loaded, and cannot do anything but
compute. What it can cost is bounded: by its length, by the functions it may call, and by the size
of the request that it looks at, with a weight for loops.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.resources.model.paths import InvalidRoutingError
from headgate.resources.model.request_view import ROOTS
from headgate.resources.model.routing_config import EXPRESSION_CHARACTERS_MAX

if TYPE_CHECKING:
    import cel

COST_MAX = 4 << 20
"""The most that one expression may cost: the values of the request that it looks at, times its
weight; without a loop the bytes. One that adds also has its bytes for each addition."""
LOOP_WEIGHT = 32
"""The weight of a loop that looks at nothing but its own items."""
OPEN_LOOP_WEIGHT = 4_096
"""The weight of a loop that looks at other variables as well, and so may be quadratic."""
OPEN_INNER_LOOP_WEIGHT = 32_768
"""The same for a loop inside of another one."""
SEARCHED_MAX = 1 << 27
"""The most values, times bytes, of a loop that looks at other variables as well."""
OUTER_LOOK_WEIGHT = 1_024
"""The weight of a loop inside of another one that looks at the item of the outer one."""
LOOPS_NESTED_MAX = 2
FIXED_COST_MAX = 8 << 20
"""The most tokens of an expression, times its weight: what it costs whatever the request is."""
LOOPS = frozenset({"map", "filter", "all", "exists", "exists_one"})
LIVE_FUNCTIONS = frozenset({"errorRate", "capacityUsage"})
SEARCH = "search"
"""What `matches` is renamed to: a function of ours, whose patterns are compiled once."""
OWN_FUNCTIONS = LIVE_FUNCTIONS | {SEARCH}
FUNCTIONS = frozenset(
    {
        *OWN_FUNCTIONS,
        "contains",
        "startsWith",
        "endsWith",
        "size",
        "has",
        "int",
        "uint",
        "double",
        "string",
        "bool",
        "dyn",
        "type",
    }
)
RENAMED = {"matches": SEARCH, "includes": "contains"}
TINY_FIELDS = frozenset({"model", "messagesCount", "toolsCount", "format"})
"""Fields of a request that cost the same however often a loop looks at them."""
WORDS = frozenset({"true", "false", "null", "in"})

_TEMPLATE = re.compile(r"\s*<%(?:=|-)?\s*(?:return\b)?(?P<inner>.*?);?\s*-?%>\s*", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<text>[bB]?[rR][bB]?(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")"""
    r"""|[bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))"""
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>\d[\w.]*)"
    r"|(?P<space>\s+)"
    r"|(?P<sign>===|!==|\?\.|&&|\|\||[<>=!]=|.)",
    re.DOTALL,
)
_SIGNS = {"===": "==", "!==": "!=", "?.": "."}
_QUOTES = frozenset("'\"")


@functools.cache
def load_cel() -> Any:
    """Import the package of expressions: it takes a tenth of a start, and few resources have
    expressions."""
    return importlib.import_module("cel")


class ExpressionError(Exception):
    """An expression could not be evaluated for a call.

    Use `has(...)` before a field that a request may lack, and compare values of one type.
    """


class CostlyExpressionError(ExpressionError):
    """An expression would take too long for this call, or did.

    Look at fewer fields of the request, and use fewer loops and simpler patterns.
    """


class Token:
    """Hold one token of an expression: `kind` is `text`, `name`, `number` or `sign`."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text


class UsedVariables(msgspec.Struct, frozen=True):
    """Hold the variables that expressions look at, and the largest weight of one of them. `fields`
    are those of the request; None for all."""

    roots: frozenset[str] = frozenset()
    fields: frozenset[str] | None = frozenset()
    weight: int = 1
    calls_functions: bool = False
    """Whether they call functions of ours."""
    additions: int = 0

    def can_look_at(self, values: int, size: int) -> bool:
        """Return whether the cost is bounded for this many values of JSON, and bytes."""
        if self.weight < LOOP_WEIGHT:
            return size * (1 + self.additions) <= COST_MAX
        return (
            values * self.weight <= COST_MAX
            and size * max(1, self.additions) <= COST_MAX
            and (self.weight < OPEN_LOOP_WEIGHT or values * size <= SEARCHED_MAX)
        )


def join_used(several: Sequence[UsedVariables]) -> UsedVariables:
    fields: frozenset[str] | None = frozenset()
    for each in several:
        fields = None if fields is None or each.fields is None else fields | each.fields
    return UsedVariables(
        frozenset(root for each in several for root in each.roots),
        fields,
        max((each.weight for each in several), default=1),
        any(each.calls_functions for each in several),
        max((each.additions for each in several), default=0),
    )


class Expression:
    """Hold a compiled expression."""

    __slots__ = ("_program", "source", "used")

    def __init__(self, source: str) -> None:
        """Compile an expression. Raise `InvalidRoutingError`."""
        self.source = source
        if len(source) > EXPRESSION_CHARACTERS_MAX:
            message = f"An expression has at most {EXPRESSION_CHARACTERS_MAX} characters."
            raise InvalidRoutingError(message)
        tokens = list(_tokenize(source))
        if not tokens:
            raise InvalidRoutingError("The expression is empty.")
        names = _NameReader(tokens)
        names.read()
        if names.weight > 1 and len(tokens) * names.weight > FIXED_COST_MAX:
            message = f"The expression {source[:80]!r} costs too much, whatever the request is."
            raise InvalidRoutingError(message)
        text = " ".join(token.text for token in tokens)
        try:
            self._program = load_cel().compile(text)
        except (ValueError, RuntimeError, TypeError, RecursionError) as error:
            message = f"The expression {source[:80]!r} cannot be read: {_first_line(error)}"
            raise InvalidRoutingError(message) from None
        called = self._program.functions()
        calls_functions = not OWN_FUNCTIONS.isdisjoint(called)
        self.used = UsedVariables(
            frozenset(names.roots), names.fields, names.weight, calls_functions, names.additions
        )
        unknown = [name for name in called if _is_foreign(name)]
        if unknown:
            raise InvalidRoutingError(
                f"The expression {source[:80]!r} calls the function `{unknown[0]}`, which does not "
                f"exist here. There are {', '.join(sorted((FUNCTIONS - {SEARCH}) | {'matches'}))}."
            )

    def evaluate(self, context: cel.Context) -> Any:
        """Return the value of the expression. Raise `ExpressionError`."""
        try:
            return self._program.execute(context)
        # A panic of the evaluator is no `Exception`, and must not end the call.
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise ExpressionError(_first_line(error)) from None
            raise


def _is_foreign(name: str) -> bool:
    return name not in FUNCTIONS and name not in LOOPS and name[0].isalpha()


def _first_line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"there is no field {error}"
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__).partition(". ")[0][:200]


def unwrap(source: str) -> str:
    """Return an expression without the template marks of other products: `<%= ... %>`, or
    `<% return (await ...) %>`."""
    found = _TEMPLATE.fullmatch(source)
    return source if found is None else found["inner"]


def _tokenize(source: str) -> Iterator[Token]:
    """Yield the tokens, in the spelling of CEL: `===`, `?.` and `await` are those of JavaScript."""
    position, source = 0, unwrap(source)
    after_dot = False
    while position < len(source):
        if source.startswith("//", position):
            position = source.find("\n", position)
            if position < 0:
                return
            continue
        found = _TOKEN.match(source, position)
        assert found is not None, "any character is a token"
        position = found.end()
        kind = str(found.lastgroup)
        text = found[0]
        if kind == "space" or (kind == "name" and text == "await"):
            continue
        if kind == "sign":
            if text in _QUOTES:
                raise InvalidRoutingError(f"A text in {source[:80]!r} has no end.")
            text = _SIGNS.get(text, text)
        elif kind == "name" and after_dot:
            text = RENAMED.get(text, text)
        after_dot = text == "."
        yield Token(kind, text)


class _Bracket(msgspec.Struct):
    """Hold an open bracket: the variable of the loop that it belongs to, None for no loop; whether
    that loop is a `map`; and whether the bracket is that of a list or a map of values."""

    variable: str | None = None
    is_map: bool = False
    is_literal: bool = False


class _NameReader:
    """Find the variables of an expression, and how its loops use them.

    What loops cost is bounded by what they may not do: be nested deeper, or make what they loop
    over larger, which a chain of them would multiply.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._brackets: list[_Bracket] = []
        self.roots: set[str] = set()
        self.fields: frozenset[str] | None = frozenset()
        self._loops = 0
        self._is_nested = False
        self._looks_out = False
        """Whether a loop looks at a variable that is none of the loops'."""
        self._looks_at_outer = False
        self.additions = 0

    @property
    def weight(self) -> int:
        if not self._loops:
            return 1
        of_loops = LOOP_WEIGHT * self._loops
        if self._looks_out:
            of_loops = OPEN_INNER_LOOP_WEIGHT if self._is_nested else OPEN_LOOP_WEIGHT
        elif self._looks_at_outer:
            of_loops = OUTER_LOOK_WEIGHT
        return of_loops * (1 + self.additions)

    def read(self) -> None:
        """Read all tokens. Raise `InvalidRoutingError` for a variable that does not exist, and for
        a loop that is not bounded."""
        tokens = self._tokens
        for index, token in enumerate(tokens):
            if token.kind == "sign":
                self._read_sign(index, token.text)
            elif token.kind == "name" and self._text(index - 1) != ".":
                self._read_name(index, token.text)

    def _text(self, index: int) -> str:
        return self._tokens[index].text if 0 <= index < len(self._tokens) else ""

    def _read_sign(self, index: int, sign: str) -> None:
        if sign == "+":
            self._refuse_growth("add")
            self.additions += 1
        elif sign == "(":
            self._brackets.append(self._find_loop(index))
        elif sign in ("[", "{"):
            self._brackets.append(self._find_literal(index, sign))
        elif sign in (")", "]", "}") and self._brackets:
            self._brackets.pop()
        elif (
            sign == "," and self._brackets and self._brackets[-1].is_literal and self._is_in_loop()
        ):
            self.additions += 1

    def _find_loop(self, index: int) -> _Bracket:
        """Return the bracket of a parenthesis, with its variable where it begins a loop."""
        name = self._text(index - 1)
        if name not in LOOPS or self._text(index - 2) != ".":
            return _Bracket()
        is_map = name == "map"
        if is_map:
            self._refuse_growth("call `map`")
        depth = sum(each.variable is not None for each in self._brackets)
        self._is_nested = self._is_nested or depth > 0
        if depth >= LOOPS_NESTED_MAX:
            raise InvalidRoutingError(f"Loops are nested at most {LOOPS_NESTED_MAX} deep.")
        self._loops += 1
        return _Bracket(self._text(index + 1), is_map)

    def _find_literal(self, index: int, sign: str) -> _Bracket:
        """Return a bracket that opens an index, or else a list or map of values."""
        before = self._tokens[index - 1] if index else None
        if sign == "[" and before is not None:
            is_value = before.kind in ("name", "text") and before.text not in WORDS
            if is_value or before.text in (")", "]", "}"):
                return _Bracket()
        if before is None or before.text != "in":
            self._refuse_growth("make a list or a map")
        return _Bracket(is_literal=True)

    def _refuse_growth(self, does: str) -> None:
        if any(each.is_map for each in self._brackets):
            raise InvalidRoutingError(f"Inside of `map`, an expression may not {does}.")

    def _read_name(self, index: int, name: str) -> None:
        if name in WORDS:
            return
        variables = [each.variable for each in self._brackets if each.variable is not None]
        if name in variables:
            self._looks_at_outer |= name != variables[-1]
            return
        if self._text(index + 1) == "(":
            self._looks_out |= name in LIVE_FUNCTIONS and self._is_in_loop()
            return
        if name not in ROOTS:
            known = ", ".join(sorted(ROOTS))
            raise InvalidRoutingError(f"There is no variable `{name}`. There are {known}.")
        if not (name == "tokens" or (name == "request" and self._find_field(index) in TINY_FIELDS)):
            self._looks_out |= self._is_in_loop()
        if any(each.is_literal for each in self._brackets):
            self.additions += 1
        self.roots.add(name)
        if name == "request" and self.fields is not None:
            field = self._find_field(index)
            self.fields = None if field is None else self.fields | {field}

    def _is_in_loop(self) -> bool:
        return any(each.variable is not None for each in self._brackets)

    def _find_field(self, index: int) -> str | None:
        """Return the field that follows `request`, as `.name` or `["name"]`."""
        sign, field = self._text(index + 1), self._text(index + 2)
        if sign == ".":
            return field
        if sign == "[" and field[:1] in _QUOTES and self._text(index + 3) == "]":
            return field.strip("'\"")
        return None
