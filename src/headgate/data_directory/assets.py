"""Where the settings say that the contents of assets are kept."""

from __future__ import annotations

from headgate.assets.model.storage import StorageConfig, find_folder
from headgate.settings import InvalidSettingError, Settings, variable_of

FOLDER = "assets"


def build_storage_config(settings: Settings) -> StorageConfig:
    """Return where contents are kept: by default the folder `assets` of the data directory. Raise
    `InvalidSettingError`."""
    url = settings.assets_url or str(settings.data / FOLDER)
    try:
        folder = find_folder(url)
    except ValueError as error:
        variable = variable_of("assets_url")
        message = f"{variable} cannot be {url!r}: {error}."
        raise InvalidSettingError(message, param="assets_url") from error
    return StorageConfig(
        url=url,
        folder=folder,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key,
        session_token=settings.aws_session_token,
        region=settings.aws_region,
        endpoint=settings.aws_endpoint_url_s3,
    )
