"""Adapt a request to a provider that speaks OpenAI's wire, but not all of its fields.

The catalog has the rules as data. They hold for calls that a resource may send to several
providers; a call that names one provider goes to it as it came (law 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from headgate.llm.convert.losses import Handling, Losses, Rule
from headgate.llm.request import JsonRequest

UNSUPPORTED = "unsupported field"
LOSS_RULES: Mapping[str, Rule] = {
    UNSUPPORTED: Rule(Handling.LOST, "", "the provider refuses or ignores it")
}
NULL = b"null"
OF_EACH = "."
"""Separates a list from a field of each of its objects: `messages.name`."""
OPTIONS_OF_STREAM = "stream_options"


class FieldRules(msgspec.Struct, frozen=True):
    """Say which fields of a request a provider takes, at one endpoint.

    `accepted` are all fields that it knows, None if it knows every one. `refused` are fields that
    it rejects or ignores, at the top level or of each object in a list (`messages.name`). `renamed`
    maps fields to their names at the provider.
    """

    accepted: frozenset[str] | None = None
    refused: tuple[str, ...] = ()
    renamed: Mapping[str, str] = {}

    def takes(self, name: str) -> bool:
        return name not in self.refused and (self.accepted is None or name in self.accepted)


def apply_rules(request: JsonRequest, rules: FieldRules) -> tuple[JsonRequest, Losses]:
    """Return the request with the fields that the provider takes, and what was left out.

    A field that is null is left out without being reported, since it says nothing.
    """
    losses = Losses(LOSS_RULES)
    fields: dict[str, Any] = {}
    given = request.fields
    for name, value in given.items():
        known = rules.renamed.get(name, name)
        if rules.takes(known) and (known == name or known not in given):
            fields[known] = value
        elif bytes(value) != NULL:
            losses.add(UNSUPPORTED, name)
    for place in rules.refused:
        name, _, inner = place.partition(OF_EACH)
        if inner and name in fields:
            fields[name] = _cut_of_each(fields[name], name, inner, losses)
    body = msgspec.json.encode(fields)
    if OPTIONS_OF_STREAM in fields:
        return replace(request, body=body), losses
    return replace(request, body=body, has_stream_options=False, includes_usage=False), losses


def _cut_of_each(given: Any, name: str, inner: str, losses: Losses) -> Any:
    """Return a list whose objects no longer have a field. It may have lost others before."""
    decoded = msgspec.json.decode(given) if isinstance(given, msgspec.Raw) else given
    if not isinstance(decoded, list):
        return given
    values = cast("list[Any]", decoded)
    for index, value in enumerate(values):
        if isinstance(value, dict) and cast("dict[str, Any]", value).pop(inner, None) is not None:
            losses.add(UNSUPPORTED, f"{name}.{index}.{inner}")
    return values
