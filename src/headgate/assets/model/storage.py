"""Where the contents of assets and handles are kept."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

S3_SCHEMES = ("s3", "s3a")


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Name a folder, or a bucket by its URL (`s3://bucket/prefix`), to which the fields after
    `folder` belong."""

    url: str
    folder: Path | None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    region: str | None = None
    endpoint: str | None = None

    def __repr__(self) -> str:
        return f"StorageConfig({self.url})"


def find_folder(url: str) -> Path | None:
    """Return the folder that a path or a `file://` URL names, None for a bucket. Raise ValueError
    for what names neither."""
    parts = urlsplit(url)
    if parts.scheme in S3_SCHEMES:
        if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("a bucket is named as s3://bucket/prefix, without anything else")
        return None
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return Path(unquote(parts.path))
    if parts.scheme or not url:
        raise ValueError("it is neither a folder nor s3://bucket/prefix")
    return Path(url)
