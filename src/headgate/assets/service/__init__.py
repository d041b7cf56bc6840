"""Decisions about assets and handles, and the store of their contents."""

from headgate.assets.service.assets import AssetService, StoredUpload
from headgate.assets.service.files import AssetFiles
from headgate.assets.service.handles import Handles
from headgate.assets.service.objects import ObjectStorage
from headgate.assets.service.sources import SourceReader
from headgate.assets.store.assets import ASSETS, list_objects
from headgate.assets.store.handles import HANDLES
from headgate.assets.store.removals import REMOVALS

__all__ = [
    "ASSETS",
    "HANDLES",
    "REMOVALS",
    "AssetFiles",
    "AssetService",
    "Handles",
    "ObjectStorage",
    "SourceReader",
    "StoredUpload",
    "list_objects",
]
