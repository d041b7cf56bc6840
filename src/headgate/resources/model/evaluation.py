"""Hold what one call needs while its rules are evaluated."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.kit.errors import HeadgateError, drop_trace
from headgate.resources.model.comparators import (
    CostlyComparisonError,
    Test,
    UncomparableError,
)
from headgate.resources.model.expressions import (
    SEARCH,
    CostlyExpressionError,
    Expression,
    ExpressionError,
    UsedVariables,
    load_cel,
)
from headgate.resources.model.live import PERIODS, WINDOW_MINUTES, WINDOW_MINUTES_MAX, LiveValues
from headgate.resources.model.patterns import Pattern, SlowPatternError
from headgate.resources.model.request_view import RequestView

if TYPE_CHECKING:
    import cel

SLOW_SEARCHES_MAX = 2
"""How many searches of one call may be stopped before no further one begins."""
SECONDS_MAX = 0.2
"""The time after which no further search or loop of one call begins."""
LARGE_BYTES = 2_048
"""The size of a request of which every comparison is timed."""
PATTERNS_KEPT_MAX = 256
PATTERNS_COMPILED_MAX = 20
"""How many patterns that are not known yet one call may compile."""

EVALUATION_ERRORS = (
    UncomparableError,
    ExpressionError,
    SlowPatternError,
    HeadgateError,
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
)
COST_ERRORS = (CostlyComparisonError, CostlyExpressionError, SlowPatternError)
"""Those of them that say nothing about the request: it was not looked at whole."""


class Evaluation:
    """Hold what one call needs while its rules are evaluated. Live values are asked for once.

    `was_cut` is set where a condition counted as false because it would have taken too long.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_compiled",
        "_context",
        "_contexts",
        "_failure",
        "_seconds",
        "_used",
        "is_large",
        "live",
        "slow_searches",
        "values",
        "view",
        "was_cut",
    )

    def __init__(self, used: UsedVariables, view: RequestView, live: LiveValues) -> None:
        self.view = view
        self.live = live
        self.slow_searches = 0
        self.was_cut = False
        self._seconds = 0.0
        self.is_large = len(view.body) > LARGE_BYTES
        self._compiled = 0
        self._failure: Exception | None = None
        self.values: dict[str, Any] = {}
        """The variables that conditions have read, by their expressions."""
        self._used = used
        self._asked: dict[tuple[Any, ...], Any] = {}
        self._context: cel.Context | None = None
        self._contexts: dict[UsedVariables, cel.Context] = {}

    def note(self, error: Exception) -> None:
        """Remember whether a condition is false for its cost alone."""
        if isinstance(error, COST_ERRORS):
            self.was_cut = True

    def search(self, test: Test, left: Any) -> bool:
        """Return the result of a comparison that may take long. After a few patterns that took too
        long, and after `SECONDS_MAX` of all together, none begins.

        Raise `SlowPatternError`.
        """
        if self.slow_searches >= SLOW_SEARCHES_MAX:
            raise SlowPatternError("earlier patterns of this call took too long")
        began = self._begin()
        try:
            return test(left)
        except SlowPatternError:
            self.slow_searches += 1
            raise
        finally:
            self._seconds += time.perf_counter() - began

    def _begin(self) -> float:
        """Return the time in seconds. Raise `SlowPatternError` where the rules of
        this call have used up theirs."""
        if self._seconds > SECONDS_MAX:
            milliseconds = int(SECONDS_MAX * 1_000)
            raise SlowPatternError(f"the rules of this call took more than {milliseconds} ms")
        return time.perf_counter()

    def evaluate(self, expression: Expression) -> Any:
        """Return the value of an expression. Raise `ExpressionError`."""
        context = self._context or self._find_context(expression)
        self._failure = None
        has_loops = expression.used.weight > 1
        began = self._begin() if has_loops else 0.0
        try:
            value = expression.evaluate(context)
        except ExpressionError:
            self._raise_failure()
            raise
        finally:
            if has_loops:
                self._seconds += time.perf_counter() - began
        if self._failure is not None:
            self._raise_failure()
        return value

    def _find_context(self, expression: Expression) -> cel.Context:
        """Return the variables of an expression: those of all expressions, made once, where the
        request is small enough for any of them. Raise `ExpressionError`."""
        joint = self._used
        if joint.can_look_at(*self._measure(joint)):
            self._context = self._make_context(joint)
            return self._context
        used = expression.used
        values, size = self._measure(used)
        if not used.can_look_at(values, size):
            raise CostlyExpressionError(
                f"the request is too large for this expression: {values} values in {size} bytes, "
                f"and it weighs {used.weight}"
            )
        if used not in self._contexts:
            self._contexts[used] = self._make_context(used)
        return self._contexts[used]

    def _raise_failure(self) -> None:
        """Raise the error of a function that the expression called: those of Python are not for the
        evaluator, which would log them."""
        failure = self._failure
        if failure is not None:
            is_cost = isinstance(failure, COST_ERRORS)
            raise (CostlyExpressionError if is_cost else ExpressionError)(str(failure)) from None

    def _measure(self, used: UsedVariables) -> tuple[int, int]:
        """Return about how many values and bytes of the request are looked at."""
        if "request" not in used.roots:
            return 0, 0
        size = self.view.measure(used.fields)
        # Only loops go through the values.
        return (0 if used.weight == 1 else self.view.count_values(used.fields)), size

    def ask(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return a live value. Raise `ExpressionError` for arguments that it does not take."""
        checked = check_arguments(name, arguments)
        asked = (name, *checked)
        if asked not in self._asked:
            find = self._find_error_rate if name == "errorRate" else self._find_capacity
            self._asked[asked] = find(*checked)
        return self._asked[asked]

    def list_asked(self) -> Iterator[tuple[str, Any]]:
        """Yield the live values that were asked for, each with its call as an expression."""
        for (name, *arguments), value in self._asked.items():
            while arguments and arguments[-1] is None:
                arguments.pop()
            yield f"{name}({', '.join(map(repr, arguments))})", value

    def _find_error_rate(
        self, window_minutes: int, status: int | None, connection: str | None, model: str | None
    ) -> float | None:
        return self.live.error_rate(window_minutes, status, connection, model)

    def _find_capacity(self, period: str, connection: str | None, model: str | None) -> Any:
        state = self.live.capacity_usage(period, connection, model)
        return None if state is None else msgspec.to_builtins(state)

    def _make_context(self, used: UsedVariables) -> cel.Context:
        view = self.view
        variables: dict[str, Any] = {
            root: view.gather(used.fields) if root == "request" else view.root(root)
            for root in used.roots
        }

        if not used.calls_functions:
            return load_cel().Context(variables=variables)
        # A context is kept here and keeps its functions, where no collector finds a cycle: a
        # function that held the evaluation would keep it and the request for ever.
        own: Any = weakref.proxy(self)

        def find_error_rate(*arguments: Any) -> Any:
            return own._call(own.ask, "errorRate", arguments)

        def find_capacity(*arguments: Any) -> Any:
            return own._call(own.ask, "capacityUsage", arguments)

        def search(*arguments: Any) -> Any:
            return own._call(own._search, *arguments)

        functions = {"errorRate": find_error_rate, "capacityUsage": find_capacity, SEARCH: search}
        return load_cel().Context(variables=variables, functions=functions)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function gives an expression; None for a failure, which is kept."""
        try:
            return function(*arguments)
        except EVALUATION_ERRORS as error:
            self._failure = drop_trace(error)
            return None

    def _search(self, text: Any, source: Any) -> bool:
        if not (isinstance(text, str) and isinstance(source, str)):
            raise ExpressionError("`matches` takes a text and a pattern")
        return self.search(lambda given: self._find_pattern(source).is_in(given), text)

    def _find_pattern(self, source: str) -> Pattern:
        """Return a compiled pattern. Raise `InvalidRoutingError` and `ExpressionError`."""
        pattern = _patterns.get(source)
        if pattern is None:
            self._compiled += 1
            if self._compiled > PATTERNS_COMPILED_MAX:
                raise CostlyExpressionError("the expression makes too many patterns of the request")
            if len(_patterns) >= PATTERNS_KEPT_MAX:
                _patterns.clear()
            pattern = _patterns[source] = Pattern(source)
        return pattern


_patterns: dict[str, Pattern] = {}


def check_arguments(name: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of a live function with its defaults. Raise `ExpressionError`."""
    given = list(arguments) + [None] * 4
    if name == "errorRate":
        window, status = given[0], given[1]
        window = WINDOW_MINUTES if window is None else _check_integer(window, "windowMinutes")
        if not 1 <= window <= WINDOW_MINUTES_MAX:
            raise ExpressionError(f"windowMinutes is from 1 to {WINDOW_MINUTES_MAX}, not {window}")
        status = None if status in (None, "any") else _check_integer(status, "statusCode")
        return window, status, _check_name(given[2]), _check_name(given[3])
    period = "minute" if given[0] is None else given[0]
    if period not in PERIODS:
        raise ExpressionError(f"the period is one of {', '.join(PERIODS)}, not {period!r}")
    return period, _check_name(given[1]), _check_name(given[2])


def _check_integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ExpressionError(f"{name} is a whole number, not {value!r}")
    return int(value)


def _check_name(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    raise ExpressionError(f"a connection or model is a text, not {value!r}")
