"""The models of the account: `list-models`, `get-model-by-id`, and the picklist of both."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, TypedDict, cast

import msgspec

from headgate.connectors.model.action import ActionContext, PicklistItem
from headgate.connectors.model.tool import ToolResult
from headgate.connectors.openai import provider_calls

PATH = "/v1/models"
LIST_MODELS = "list-models"
"""The name of the action and of the data source."""
AccountModelId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        title="Model",
        description="The model to use, of those that the account has.",
        extra={"data_source": LIST_MODELS},
    ),
]


class ListModelsInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class GetModelInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=300,
            title="Model",
            description="The id of a model of the account.",
            extra={"data_source": LIST_MODELS},
        ),
    ]


class ModelBody(TypedDict, total=False):
    """Hold OpenAI's description of a model with all its members; the id is the one to rely on."""

    id: str


class ModelListBody(TypedDict, total=False):
    data: list[ModelBody]


async def list_all(context: ActionContext) -> ModelListBody:
    return cast("ModelListBody", await provider_calls.read(context, PATH))


async def get(context: ActionContext, given: GetModelInput) -> ModelBody:
    target = f"{PATH}/{urllib.parse.quote(given.model, safe='')}"
    return cast("ModelBody", await provider_calls.read(context, target))


async def list_choices(context: ActionContext) -> list[PicklistItem]:
    ids = _list_ids(await list_all(context))
    return [PicklistItem(label=each, key=each) for each in ids]


def show_ids(body: ModelListBody) -> ToolResult:
    """Return the list as agents get it: ids alone, sorted, since there may be hundreds."""
    return ToolResult(structured={"data": [{"id": each} for each in _list_ids(body)]})


def _list_ids(body: ModelListBody) -> list[str]:
    read = provider_calls.convert({**body}, ModelListBody)
    return sorted({each["id"] for each in read.get("data", ()) if "id" in each})
