"""What single models refuse, in OpenAI's words: of chat completions and of images."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from headgate_simulator.messages import ApiError, invalid_value, unknown_parameter

REASONING = re.compile(r"o\d")
"""Models that reason and take no sampling; those of GPT-5 take it at some efforts."""
SAMPLING = ("temperature", "top_p")


class ImageLimits(NamedTuple):
    """Hold the fields that a family of models for images does not know, and its values."""

    models: re.Pattern[str]
    unknown: tuple[str, ...]
    sizes: frozenset[str]
    qualities: frozenset[str]
    images_max: int


IMAGES = (
    ImageLimits(
        re.compile(r"dall-e-3"),
        unknown=(),
        sizes=frozenset({"1024x1024", "1024x1792", "1792x1024"}),
        qualities=frozenset({"standard", "hd", "auto"}),
        images_max=1,
    ),
    ImageLimits(
        re.compile(r"gpt-image-1(?:-mini|\.5)?"),
        unknown=("style", "response_format"),
        sizes=frozenset({"1024x1024", "1024x1536", "1536x1024", "auto"}),
        qualities=frozenset({"low", "medium", "high", "auto"}),
        images_max=10,
    ),
)


def check_chat(body: dict[str, Any]) -> None:
    """Raise `ApiError` for a field that models that reason do not take."""
    if not REASONING.match(str(body["model"])):
        return
    if body.get("max_tokens") is not None:
        raise _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    for name in SAMPLING:
        if body.get(name) is not None:
            raise _unsupported(name)


def check_images(body: dict[str, Any]) -> None:
    """Raise `ApiError` for what the model of a generated image does not know or make."""
    model = str(body.get("model") or "")
    limits = next((each for each in IMAGES if each.models.fullmatch(model)), None)
    if limits is None:
        return
    for name in limits.unknown:
        if name in body:
            raise unknown_parameter(name)
    _check_choice(body, "size", limits.sizes)
    _check_choice(body, "quality", limits.qualities)
    n = body.get("n") or 1
    if isinstance(n, int) and n > limits.images_max:
        raise invalid_value("n", f"Invalid 'n': {model} makes {limits.images_max} at most.")


def _check_choice(body: dict[str, Any], name: str, choices: frozenset[str]) -> None:
    value = body.get(name)
    if value is not None and value not in choices:
        listed = ", ".join(f"'{each}'" for each in sorted(choices))
        raise invalid_value(name, f"Invalid value: '{value}'. Supported values are: {listed}.")


def _unsupported(name: str, hint: str = "") -> ApiError:
    message = f"Unsupported parameter: '{name}' is not supported with this model.{hint}"
    return ApiError(400, message, param=name, code="unsupported_parameter")
