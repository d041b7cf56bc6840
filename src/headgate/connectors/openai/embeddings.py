"""`create-embedding`: vectors of numbers for texts."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

import msgspec

from headgate.connectors.model.action import ActionContext
from headgate.connectors.model.schema import SHORT_DESCRIPTION
from headgate.connectors.openai import provider_calls

PATH = "/v1/embeddings"
EmbeddingModelId = Literal["text-embedding-3-small", "text-embedding-3-large"]


class CreateEmbeddingInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    input: Annotated[
        str | tuple[str, ...],
        msgspec.Meta(
            title="Input",
            description="A text to embed, or a list of texts, of at most about 8000 tokens each.",
            extra_json_schema={SHORT_DESCRIPTION: "about 8000 tokens each"},
        ),
    ]
    model: Annotated[
        EmbeddingModelId,
        msgspec.Meta(
            title="Model",
            description="The large one has 3072 dimensions, the small one 1536.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ] = "text-embedding-3-small"


class EmbeddingReply(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the vector of a text in `embedding`, those of a list, in its order, in `embeddings`."""

    model: str
    usage: dict[str, int]
    embedding: list[float] | msgspec.UnsetType = msgspec.UNSET
    embeddings: list[list[float]] | msgspec.UnsetType = msgspec.UNSET


class EmbeddingRow(TypedDict):
    index: int
    embedding: list[float]


class EmbeddingsBody(TypedDict):
    """Hold what is read of OpenAI's answer."""

    data: list[EmbeddingRow]
    model: str
    usage: dict[str, int]


async def create(context: ActionContext, given: CreateEmbeddingInput) -> EmbeddingReply:
    answer = await provider_calls.post(context, PATH, msgspec.to_builtins(given))
    body = provider_calls.convert(answer, EmbeddingsBody)
    rows = sorted(body["data"], key=lambda row: row["index"])
    vectors = [row["embedding"] for row in rows]
    expected = 1 if isinstance(given.input, str) else len(given.input)
    if len(vectors) != expected:
        raise provider_calls.UnreadableAnswerError(
            f"The provider answered {len(vectors)} vectors for {expected} texts."
        )
    if isinstance(given.input, str):
        return EmbeddingReply(model=body["model"], usage=body["usage"], embedding=vectors[0])
    return EmbeddingReply(model=body["model"], usage=body["usage"], embeddings=vectors)
