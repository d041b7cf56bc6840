"""Write structured logs to stderr: JSON lines, or readable ones at a terminal; never a secret."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog

_MASKS = (
    (re.compile(r"\b(hg_(?:live|admin)_[0-9A-Za-z]{12}_)[0-9A-Za-z]+"), r"\1…"),
    (re.compile(r"\b(hg_(?:live|admin)_)[0-9A-Za-z]{13,}"), r"\1…"),
    (re.compile(r"\b(hg_(?:oat|ort|oac)_)[0-9A-Za-z_-]{8,}"), r"\1…"),
    (re.compile(r"\b(sk-)[0-9A-Za-z_-]{6,}"), r"\1…"),
    # Our own messages name a header as `Bearer hg_live_...`, which is no secret.
    (re.compile(r"\b(bearer\s+)(?!hg_[a-z]+_\.\.\.)[^\s\"',…]+", re.IGNORECASE), r"\1…"),
    (re.compile(r"(\w://)[^\s/@\"'…]+@"), r"\1…@"),
    (re.compile(r"([?&][\w-]*(?:key|token|secret)=)[^&\s\"'…]+", re.IGNORECASE), r"\1…"),
)
SHOWN_DEPTH_MAX = 64
"""Levels of a value that are shown: a hostile one has as many as end the stack."""
OMITTED = "…"
_NOISE = frozenset({"color_message"})
"""Fields by which uvicorn repeats its message in colour."""


class SafeStream:
    """Wrap a stream and drop what it cannot write, so that a full disk ends no thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(stream: TextIO, *, level: str) -> None:
    """Send all logs, those of libraries too, to one stream, from `level` on."""
    pretty = stream.isatty()
    renderer = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", SafeStream(stream))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), drop_noise, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)


def catch_uncaught() -> None:
    """Log uncaught exceptions of all threads, and warnings, like everything else."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_of_thread
    sys.unraisablehook = _log_unraisable


def drop_noise(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in _NOISE & event.keys():
        del event[name]
    return event


def mask_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask whatever looks like a key, in values of any depth (a structlog processor)."""
    for name, value in event.items():
        if not name.startswith("_"):
            event[name] = mask_value(value)
    return event


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Log the exception that ends the process: masked, without local variables."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_of_thread(thrown: threading.ExceptHookArgs) -> None:
    if thrown.exc_value is not None and not isinstance(thrown.exc_value, SystemExit):
        _log_uncaught(thrown.exc_type, thrown.exc_value, thrown.exc_traceback)


def _log_unraisable(thrown: sys.UnraisableHookArgs) -> None:
    error = thrown.exc_value
    if error is not None:
        trace = (thrown.exc_type, error, thrown.exc_traceback)
        logging.getLogger(__name__).error("unraisable", exc_info=trace)


def mask_text(text: str) -> str:
    """Cut whatever looks like a key down to its public beginning."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text


def mask_value(value: Any, depth_max: int = SHOWN_DEPTH_MAX) -> Any:
    """Mask every text in a value of JSON. What is nested deeper is left out."""
    if depth_max < 0:
        return OMITTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value)
        return {str(name): mask_value(each, depth_max - 1) for name, each in items.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_value(each, depth_max - 1) for each in cast("list[Any]", value)]
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    return mask_text(str(value))
