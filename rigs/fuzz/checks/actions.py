"""What programs and models write as the input of actions."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from headgate.connectors.model.action import Action
from headgate.connectors.model.cleaning import clean_input, split_options
from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.service.registry import ConnectorRegistry

ACTIONS = [action for connector in ConnectorRegistry.load().list() for action in connector.actions]


def check_input(data: bytes) -> None:
    """Check that every action reads an object, or refuses it by the name of a field."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = msgspec.json.decode(data, type=dict[str, Any])
        for action in ACTIONS:
            check_action(action, given)


def check_action(action: Action, given: dict[str, Any]) -> None:
    """Check that what was read is read again as the same."""
    cleaned, fault = None, None
    try:
        _, own = split_options(action.input, given)
        cleaned = clean_input(action.input, own)
    except InvalidInputError as error:
        fault = error.param
    if cleaned is None:
        assert fault
        return
    plain = msgspec.to_builtins(cleaned)
    assert msgspec.to_builtins(clean_input(action.input, plain)) == plain
