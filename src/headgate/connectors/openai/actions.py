"""OpenAI's actions.

Four have the names and inputs that agents know; they are listed as tools. The others have those of
integration platforms: their output is the body of OpenAI's answer.
"""

from __future__ import annotations

from headgate.connectors.model.action import ActionContext, Actions, PicklistItem
from headgate.connectors.model.raw_answer import RawResponse
from headgate.connectors.model.raw_request import TIMEOUT_SECONDS, RawRequestInput
from headgate.connectors.openai import (
    chat,
    embeddings,
    images,
    models,
    raw_request,
    responses,
)

CHAT = ("chat.completions",)
IMAGES = ("images",)
EMBEDDINGS = ("embeddings",)
RESPONSES = ("responses",)
MODELS = ("models",)
ANY = ("*",)
CHAT_SECONDS = 120.0
IMAGE_SECONDS = 300.0
EMBEDDING_SECONDS = 60.0

ACTIONS = Actions("openai")


@ACTIONS.declare(
    "chat-completion", title="Chat completion", endpoints=CHAT, timeout_seconds=CHAT_SECONDS
)
async def complete_chat(context: ActionContext, given: chat.ChatCompletionInput) -> chat.ChatReply:
    """Generate text using GPT: writing, translation, summary, extraction."""
    return await chat.complete(context, given)


@ACTIONS.declare(
    "generate-image",
    title="Generate image",
    endpoints=IMAGES,
    timeout_seconds=IMAGE_SECONDS,
    to_tool_result=images.show_generated,
)
async def generate_image(
    context: ActionContext, given: images.GenerateImageInput
) -> images.ImagesReply:
    """Generate an image from a text prompt. GPT Image models return data, no url."""
    return await images.generate(context, given)


@ACTIONS.declare(
    models.LIST_MODELS,
    title="List models",
    is_read_only=True,
    is_idempotent=True,
    endpoints=MODELS,
    to_tool_result=models.show_ids,
)
async def list_models(
    context: ActionContext, _given: models.ListModelsInput
) -> models.ModelListBody:
    """List the models that your OpenAI account may use."""
    return await models.list_all(context)


@ACTIONS.declare(
    "create-embedding",
    title="Create embedding",
    is_idempotent=True,
    endpoints=EMBEDDINGS,
    timeout_seconds=EMBEDDING_SECONDS,
)
async def create_embedding(
    context: ActionContext, given: embeddings.CreateEmbeddingInput
) -> embeddings.EmbeddingReply:
    """Generate text embeddings for semantic search, matching or classification."""
    return await embeddings.create(context, given)


@ACTIONS.declare(
    "create-chat-completion", title="Create chat completion", endpoints=CHAT, is_listed=False
)
async def create_chat_completion(
    context: ActionContext, given: chat.CreateChatCompletionInput
) -> chat.ChatCompletionBody:
    """Create a completion for the chat messages, with any model of the account."""
    return await chat.create(context, given)


@ACTIONS.declare(
    "create-image",
    title="Create image",
    endpoints=IMAGES,
    is_listed=False,
    to_tool_result=images.show_created,
)
async def create_image(context: ActionContext, given: images.CreateImageInput) -> images.ImagesBody:
    """Create images for a prompt, with the provider's usual model for images."""
    return await images.create(context, given)


@ACTIONS.declare("create-response", title="Create response", endpoints=RESPONSES, is_listed=False)
async def create_response(
    context: ActionContext, given: responses.CreateResponseInput
) -> responses.ResponseBody:
    """Create a response to a text with the Responses API."""
    return await responses.create(context, given)


@ACTIONS.declare(
    "get-model-by-id",
    title="Get model by ID",
    is_read_only=True,
    is_idempotent=True,
    is_listed=False,
    endpoints=MODELS,
)
async def get_model(context: ActionContext, given: models.GetModelInput) -> models.ModelBody:
    """Get the description of one model by its id."""
    return await models.get(context, given)


@ACTIONS.declare(
    "raw-request",
    title="Raw request",
    is_destructive=True,
    is_listed=False,
    endpoints=ANY,
    timeout_seconds=TIMEOUT_SECONDS,
    to_tool_result=raw_request.to_tool_result,
)
async def send_raw_request(context: ActionContext, given: RawRequestInput) -> RawResponse:
    """Send any HTTP request to OpenAI's API, with the connection's own authorization."""
    return await raw_request.send(context, given)


@ACTIONS.declare_source(models.LIST_MODELS, title="Models of the account", endpoints=MODELS)
async def list_model_choices(context: ActionContext) -> list[PicklistItem]:
    """List the models of the account, sorted by id, for a field that takes one."""
    return await models.list_choices(context)
