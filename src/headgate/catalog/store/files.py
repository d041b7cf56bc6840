"""Manifest files: those that come with Headgate and those of the operator's folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from headgate.catalog.model.manifest import IntegrationManifest, InvalidCatalogError

DATA = Path(__file__).parents[1] / "data"


def read_manifest(path: Path) -> IntegrationManifest:
    """Read one manifest. Raise `InvalidCatalogError`."""
    try:
        with path.open("rb") as file:
            return msgspec.convert(tomllib.load(file), IntegrationManifest)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidCatalogError(f"{path.name}: {error}") from error
    except OSError as error:
        raise InvalidCatalogError(f"{path} cannot be read: {error.strerror}.") from error


def read_manifests(folder: Path = DATA) -> list[IntegrationManifest]:
    """Read every manifest of a folder, ordered by file name. Raise `InvalidCatalogError`."""
    if not folder.is_dir():
        raise InvalidCatalogError(f"{folder} is not a directory.")
    return [read_manifest(path) for path in sorted(folder.glob("*.toml"))]
