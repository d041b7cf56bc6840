"""What may be wrong with an asset."""

from __future__ import annotations

from headgate.kit.errors import HeadgateError, Kind


class InvalidAssetError(HeadgateError):
    """A field of the upload is missing, malformed, or given beside another one.

    Give exactly one of `source_url`, `content`, `content_text` and `handle`, and correct the field
    that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_asset"


class MediaTypeError(HeadgateError):
    """The file is of a type that is not accepted, or not of the type that its name, its sender or
    its server says.

    Name the type that it really has, or convert the file; docs/assets.md lists the types.
    """

    kind = Kind.INVALID
    code = "media_type_refused"


class AssetTooLargeError(HeadgateError):
    """The file is larger than files of its type may be.

    Make it smaller: images and documents may have 5 MB, fonts 2 MB, other files 1 MB.
    """

    kind = Kind.TOO_LARGE
    code = "asset_too_large"
    recovery = "Make the file smaller, for example with a lower quality."


class AssetQuotaError(HeadgateError):
    """The organization has as many assets, or bytes of them, as it may have.

    Remove some, or raise `HEADGATE_ASSETS_MAX` or `HEADGATE_ASSETS_BYTES_MAX`.
    """

    kind = Kind.CONFLICT
    code = "asset_quota"
    recovery = "Ask the owner of the organization to remove assets."


class AssetExistsError(HeadgateError):
    """The project has an asset of this slug.

    Choose another slug, or upload with `overwrite` to replace its content.
    """

    kind = Kind.CONFLICT
    code = "asset_exists"
    recovery = "Choose another slug, or set overwrite to true."


class AssetNotFoundError(HeadgateError):
    """There is no such asset.

    List the assets for the right id.
    """

    kind = Kind.MISSING
    code = "not_found"


class SourceNotReadableError(HeadgateError):
    """The file could not be fetched from `source_url`.

    Check the address, or send the content itself.
    """

    kind = Kind.UPSTREAM
    code = "source_unreadable"
    recovery = "Check the address, or give the file itself."


class TooManyUploadsError(HeadgateError):
    """The server handles as many uploads as it may at a time.

    Try again a little later.
    """

    kind = Kind.UNAVAILABLE
    code = "too_many_uploads"


class ObjectStorageError(HeadgateError):
    """The store of files does not answer, or refuses. The log of the server has the reason.

    Try again later. An operator checks `HEADGATE_ASSETS_URL` and its access keys.
    """

    kind = Kind.UNAVAILABLE
    code = "object_storage_unavailable"
