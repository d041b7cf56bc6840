"""Count the tokens of pictures by OpenAI's rules, from the size that their first bytes state.

The rules are those of https://developers.openai.com/api/docs/guides/images-vision: older models cut
a picture into tiles of 512 pixels, newer ones into patches of 32, each after they have scaled it.
"""

from __future__ import annotations

import math
import struct

import msgspec

TILE, PATCH = 512, 32
TILED_SIDE_MAX, TILED_SHORT_SIDE = 2_048, 768
LOW_SIDE = 512
PICTURE_HEAD_BYTES = 262_144
"""How much of a picture is searched for its size; a JPEG has its metadata before it."""
MARKERS_MAX = 256

Size = tuple[int, int]
"""Width and height in pixels."""


class Tiles(msgspec.Struct, frozen=True):
    """Count `base` tokens and `tile` for each tile; `base` alone at low detail."""

    base: int
    tile: int
    extra: int = 0
    """The most that a picture costs besides."""

    def count(self, size: Size | None, detail: str) -> int:
        if detail == "low":
            return self.base
        width, height = size or (TILED_SIDE_MAX, TILED_SHORT_SIDE)
        scale = min(1.0, TILED_SIDE_MAX / max(width, height), TILED_SHORT_SIDE / min(width, height))
        tiles = math.ceil(width * scale / TILE) * math.ceil(height * scale / TILE)
        return self.base + self.tile * tiles + self.extra


class Patches(msgspec.Struct, frozen=True):
    """Count patches: at most `most` of a picture that is scaled to it, and to `side` pixels."""

    per_mille: int = 1_000
    most: int = 1_536
    side: int = 2_048
    original_most: int = 0
    """The patches of a picture at the detail `original`; 0 for models that do not have it."""
    original_side: int = 6_000
    auto_is_original: bool = False

    def count(self, size: Size | None, detail: str) -> int:
        is_original = detail == "original" or (
            self.auto_is_original and detail not in ("low", "high")
        )
        most, side = self.most, self.side
        if is_original and self.original_most:
            most, side = self.original_most, self.original_side
        if detail == "low":
            most, side = (LOW_SIDE // PATCH) ** 2, LOW_SIDE
        patches = most if size is None else min(most, count_patches(size, most, side))
        return -(-patches * self.per_mille // 1_000)


def count_patches(size: Size, most: int, side: int) -> int:
    """Return how many patches a picture has that is scaled to so many, and to a longest side."""
    width, height = size
    scale = min(1.0, side / max(width, height))
    if cover(width * scale) * cover(height * scale) > most:
        scale = math.sqrt(PATCH * PATCH * most / (width * height))
        across, down = width * scale / PATCH, height * scale / PATCH
        scale *= min(max(1, int(across)) / across, max(1, int(down)) / down)
    return cover(width * scale) * cover(height * scale)


def cover(pixels: float) -> int:
    """Return how many patches cover a side. Scaling may be off by a rounding error."""
    return max(1, math.ceil(pixels / PATCH - 1e-9))


PLAIN = Tiles(85, 170)
ORIGINAL = Patches(most=2_500, original_most=10_000)
AUTO_ORIGINAL = Patches(most=2_500, original_most=10_000, auto_is_original=True)
UNSCALED = Patches(most=2_500, original_most=30_000, original_side=65_535, auto_is_original=True)
RULES: tuple[tuple[str, Tiles | Patches], ...] = (
    ("gpt-4o-mini", Tiles(2_833, 5_667)),
    ("gpt-4.1-mini", Patches(1_620)),
    ("gpt-4.1-nano", Patches(2_460)),
    ("gpt-5-mini", Patches(1_620)),
    ("gpt-5-nano", Patches(2_460)),
    ("gpt-5-codex", Patches()),
    ("gpt-5.1-codex", Patches()),
    ("gpt-5.4-mini", Patches(1_620)),
    ("gpt-5.4-nano", Patches(2_460)),
    ("gpt-5.1", Tiles(70, 140)),
    ("gpt-5.2", Patches()),
    ("gpt-5.3", Patches()),
    ("gpt-5.4", ORIGINAL),
    ("gpt-5.5", AUTO_ORIGINAL),
    ("gpt-5.", UNSCALED),
    ("gpt-5", Tiles(70, 140)),
    ("gpt-6", UNSCALED),
    ("o4-mini", Patches(1_720)),
    ("o1", Tiles(75, 150)),
    ("o3", Tiles(75, 150)),
    ("computer-use", Tiles(65, 129)),
    ("gpt-image", Tiles(65, 129, extra=6_240)),
)
"""The rule of a model by the beginning of its id, the first that fits. Others have `PLAIN`."""


def find_rule(model: str | None) -> Tiles | Patches:
    name = (model or "").rpartition("/")[2]
    for prefix, rule in RULES:
        if name.startswith(prefix):
            return rule
    return PLAIN


def find_size(data: bytes) -> Size | None:
    """Return the size that the first bytes of a PNG, JPEG, GIF or WebP state; None for others."""
    size = None
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        size = struct.unpack(">II", data[16:24])
    elif data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        size = struct.unpack("<HH", data[6:10])
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = _find_webp_size(data)
    elif data.startswith(b"\xff\xd8"):
        size = _find_jpeg_size(data)
    return size if size is not None and min(size) > 0 else None


def _find_webp_size(data: bytes) -> Size | None:
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    return None


def _find_jpeg_size(data: bytes) -> Size | None:
    """Go from marker to marker, up to the one that starts a frame."""
    at = 2
    for _ in range(MARKERS_MAX):
        if len(data) < at + 9 or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
