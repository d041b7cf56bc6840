"""Everything the simulator remembers between two requests, each part bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headgate_simulator.exchange import Call, Reply, Stream
from headgate_simulator.settings import Settings
from headgate_simulator.shelf import Shelf

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
    """An object that holds others in order: a conversation, a vector store."""

    def __init__(self, info: Object, settings: Settings) -> None:
        self.info = info
        bytes_max = settings.objects_bytes_max // settings.folders_max
        self.items = Shelf[Object](settings.objects_max, bytes_max=bytes_max, measure=weigh)


class Memory:
    """The shelves, one for each kind of object. `run` answers a call as if it had come in."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.run: Run = _refuse_to_run
        count, size = settings.objects_max, settings.objects_bytes_max
        files = settings.files_bytes_max
        self.chats = Shelf[Kept](count, bytes_max=size, measure=_weigh_kept)
        self.responses = Shelf[Kept](count, bytes_max=size, measure=_weigh_kept)
        self.files = Shelf[StoredFile](count, bytes_max=files, measure=_weigh_file)
        self.parts = Shelf[StoredFile](count, bytes_max=files, measure=_weigh_file)
        self.uploads = Shelf[Object](count, bytes_max=size, measure=weigh)
        self.batches = Shelf[Object](count, bytes_max=size, measure=weigh)
        folders = settings.folders_max
        self.vector_stores = Shelf[Folder](folders, bytes_max=size, measure=_weigh_folder)
        self.conversations = Shelf[Folder](folders, bytes_max=size, measure=_weigh_folder)


def weigh(thing: Object) -> int:
    """The size of an object as JSON, in bytes."""
    return len(msgspec.json.encode(thing))


def _weigh_kept(kept: Kept) -> int:
    return weigh(kept.answer) + len(msgspec.json.encode(kept.inputs))


def _weigh_file(stored: StoredFile) -> int:
    return len(stored.data)


def _weigh_folder(folder: Folder) -> int:
    return weigh(folder.info)
