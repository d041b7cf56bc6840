"""Evaluate the expressions of rules, written in the Common Expression Language (CEL).

An expression is compiled once, when its resource is saved or loaded, and cannot do anything but
compute. What it can cost is bounded: by its length, by the functions it may call, and by the size
of the request that it looks at, with a weight for loops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import cel
import msgspec

from headgate.resources.model.paths import InvalidRoutingError
from headgate.resources.model.request_view import ROOTS
from headgate.resources.model.routing_config import EXPRESSION_CHARACTERS_MAX

COST_MAX = 4 << 20
"""The most bytes of a request that one expression looks at, times its weight."""
LOOP_WEIGHT = 4
"""The weight of a loop that looks at nothing but its own items."""
OPEN_LOOP_WEIGHT = 256
"""The weight of a loop that looks at other variables as well, and so may be quadratic."""
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
WORDS = frozenset({"true", "false", "null", "in"})

_TEMPLATE = re.compile(r"\s*<%(?:=|-)?\s*(?:return\b)?(?P<inner>.*?);?\s*-?%>\s*", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))"""
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>\d[\w.]*)"
    r"|(?P<space>\s+)"
    r"|(?P<sign>===|!==|\?\.|&&|\|\||[<>=!]=|.)",
    re.DOTALL,
)
_SIGNS = {"===": "==", "!==": "!=", "?.": "."}
_QUOTES = frozenset("'\"")


class ExpressionError(Exception):
    """An expression could not be evaluated for a call.

    Use `has(...)` before a field that a request may lack, and compare values of one type.
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


def join_used(several: Sequence[UsedVariables]) -> UsedVariables:
    fields: frozenset[str] | None = frozenset()
    for each in several:
        fields = None if fields is None or each.fields is None else fields | each.fields
    return UsedVariables(
        frozenset(root for each in several for root in each.roots),
        fields,
        max((each.weight for each in several), default=1),
        any(each.calls_functions for each in several),
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
        text = " ".join(token.text for token in tokens)
        try:
            self._program = cel.compile(text)
        except (ValueError, RuntimeError, TypeError, RecursionError) as error:
            message = f"The expression {source[:80]!r} cannot be read: {_first_line(error)}"
            raise InvalidRoutingError(message) from None
        called = self._program.functions()
        calls_functions = not OWN_FUNCTIONS.isdisjoint(called)
        self.used = UsedVariables(
            frozenset(names.roots), names.fields, names.weight, calls_functions
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


class _NameReader:
    """Find the variables of an expression, and how its loops use them."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._brackets: list[str | None] = []
        """The variable of the loop that each open bracket belongs to; None for no loop."""
        self.roots: set[str] = set()
        self.fields: frozenset[str] | None = frozenset()
        self._loops = 0
        self._is_open = False
        self._additions = 0

    @property
    def weight(self) -> int:
        of_loops = 1
        if self._loops:
            of_loops = OPEN_LOOP_WEIGHT if self._is_open else LOOP_WEIGHT * self._loops
        return of_loops * (1 + self._additions)

    def read(self) -> None:
        """Read all tokens. Raise `InvalidRoutingError` for a variable that does not exist."""
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
            self._additions += 1
        elif sign in ("(", "[", "{"):
            self._brackets.append(self._find_loop(index) if sign == "(" else None)
        elif sign in (")", "]", "}") and self._brackets:
            self._brackets.pop()

    def _find_loop(self, index: int) -> str | None:
        """Return the variable of the loop that a parenthesis begins."""
        if self._text(index - 1) in LOOPS and self._text(index - 2) == ".":
            self._loops += 1
            return self._text(index + 1)
        return None

    def _read_name(self, index: int, name: str) -> None:
        if name in WORDS or name in self._brackets:
            return
        if self._text(index + 1) == "(":
            self._is_open = self._is_open or (name in LIVE_FUNCTIONS and self._is_in_loop())
            return
        if name not in ROOTS:
            known = ", ".join(sorted(ROOTS))
            raise InvalidRoutingError(f"There is no variable `{name}`. There are {known}.")
        self._is_open = self._is_open or self._is_in_loop()
        self.roots.add(name)
        if name == "request" and self.fields is not None:
            field = self._find_field(index)
            self.fields = None if field is None else self.fields | {field}

    def _is_in_loop(self) -> bool:
        return any(self._brackets)

    def _find_field(self, index: int) -> str | None:
        """Return the field that follows `request`, as `.name` or `["name"]`."""
        sign, field = self._text(index + 1), self._text(index + 2)
        if sign == ".":
            return field
        if sign == "[" and field[:1] in _QUOTES and self._text(index + 3) == "]":
            return field.strip("'\"")
        return None
