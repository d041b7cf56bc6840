"""Images: `generate-image` for agents, `create-image` for integrations."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

import msgspec

from headgate.connectors.model.action import ActionContext
from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.schema import SHORT_DESCRIPTION
from headgate.connectors.model.tool import ToolContent, ToolResult
from headgate.connectors.openai import provider_calls
from headgate.connectors.openai.model_rules import IMAGE_RULES, ImageRules
from headgate.kit.errors import HeadgateError

PATH = "/v1/images/generations"
ImageModelId = Literal["dall-e-3", "gpt-image-1", "gpt-image-2"]
ImageSize = Literal[
    "1024x1024", "1024x1792", "1792x1024", "1024x1536", "1536x1024", "256x256", "512x512", "auto"
]
ImageQuality = Literal["standard", "hd", "low", "medium", "high"]
USUAL_FORMAT = "png"
HANDLE = "handle"


class GenerateImageInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            title="Prompt",
            description="What the image shows. Be specific and detailed.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
            extra={"form": "multiline"},
        ),
    ]
    model: Annotated[
        ImageModelId,
        msgspec.Meta(
            title="Model",
            description="GPT Image models are newer; they always answer with image data.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ] = "dall-e-3"
    size: Annotated[
        ImageSize,
        msgspec.Meta(
            title="Size",
            description="1024x1024: any model. 1024x1792, 1792x1024: dall-e-3. Others: GPT Image.",
            extra_json_schema={SHORT_DESCRIPTION: ""},
        ),
    ] = "1024x1024"
    quality: Annotated[
        ImageQuality,
        msgspec.Meta(
            title="Quality",
            description="hd: dall-e-3 only. low, medium, high: GPT Image only.",
            extra_json_schema={SHORT_DESCRIPTION: "hd: dall-e-3"},
        ),
    ] = "standard"
    style: Annotated[
        Literal["vivid", "natural"],
        msgspec.Meta(
            title="Style",
            description="Dramatic or more realistic; dall-e-3 only.",
            extra_json_schema={SHORT_DESCRIPTION: "dall-e-3"},
        ),
    ] = "vivid"
    n: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=4,
            title="Number of images",
            description="Up to 4 for GPT Image, always 1 for dall-e-3.",
            extra_json_schema={SHORT_DESCRIPTION: "dall-e-3: 1"},
        ),
    ] = 1
    response_format: Annotated[
        Literal["url", "b64_json", "handle"],
        msgspec.Meta(
            title="Response format",
            description="A url (dall-e-3) and a handle, which upload_asset takes, last an hour.",
            extra_json_schema={SHORT_DESCRIPTION: "handle: for upload_asset"},
        ),
    ] = "url"


class GeneratedImage(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one image: an address, base64, or the id of a handle, which `upload_asset` takes."""

    media_type: str
    url: str | msgspec.UnsetType = msgspec.UNSET
    b64_json: str | msgspec.UnsetType = msgspec.UNSET
    handle: str | msgspec.UnsetType = msgspec.UNSET
    revised_prompt: str | msgspec.UnsetType = msgspec.UNSET


class ImagesReply(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the images, and in `notes` what was made otherwise than asked."""

    images: list[GeneratedImage]
    notes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class CreateImageInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=1000,
            title="Prompt",
            description="A text description of the images.",
        ),
    ]
    n: Annotated[
        int,
        msgspec.Meta(
            ge=1, le=10, title="Number of images", description="The number of images to generate."
        ),
    ] = 1
    size: Annotated[
        Literal["256x256", "512x512", "1024x1024"],
        msgspec.Meta(title="Image size", description="The size of the generated images."),
    ] = "1024x1024"


class ImageBody(TypedDict):
    url: NotRequired[str | None]
    b64_json: NotRequired[str | None]
    revised_prompt: NotRequired[str | None]


class ImagesBody(TypedDict, total=False):
    """Hold OpenAI's answer with all its members; these are the ones to rely on."""

    created: int
    data: list[ImageBody]
    output_format: str
    size: str


async def generate(context: ActionContext, given: GenerateImageInput) -> ImagesReply:
    rules = IMAGE_RULES[given.model]
    check_image(given, rules)
    fields, notes = build_request(given, rules)
    answer = await provider_calls.post(context, PATH, fields)
    body = provider_calls.convert(answer, ImagesBody)
    media_type = find_media_type(body)
    images = [_read_image(each, media_type) for each in body.get("data", ())]
    if given.response_format == HANDLE:
        images = [await _put_aside(context, each, notes) for each in images]
    return ImagesReply(images=images, notes=tuple(notes) or msgspec.UNSET)


async def create(context: ActionContext, given: CreateImageInput) -> ImagesBody:
    """Send no model: the provider's default answers, as the document has it."""
    answer = await provider_calls.post(context, PATH, msgspec.to_builtins(given))
    provider_calls.convert(answer, ImagesBody)  # raises for what nobody could show
    return cast("ImagesBody", answer)


def check_image(given: GenerateImageInput, rules: ImageRules) -> None:
    """Raise `InvalidInputError` for what the model does not make."""
    if given.n > rules.images_max:
        raise InvalidInputError(
            f"`n` is {given.n}; {given.model} makes at most {rules.images_max} for one call.",
            param="n",
        )
    if given.size not in rules.sizes and given.size not in rules.replaced:
        raise InvalidInputError(
            f"`size` is {given.size}; {given.model} makes {', '.join(sorted(rules.sizes))}.",
            param="size",
        )
    if given.quality not in rules.qualities:
        raise InvalidInputError(
            f"`quality` is {given.quality}; {given.model} has {', '.join(rules.qualities)}.",
            param="quality",
        )


def build_request(given: GenerateImageInput, rules: ImageRules) -> tuple[dict[str, Any], list[str]]:
    """Return what is sent to OpenAI, and what it leaves out of what was asked."""
    size = rules.replaced.get(given.size, given.size)
    fields: dict[str, Any] = {
        "model": given.model,
        "prompt": given.prompt,
        "n": given.n,
        "size": size,
    }
    notes: list[str] = []
    if size != given.size:
        notes.append(f"{given.model} does not make {given.size}; it made {size}.")
    quality = rules.qualities[given.quality]
    if quality is not None:
        fields["quality"] = quality
    if rules.takes_style:
        fields["style"] = given.style
    elif given.style != "vivid":
        notes.append(f"{given.model} has no styles; `style` was left out.")
    if rules.takes_response_format:
        wanted = given.response_format
        fields["response_format"] = "b64_json" if wanted == HANDLE else wanted
    return fields, notes


def find_media_type(body: ImagesBody) -> str:
    return f"image/{body.get('output_format') or USUAL_FORMAT}"


def show_generated(reply: ImagesReply) -> ToolResult:
    """Return images as agents get them: as content, and without their base64 in the JSON."""
    content = [
        _show_image(each.b64_json, each.media_type) for each in reply.images if each.b64_json
    ]
    images = [msgspec.structs.replace(each, b64_json=msgspec.UNSET) for each in reply.images]
    structured = msgspec.to_builtins(msgspec.structs.replace(reply, images=images))
    return ToolResult(structured=structured, content=tuple(content))


def show_created(body: ImagesBody) -> ToolResult:
    """Return the images of `create-image` as agents get them."""
    media_type = find_media_type(body)
    rows = body.get("data", [])
    encoded = (row.get("b64_json") for row in rows)
    content = tuple(_show_image(each, media_type) for each in encoded if each)
    shown = [{name: value for name, value in row.items() if name != "b64_json"} for row in rows]
    return ToolResult(structured={**body, "data": shown}, content=content)


def _show_image(encoded: str, media_type: str) -> ToolContent:
    return ToolContent(type="image", fields={"data": encoded, "mimeType": media_type})


def _read_image(row: ImageBody, media_type: str) -> GeneratedImage:
    return GeneratedImage(
        media_type=media_type,
        url=row.get("url") or msgspec.UNSET,
        b64_json=row.get("b64_json") or msgspec.UNSET,
        revised_prompt=row.get("revised_prompt") or msgspec.UNSET,
    )


async def _put_aside(
    context: ActionContext, image: GeneratedImage, notes: list[str]
) -> GeneratedImage:
    """Return an image by reference. One that came as an address stays one, and one that cannot be
    kept comes as it is, since it is paid for."""
    if image.b64_json is msgspec.UNSET:
        return image
    try:
        content = base64.b64decode(image.b64_json, validate=True)
    except ValueError as error:  # other letters than ASCII, too
        raise provider_calls.UnreadableAnswerError("The image is not valid base64.") from error
    name = f"image.{image.media_type.rpartition('/')[2]}"
    try:
        info = await context.handles.put(context.caller, content, image.media_type, name)
    except HeadgateError as error:
        notes.append(f"The image was not put aside: {error.message}")
        return image
    return msgspec.structs.replace(image, b64_json=msgspec.UNSET, handle=info.id)
