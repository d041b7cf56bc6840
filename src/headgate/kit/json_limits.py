"""Refuse JSON that two parsers could read in two ways, or that is costly to parse.

Where a key comes twice, one parser reads its first value and another its last, so that one server
could allow what another one never sees. A number out of range is an infinity to some parsers,
invalid UTF-8 is replaced by others, and depth and masses of keys are an attack on whoever parses
them next.

Usual bodies are proven clean in C: a value that is decoded and encoded again has lost a key, and so
two quotes, for each key that came twice. Only bodies that this does not prove clean, or that are
large, are scanned.
"""

from __future__ import annotations

import codecs
import gc
import math
import re

import msgspec

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_key_decoder = msgspec.json.Decoder(str)

_TOKEN = re.compile(rb'([^"{}\[\]]*+)(?:("[^"]*+")([ \t\r\n]*+:)?|([{}\[\]])|"|\Z)')
"""What lies between, then a string (a key with its colon) or a bracket.

It matches at every offset, also of invalid JSON, so that a search never backtracks."""
_GAP, _STRING, _KEY, _BRACKET = 1, 2, 3, 4
_NUMBER_BYTES_SHORT = 5
"""`1e999`: nothing shorter is out of range."""
_DIGITS_SHORT = 200
"""A number of this many digits and an exponent of two digits is still in range."""
_DIGITS_MAX = 4300
"""Python's own limit for converting a decimal integer."""
_SHAPES = bytes.maketrans(b"123456789E", b"000000000e")
_LARGE_SHAPES = (b"e000", b"e+000", b"0" * _DIGITS_SHORT)
_LARGE_NUMBER = re.compile(
    rb"-?[0-9.]{%d,}(?:[eE][+-]?[0-9]+)?|-?[0-9.]+[eE]\+?[0-9]{3,}" % _DIGITS_SHORT
)
_PLAIN_BYTES_MAX = 64 * 1024
_COUNTED_BYTES_MAX = 4 * 1024
"""Up to this size, counting brackets is faster than going through levels."""
_PIECE_BYTES = 64 * 1024
_PATH_NAMES_MAX = 8
_NAME_CHARACTERS_MAX = 64


class JsonLimitError(Exception):
    """Refuse JSON: what is wrong, at which byte, and the path of the field if known."""

    def __init__(self, message: str, *, offset: int, path: str | None = None) -> None:
        super().__init__(message)
        self.message = f"{message} (byte {offset})"
        self.path = path


class JsonLimits:
    """Limit levels, keys, and items (strings, objects, arrays, huge numbers) of a body.

    A body of up to `plain_bytes_max` is tried in C first: it cannot have too many keys or items,
    and takes little memory.
    """

    __slots__ = ("depth_max", "items_max", "keys_max", "plain_bytes_max")

    def __init__(
        self, *, depth_max: int = 64, keys_max: int = 100_000, items_max: int = 100_000
    ) -> None:
        self.depth_max = depth_max
        self.keys_max = keys_max
        self.items_max = items_max
        self.plain_bytes_max = min(
            len(b'"":0,') * keys_max, len(b"[]") * items_max, _PLAIN_BYTES_MAX
        )


def check(body: bytes, limits: JsonLimits) -> None:
    """Raise `JsonLimitError`, and nothing else, for a body that is JSON but may not pass. Whether
    it is JSON at all is left to the parser: for other bodies, the result means nothing."""
    if len(body) > limits.plain_bytes_max or not _is_clean(body, limits.depth_max):
        scan(body, limits)


def scan(body: bytes, limits: JsonLimits) -> None:
    """Check a body by its strings and brackets: exact, and without a copy of the values."""
    _check_encoding(body)
    # Of the same length, so that offsets in `text` are offsets in the body.
    text = body
    if b"\\" in body:
        text = body.replace(rb"\\", b"__").replace(rb"\"", b"__")
    _JsonScan(body, limits).run(text)


def _is_clean(body: bytes, depth_max: int) -> bool:
    # `written` lacks two quotes for each key that came twice. An escape `\u0022` is written with a
    # quote, which could make up for them, so a body with one is scanned.
    try:
        value = _decoder.decode(body)
        written = _encoder.encode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    if written != body and (b"u0022" in body or written.count(b'"') != body.count(b'"')):
        return False
    if len(body) <= _COUNTED_BYTES_MAX and body.count(b"{") + body.count(b"[") <= depth_max:
        return True
    return _is_shallow(value, depth_max)


def _is_shallow(value: object, depth_max: int) -> bool:
    """Go down level by level in C: the collector tracks each list, and each dict that holds one."""
    level = [value]
    for _ in range(depth_max - 1):
        level = [*filter(gc.is_tracked, gc.get_referents(*level))]
        if not level:
            return True
    return False


def _check_encoding(body: bytes) -> None:
    if body.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    for start in range(0, len(body), _PIECE_BYTES):
        held = len(decoder.getstate()[0])
        piece = view[start : start + _PIECE_BYTES]
        try:
            decoder.decode(piece, final=start + _PIECE_BYTES >= len(body))
        except UnicodeDecodeError as error:
            offset = start - held + error.start
            raise JsonLimitError("The text is not valid UTF-8", offset=offset) from None


class _JsonScan:
    def __init__(self, body: bytes, limits: JsonLimits) -> None:
        self._body = body
        self._limits = limits
        self._levels: list[tuple[set[bytes], bytes]] = []
        self._name = b""

    def run(self, text: bytes) -> None:
        """Scan the tokens of `text`: the body, with quotes only where strings begin or end. One
        loop without calls, because a hostile body has very many tokens."""
        body, levels, limits = self._body, self._levels, self._limits
        keys: set[bytes] = set()
        keys_max, items_max, depth_max = limits.keys_max, limits.items_max, limits.depth_max
        items = key_count = depth = 0
        for token in _TOKEN.finditer(text):
            start = token.start()
            if token.end(_GAP) - start >= _NUMBER_BYTES_SHORT:
                items += self._check_numbers(token[_GAP], start)
            kind = token.lastindex
            if kind == _KEY:
                name = body[token.start(_STRING) + 1 : token.end(_STRING) - 1]
                if b"\\" in name:
                    name = _unescape(name, start)
                if name in keys:
                    message = f"The key '{_render_name(name)}' comes twice in one object"
                    raise self._build_error(message, token.start(_STRING), name)
                keys.add(name)
                self._name = name
                key_count += 1
            elif kind == _BRACKET and token[_BRACKET] in b"}]":
                if not levels:  # invalid JSON: left to the parser
                    return
                keys, self._name = levels.pop()
                continue
            else:
                items += 1
                if kind == _BRACKET:
                    levels.append((keys, self._name))
                    keys = set()
                    self._name = b""
                    depth = len(levels)
            if key_count > keys_max or items > items_max or depth > depth_max:
                raise self._build_size_error(token.end() - 1, key_count)

    def _build_size_error(self, offset: int, key_count: int) -> JsonLimitError:
        depth_max = self._limits.depth_max
        if len(self._levels) > depth_max:
            message = f"Objects and arrays are nested deeper than {depth_max}"
            return JsonLimitError(message, offset=offset)
        if key_count > self._limits.keys_max:
            return JsonLimitError(
                f"There are more than {self._limits.keys_max} keys", offset=offset
            )
        return JsonLimitError(f"There are more than {self._limits.items_max} values", offset=offset)

    def _check_numbers(self, gap: bytes, start: int) -> int:
        """Check the large numbers between two tokens, and return how many there were."""
        shapes = gap.translate(_SHAPES)
        long, signed, digits = _LARGE_SHAPES
        if not (long in shapes or signed in shapes or digits in shapes):
            return 0
        count = 0
        for count, number in enumerate(_LARGE_NUMBER.finditer(gap), 1):
            if count > self._limits.items_max:
                break
            if _is_out_of_range(number[0]):
                offset = start + number.start()
                raise self._build_error("A number is out of range", offset, self._name)
        return count

    def _build_error(self, message: str, offset: int, name: bytes) -> JsonLimitError:
        names = [each for each in (*(above for _, above in self._levels), name) if each]
        path = ".".join(map(_render_name, names[:_PATH_NAMES_MAX]))
        return JsonLimitError(message, offset=offset, path=path or None)


def _is_out_of_range(number: bytes) -> bool:
    if number[: _DIGITS_MAX + 2].lstrip(b"-").isdigit():
        return len(number.lstrip(b"-")) > _DIGITS_MAX
    try:
        return math.isinf(float(number))
    except ValueError:  # invalid JSON: left to the parser
        return False


def _unescape(name: bytes, offset: int) -> bytes:
    try:
        return _key_decoder.decode(b'"%b"' % name).encode()
    except msgspec.MsgspecError:
        raise JsonLimitError("A key has an invalid escape", offset=offset) from None


def _render_name(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:_NAME_CHARACTERS_MAX]
