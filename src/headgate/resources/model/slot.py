"""The place of one model in a resource: which model, through which credential, how patiently."""

from __future__ import annotations

from typing import Annotated

import msgspec

from headgate.relay.targets import CREDENTIALS_MAX

MODEL_CHARACTERS_MAX = 256
NAME_CHARACTERS_MAX = 128
RETRIES_MAX = 10
TIMEOUT_MILLISECONDS_MIN = 100
TIMEOUT_MILLISECONDS_MAX = 600_000
WEIGHT_MAX = 1_000

ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=MODEL_CHARACTERS_MAX)]
CredentialReference = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]


class WeightedCredential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold one of several credentials that share the calls of a target. `credential_id` wins over
    `credential_name`."""

    credential_id: CredentialReference | None = None
    credential_name: CredentialReference | None = None
    weight: Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)] = 1


class ModelSlot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold one model of a resource, the credential that carries its calls, and how patient they
    are. Without a credential, a call takes the one that it would take without a resource."""

    model: ModelName
    provider: Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)] = ""
    credential_id: CredentialReference | None = None
    credential_name: CredentialReference | None = None
    credentials: Annotated[
        tuple[WeightedCredential, ...], msgspec.Meta(max_length=CREDENTIALS_MAX)
    ] = ()
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=RETRIES_MAX)] = 0
    timeout_ms: (
        Annotated[int, msgspec.Meta(ge=TIMEOUT_MILLISECONDS_MIN, le=TIMEOUT_MILLISECONDS_MAX)]
        | None
    ) = None
