"""Everything that the simulator remembers between two requests, each part bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from headgate_simulator.bounded_store import BoundedStore
from headgate_simulator.messages import ApiRequest, ApiResponse, EventStream
from headgate_simulator.settings import SimulatorSettings

Object = dict[str, Any]
Run = Callable[[ApiRequest], ApiResponse | EventStream]


def _refuse_to_run(request: ApiRequest) -> ApiResponse | EventStream:
    raise RuntimeError(f"no application answers {request.path}")


class StoredFile:
    def __init__(self, info: Object, data: bytes) -> None:
        self.info = info
        self.data = data


class StoredAnswer:
    """Hold a stored answer with the input that it answered. A background response is done at
    `done_at`, in monotonic seconds."""

    def __init__(self, answer: Object, inputs: list[Object], done_at: float = 0.0) -> None:
        self.answer = answer
        self.inputs = inputs
        self.done_at = done_at


class StoredCollection:
    """Hold an object with others in order: a conversation, a vector store."""

    def __init__(self, info: Object, settings: SimulatorSettings) -> None:
        self.info = info
        bytes_max = settings.objects_bytes_max // settings.collections_max
        self.items = BoundedStore[Object](settings.objects_max, bytes_max=bytes_max, measure=weigh)


class Memory:
    """Hold one bounded store per kind of object; `run` answers a request as if it had come in."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.monotonic: Callable[[], float] = time.monotonic
        # Set by the application; a batch calls back through it, without an import of the routes.
        self.run: Run = _refuse_to_run
        count, size = settings.objects_max, settings.objects_bytes_max
        files = settings.files_bytes_max
        self.chats = BoundedStore[StoredAnswer](count, bytes_max=size, measure=_weigh_answer)
        self.responses = BoundedStore[StoredAnswer](count, bytes_max=size, measure=_weigh_answer)
        self.files = BoundedStore[StoredFile](count, bytes_max=files, measure=_weigh_file)
        self.parts = BoundedStore[StoredFile](count, bytes_max=files, measure=_weigh_file)
        self.uploads = BoundedStore[Object](count, bytes_max=size, measure=weigh)
        self.batches = BoundedStore[Object](count, bytes_max=size, measure=weigh)
        folders = settings.collections_max
        self.vector_stores = BoundedStore[StoredCollection](
            folders, bytes_max=size, measure=_weigh_folder
        )
        self.conversations = BoundedStore[StoredCollection](
            folders, bytes_max=size, measure=_weigh_folder
        )


def weigh(thing: Object) -> int:
    """Return the size of an object as JSON, in bytes."""
    return len(msgspec.json.encode(thing))


def _weigh_answer(stored: StoredAnswer) -> int:
    return weigh(stored.answer) + len(msgspec.json.encode(stored.inputs))


def _weigh_file(stored: StoredFile) -> int:
    return len(stored.data)


def _weigh_folder(collection: StoredCollection) -> int:
    return weigh(collection.info)
