"""Everything the simulator remembers between two requests, each part bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.simulator.exchange import Call, Reply, Stream
from headgate.simulator.settings import Settings
from headgate.simulator.shelf import Shelf

Object = dict[str, Any]
Run = Callable[[Call], Reply | Stream]


def _refuse_to_run(call: Call) -> Reply | Stream:
    raise RuntimeError(f"no application answers {call.path}")


class StoredFile:
    """A file: its description and its bytes."""

    def __init__(self, info: Object, data: bytes) -> None:
        self.info = info
        self.data = data


class Kept:
    """A stored answer with what it answered to."""

    def __init__(self, answer: Object, inputs: list[Object]) -> None:
        self.answer = answer
        self.inputs = inputs


class Folder:
    """An object that holds others in order: a conversation, a vector store, an upload."""

    def __init__(self, info: Object, objects_max: int) -> None:
        self.info = info
        self.items = Shelf[Object](objects_max)


class Memory:
    """The shelves, one for each kind of object. `run` answers a call as if it had come in."""

    def __init__(self, settings: Settings) -> None:
        bound = settings.objects_max
        self.run: Run = _refuse_to_run
        self.objects_max = bound
        self.chats = Shelf[Kept](bound)
        self.responses = Shelf[Kept](bound)
        self.files = Shelf[StoredFile](
            bound, bytes_max=settings.files_bytes_max, measure=lambda stored: len(stored.data)
        )
        self.parts = Shelf[StoredFile](
            bound, bytes_max=settings.files_bytes_max, measure=lambda stored: len(stored.data)
        )
        self.uploads = Shelf[Object](bound)
        self.batches = Shelf[Object](bound)
        self.vector_stores = Shelf[Folder](bound)
        self.conversations = Shelf[Folder](bound)
