"""The matrix as data: the expected verdict of each script on each wire.

A verdict is one of
- `ok`: the answer is whole, and is settled as completed;
- `502`, `504`: an error of the gateway, before anything of the answer;
- `p429` and the like: the provider's own refusal, passed on with its status;
- `frame`: a stream that had begun ends in an error event of its wire;
- `cut`: a body without events of its own ends short, so that its reader notices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headgate_simulator.fault_server import catalogue
from headgate_simulator.fault_server.wires import CHAT, EMBEDDINGS, RAW, RESPONSES

PLACES = {
    "U1.refused": "refused",
    "U2.blackhole": "blackhole",
    "U3.plain": "plain",
    "U3.self-signed": "self_signed",
}
"""Faults before any HTTP are addresses to connect to, not scripts."""
SHAPES = (
    (CHAT, False),
    (CHAT, True),
    (RESPONSES, False),
    (RESPONSES, True),
    (EMBEDDINGS, False),
    (RAW, False),
    (RAW, True),
)
"""Every wire, streamed and not; embeddings have no streamed form."""


@dataclass(frozen=True)
class Expected:
    """Hold the verdicts of a script for a buffered answer, a stream, a raw body and a raw stream;
    `|` separates several. `attempts` is the least and the most that the provider may see.
    """

    buffered: str
    streamed: str
    raw: str
    raw_streamed: str
    attempts: tuple[int, int] = (1, 1)

    def verdicts(self, wire: str, streams: bool) -> tuple[str, ...]:
        """Return the verdicts that are allowed on this wire."""
        if wire == RAW:
            return tuple((self.raw_streamed if streams else self.raw).split("|"))
        return tuple((self.streamed if streams else self.buffered).split("|"))


@dataclass(frozen=True)
class Cell:
    """Describe one call of the matrix. `name` is the script's; `spec` has its options too."""

    name: str
    spec: str
    wire: str
    streams: bool
    expected: Expected

    @property
    def shape(self) -> str:
        return f"{self.wire}{' stream' if self.streams else ''}"


def _all(verdict: str, attempts: tuple[int, int] = (1, 1)) -> Expected:
    return Expected(verdict, verdict, verdict, verdict, attempts)


_OK = _all("ok")
_BROKEN_BODY = Expected("502", "frame", "cut", "cut")
_LATE_BODY = Expected("504", "frame", "cut", "cut")
_REFUSED = _all("502", (0, 0))

EXPECTED: dict[str, Expected] = {
    **dict.fromkeys(PLACES, _REFUSED),
    "good": _OK,
    "U4.reset": _all("502"),
    "U4.close": _all("502"),
    "U5.reset": _all("502"),
    "U5.close": _all("502"),
    "U5.noise": _all("502"),
    "U5.status": _all("502"),
    "U6.in-body": _BROKEN_BODY,
    "U6.after-head": _BROKEN_BODY,
    "U6.between": _BROKEN_BODY,
    "U7.end": Expected("502", "frame", "ok", "ok"),
    "U7.close": _BROKEN_BODY,
    "U7.no-length": Expected("502", "frame", "ok", "ok"),
    "U8.late": _all("504"),
    "U9.stall": _LATE_BODY,
    "U9.after-head": _LATE_BODY,
    "U10.drip": _LATE_BODY,
    "U11.malformed": Expected("502", "ok", "ok", "ok"),
    "U11.html": Expected("502", "502", "ok", "ok"),
    "U11.empty": Expected("502", "502", "ok", "ok"),
    "U11.list": Expected("502", "502", "ok", "ok"),
    "U11.null": Expected("502", "502", "ok", "ok"),
    "U11.bytes": Expected("502", "502", "ok", "ok"),
    "U12.truncated": Expected("502", "frame", "ok", "ok"),
    "U13.crlf": _OK,
    "U13.cr": _OK,
    "U13.mixed": _OK,
    "U13.bom": Expected("502", "ok", "ok", "ok"),
    "U13.long": Expected("502", "ok", "ok", "ok"),
    "U14.split": _OK,
    "U14.bytes": _OK,
    "U15.error": Expected("p502", "frame", "ok", "ok"),
    "U16.error": Expected("ok", "frame", "ok", "ok"),
    "U17.second": _all("p429", (2, 3)),
    "U17.hour": _all("p429"),
    "U17.date": _all("p429"),
    "U17.garbage": _all("p429", (3, 3)),
    "U17.negative": _all("p429", (3, 3)),
    **{f"U18.{status}": _all(f"p{status}", (3, 3)) for status in (500, 502, 503, 529)},
    "U19.long": Expected("502", "ok", "cut", "cut"),
    "U19.short": Expected("502", "frame", "ok", "ok"),
    "U19.huge": Expected("502", "ok", "cut", "cut"),
    "U19.negative": _all("502"),
    "U19.twice": _all("502"),
    "U19.chunked": _all("502"),
    # Two gibibytes pass where nothing is buffered, unless they outlast the call's deadline.
    "U20.flood": Expected("502", "frame", "ok|cut", "ok|cut"),
    "U20.announced": Expected("502", "frame", "ok|cut", "ok|cut"),
    **{
        f"U21.{coding}": Expected("502", "502|frame", "ok", "502|cut")
        for coding in ("gzip", "br", "zstd", "nested")
    },
    "U21.error": _all("p400"),
    "U21.retried": _all("p503", (1, 3)),
    "U21.redirect": _all("502"),
    "U22.private": _all("502"),
    "U22.other": _all("502"),
    "U23.inject": _all("502"),
    "U23.large": _all("502"),
    "U23.many": _all("502"),
    "U23.cookie": _OK,
    "U23.echo-header": _OK,
    "U23.echo-body": _OK,
    "U23.echo-pieces": _OK,
    "U23.echo-error": _all("p401"),
    "U23.echo-event": Expected("p502", "frame", "ok", "ok"),
    **{name: _OK for name in catalogue.SCRIPTS if name.startswith("U24.")},
}
OPTIONS = {
    "U10.drip": "seconds=0.25",
    "U14.split": "at=77",
    "U20.flood": "bytes=25165824",
    "U20.announced": "bytes=25165824",
}
"""Options of scripts whose defaults are made for the default deadlines."""
REPEATED = {"U4.reset": 3}
"""Attempts of a request that is safe to repeat (a raw body is read by GET) and is sent again on
another connection."""
FAILED_WHOLE = frozenset({"U16.error"})
"""A whole answer that says that it failed is recorded as failed."""
FREE = ("U1.", "U2.", "U3.", "U21.redirect", "U22.")
"""Errors of the gateway for which nothing is charged: nothing was sent, or a redirect came back."""
HEAVY = ("U13.long", "U20.", "U21.", "U23.large")
"""Scripts that run alone, because their memory is measured."""


def is_heavy(cell: Cell) -> bool:
    """Return whether the cell needs so much time or memory that it runs alone."""
    return cell.name.startswith(HEAVY)


def list_cells(options: dict[str, str] | None = None) -> Iterator[Cell]:
    """Return every cell, with the options of `OPTIONS` and these."""
    chosen = OPTIONS | (options or {})
    for name, expected in EXPECTED.items():
        spec = f"{name},{chosen[name]}" if name in chosen else name
        for wire, streams in SHAPES:
            yield Cell(name, spec, wire, streams, expected)
