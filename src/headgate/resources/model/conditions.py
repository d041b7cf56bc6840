"""Decide where a call goes by the rules of its resource.

Rules are tried in order, and the first one that matches decides, unless its share of the traffic
does not include the call: then the next one is tried. A condition that cannot be evaluated is
false. A rule that blocks, and of which a condition would take too long, blocks the call.
`explanation.explain` goes through the same conditions and tells all about them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.resources.model.comparators import build_test, describe
from headgate.resources.model.evaluation import (
    EVALUATION_ERRORS,
    SLOW_SEARCHES_MAX,
    Evaluation,
    check_arguments,
)
from headgate.resources.model.expressions import Expression, ExpressionError, join_used, unwrap
from headgate.resources.model.live import LiveValues
from headgate.resources.model.paths import (
    MISSING,
    InvalidRoutingError,
    Step,
    parse_live_call,
    parse_path,
    walk,
)
from headgate.resources.model.patterns import measure_pattern
from headgate.resources.model.request_view import ROOTS, RequestView
from headgate.resources.model.routing_config import (
    Comparator,
    GroupAction,
    GroupMode,
    GroupOperator,
    RoutedModel,
    RoutingCondition,
    RoutingConfig,
    RoutingGroup,
)

UNREAD = object()
UNTIMED_VALUES_MAX = 1
"""The most commas in a value whose comparison with a small request is not timed."""
MEMBERS = {"tokens": ("input",), "resource": ("id", "name")}
"""All members of the variables that do not come from the caller."""
DEPTH_MAX = 8
"""How deep groups may be nested."""
CONDITIONS_TOTAL_MAX = 1_000
CHARACTERS_MAX = 100_000
"""How long all expressions and patterns of a resource may be, with repetitions written out."""
REQUEST_CHARACTERS_MAX = 4_000
"""The same for rules that come with a request, which are compiled while other calls wait."""
LONG_TEXT = 65_536
Draw = Callable[[int], float]
"""Gives a rule, by its index, a number from 0 to less than 100: the rule gets the call where the
number is less than its traffic."""


class RoutingBlockedError(HeadgateError):
    """A routing rule of the resource refuses this request. Nothing was sent or charged.

    Change what the rule refuses, or ask the owner of the resource.
    """

    kind = Kind.INVALID
    code = "blocked_by_routing_condition"


class RoutingDecision(msgspec.Struct, frozen=True):
    """Say which rule decided: its index and description, and its model. `index` is -1 where none
    matched, and the model of the resource answers."""

    index: int = -1
    description: str = ""
    is_blocked: bool = False
    model: RoutedModel | None = None
    is_cut: bool = False
    """Whether a rule blocks the call because it would have taken too long to evaluate."""


NO_DECISION = RoutingDecision()


def choose(
    routing: CompiledRouting, view: RequestView, live: LiveValues, draw: Draw
) -> RoutingDecision:
    """Return the decision of the first rule that matches, `NO_DECISION` without one."""
    evaluation = Evaluation(routing.used, view, live)
    for rule in routing.rules:
        if rule.matches(evaluation):
            if rule.traffic is None or draw(rule.index) < rule.traffic:
                return rule.decision
        elif evaluation.was_cut and rule.decision.is_blocked:
            return msgspec.structs.replace(rule.decision, is_cut=True)
        evaluation.was_cut = False
    return NO_DECISION


def draw_sticky(seed: str, key: str) -> Draw:
    """Return draws that are always the same for a key: a conversation stays with its model."""

    def draw(index: int) -> float:
        digest = hashlib.blake2b(f"{seed}\n{index}\n{key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64 * 100

    return draw


class CompiledCondition:
    """Hold a condition whose variable and value were read."""

    __slots__ = (
        "_is_timed",
        "_live_call",
        "_path",
        "_searches",
        "_source",
        "config",
        "expression",
        "test",
    )

    def __init__(self, config: RoutingCondition, place: str) -> None:
        self.config = config
        self.expression: Expression | None = None
        with _named(f"{place}.expression"):
            self._source = source = unwrap(config.expression)
            path, live_call = parse_path(source), parse_live_call(source)
            if live_call is not None:
                check_arguments(live_call.function, live_call.arguments)
            elif path is None:
                self.expression = Expression(source)
            elif path[0] not in ROOTS:
                known = ", ".join(sorted(ROOTS))
                raise InvalidRoutingError(f"There is no variable `{path[0]}`. There are {known}.")
            else:
                check_member(path)
            self._path, self._live_call = path, live_call
        with _named(f"{place}.value"):
            self.test = build_test(config.comparator, config.value)
        self._searches = config.comparator is Comparator.PATTERN
        values = config.value.expression.count(",")
        self._is_timed = self._searches or values > UNTIMED_VALUES_MAX

    def matches(self, evaluation: Evaluation) -> bool:
        if self._searches and evaluation.slow_searches >= SLOW_SEARCHES_MAX:
            evaluation.was_cut = True
            return False
        try:
            left = evaluation.values.get(self._source, UNREAD)
            left = self.read(evaluation) if left is UNREAD else left
            # Of what has few values, only long texts and lists take long.
            is_long = not isinstance(left, str) or len(left) > LONG_TEXT
            if self._is_timed or (evaluation.is_large and is_long):
                return evaluation.search(self.test, left)
            return self.test(left)
        except EVALUATION_ERRORS as error:
            evaluation.note(error)
            return False

    def read(self, evaluation: Evaluation) -> Any:
        """Return the left-hand side. Raise one of `EVALUATION_ERRORS`."""
        live_call = self._live_call
        if self._path is not None:
            value = evaluation.view.read(self._path)
        elif live_call is not None:
            found = evaluation.ask(live_call.function, live_call.arguments)
            value = walk(found, live_call.steps)
        else:
            assert self.expression is not None, "it has a path, a call or an expression"
            value = evaluation.evaluate(self.expression)
        value = evaluation.values[self._source] = MISSING if value is None else value
        return value


class CompiledGroup:
    """Hold conditions that are combined. A group that is switched off inside another one counts for
    nothing."""

    __slots__ = ("config", "members", "wants_all")

    def __init__(self, config: RoutingGroup, place: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            message = f"`{place}`: groups are nested at most {DEPTH_MAX} deep."
            raise InvalidRoutingError(message, param=place)
        self.config = config
        self.wants_all = config.operator is GroupOperator.AND
        self.members: list[CompiledCondition | CompiledGroup] = [
            compile_member(member, f"{place}.conditions[{index}]", depth + 1)
            for index, member in enumerate(config.conditions)
            if isinstance(member, RoutingCondition) or member.enabled
        ]

    def matches(self, evaluation: Evaluation) -> bool:
        wants_all = self.wants_all
        for member in self.members:
            if member.matches(evaluation) is not wants_all:
                return not wants_all
        return wants_all


class CompiledExpression:
    """Hold the expression of a rule in the expression mode."""

    __slots__ = ("expression",)

    def __init__(self, source: str, place: str) -> None:
        with _named(f"{place}.expression"):
            self.expression = Expression(source)

    def matches(self, evaluation: Evaluation) -> bool:
        try:
            return self.decide(evaluation)
        except EVALUATION_ERRORS as error:
            evaluation.note(error)
            return False

    def decide(self, evaluation: Evaluation) -> bool:
        """Return the value of the expression. Raise one of `EVALUATION_ERRORS`."""
        value = evaluation.evaluate(self.expression)
        if not isinstance(value, bool):
            raise ExpressionError(f"the expression gives {describe(value)}, and no boolean")
        return value


class RoutingRule:
    """Hold one rule that is switched on."""

    __slots__ = ("condition", "decision", "index", "matches", "traffic")

    def __init__(self, config: RoutingGroup, index: int, place: str) -> None:
        self.index = index
        blocks = config.action is GroupAction.BLOCK
        if not blocks and (config.then is None or not config.then.model):
            message = f"`{place}.then`: a rule that calls a model names it there."
            raise InvalidRoutingError(message, param=f"{place}.then")
        model = None if blocks else config.then
        self.condition: CompiledGroup | CompiledExpression = (
            CompiledExpression(config.expression, place)
            if config.mode is GroupMode.ADVANCED
            else CompiledGroup(config, place, 1)
        )
        self.matches = self.condition.matches
        if isinstance(self.condition, CompiledGroup) and len(self.condition.members) == 1:
            # Most rules have one condition, which then decides alone.
            self.matches = self.condition.members[0].matches
        self.traffic = None if model is None else model.traffic
        self.decision = RoutingDecision(index, config.description, blocks, model)


class CompiledRouting:
    """Hold the rules of one resource, compiled once for all its calls.

    `used` are the variables that its expressions look at.
    """

    def __init__(
        self,
        config: RoutingConfig,
        place: str = "routing",
        *,
        characters_max: int = CHARACTERS_MAX,
    ) -> None:
        """Compile the rules. Raise `InvalidRoutingError`, which names the place of what is
        wrong."""
        self.config = config
        if count_conditions(config.conditions) > CONDITIONS_TOTAL_MAX:
            message = f"`{place}`: a resource has at most {CONDITIONS_TOTAL_MAX} conditions."
            raise InvalidRoutingError(message, param=place)
        if measure_rules(config.conditions) > characters_max:
            message = f"`{place}`: all expressions and patterns have at most {characters_max} "
            raise InvalidRoutingError(f"{message}characters here.", param=place)
        rules = [
            RoutingRule(group, index, f"{place}.conditions[{index}]")
            for index, group in enumerate(config.conditions)
        ]
        self.rules = [rule for rule in rules if config.conditions[rule.index].enabled]
        self.expressions = [
            expression for rule in self.rules for expression in _list_expressions(rule.condition)
        ]
        self.used = join_used([expression.used for expression in self.expressions])


def check_member(path: tuple[Step, ...]) -> None:
    """Raise `InvalidRoutingError` for a member that a variable never has."""
    known = MEMBERS.get(str(path[0]))
    if known is not None and len(path) > 1 and path[1] not in known:
        names = ", ".join(f"`{path[0]}.{each}`" for each in known)
        raise InvalidRoutingError(f"There is no variable `{path[0]}.{path[1]}`. There is {names}.")


def compile_member(
    config: RoutingCondition | RoutingGroup, place: str, depth: int
) -> CompiledCondition | CompiledGroup:
    if isinstance(config, RoutingCondition):
        return CompiledCondition(config, place)
    return CompiledGroup(config, place, depth)


def count_conditions(members: Sequence[RoutingCondition | RoutingGroup]) -> int:
    groups = [each for each in members if isinstance(each, RoutingGroup)]
    return len(members) + sum(count_conditions(group.conditions) for group in groups)


def measure_rules(members: Sequence[RoutingCondition | RoutingGroup]) -> int:
    """Return how many characters have to be compiled."""
    total = 0
    for each in members:
        total += len(each.expression)
        if isinstance(each, RoutingGroup):
            total += measure_rules(each.conditions)
        elif each.comparator is Comparator.PATTERN:
            total += measure_pattern(each.value.expression)
    return total


def _list_expressions(
    condition: CompiledGroup | CompiledCondition | CompiledExpression,
) -> list[Expression]:
    if isinstance(condition, CompiledGroup):
        return [each for member in condition.members for each in _list_expressions(member)]
    return [] if condition.expression is None else [condition.expression]


class _named:
    """Add the place of a rule to the errors of what is read there."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ExpressionError):
            raise InvalidRoutingError(f"`{self._place}`: {error}", param=self._place) from None
        if isinstance(error, InvalidRoutingError):
            error.message = f"`{self._place}`: {error.message}"
            error.param = self._place
            error.args = (error.message,)
