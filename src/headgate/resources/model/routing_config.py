"""Describe the routing rules of a resource, as its owner writes them."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from headgate.resources.model.slot import MODEL_CHARACTERS_MAX, ModelSlot

GROUPS_MAX = 100
CONDITIONS_MAX = 100
"""How many conditions and groups one group holds at most."""
EXPRESSION_CHARACTERS_MAX = 2_048
VALUE_CHARACTERS_MAX = 8_192
TEXT_CHARACTERS_MAX = 500


class Comparator(enum.Enum):
    EQUAL = "EQUAL"
    NOT_EQUAL = "NOT_EQUAL"
    GREATER_THAN = "GREATER_THAN"
    GREATER_THAN_OR_EQUAL = "GREATER_THAN_OR_EQUAL"
    LESS_THAN = "LESS_THAN"
    LESS_THAN_OR_EQUAL = "LESS_THAN_OR_EQUAL"
    CONTAINS = "CONTAINS"
    NOT_CONTAINS = "NOT_CONTAINS"
    STARTS_WITH = "STARTS_WITH"
    ENDS_WITH = "ENDS_WITH"
    PATTERN = "PATTERN"
    IN = "IN"
    NOT_IN = "NOT_IN"
    EXISTS = "EXISTS"


class ValueType(enum.Enum):
    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    COMMA_DELIMITED_LIST = "comma-delimited-list"
    JSON_OBJECT = "json-object"
    JSON_ARRAY = "json-array"


class GroupOperator(enum.Enum):
    AND = "AND"
    OR = "OR"


class GroupMode(enum.Enum):
    UI = "UI"
    """Its conditions decide."""
    ADVANCED = "ADVANCED"
    """Its expression decides, in the Common Expression Language."""


class GroupAction(enum.Enum):
    CALL_MODEL = "CALL_MODEL"
    BLOCK = "BLOCK"


class ConditionValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the right-hand side of a condition: a literal as text, and how it is read."""

    type: ValueType = ValueType.STRING
    expression: Annotated[str, msgspec.Meta(max_length=VALUE_CHARACTERS_MAX)] = ""


class RoutingCondition(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="condition",
):
    """Compare one variable of a call with a value. `expression` is a path such as
    `request.toolsCount`, or an expression such as `errorRate(5)`."""

    expression: Annotated[str, msgspec.Meta(min_length=1, max_length=EXPRESSION_CHARACTERS_MAX)]
    comparator: Comparator
    value: ConditionValue = ConditionValue()
    id: Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] = ""
    label: Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] = ""


class RoutedModel(ModelSlot, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Name the model of a rule; a rule that blocks may leave it out. `traffic` is the percentage of
    the matching calls that it gets; None for all."""

    model: Annotated[str, msgspec.Meta(max_length=MODEL_CHARACTERS_MAX)] = ""
    traffic: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


class RoutingGroup(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="group",
):
    """Combine conditions. Of a nested group only `enabled`, `operator` and `conditions` count: what
    happens on a match is said by the rule that holds it."""

    conditions: Annotated[
        tuple[RoutingCondition | RoutingGroup, ...], msgspec.Meta(max_length=CONDITIONS_MAX)
    ] = ()
    operator: GroupOperator = GroupOperator.AND
    mode: GroupMode = GroupMode.UI
    expression: Annotated[str, msgspec.Meta(max_length=EXPRESSION_CHARACTERS_MAX)] = ""
    action: GroupAction = GroupAction.CALL_MODEL
    then: RoutedModel | None = None
    enabled: bool = True
    id: Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] = ""
    description: Annotated[str, msgspec.Meta(max_length=TEXT_CHARACTERS_MAX)] = ""


class RoutingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hold the rules of a resource, in the order in which they are tried."""

    enabled: bool = True
    conditions: Annotated[tuple[RoutingGroup, ...], msgspec.Meta(max_length=GROUPS_MAX)] = ()
