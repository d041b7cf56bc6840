"""Key services that keep the master key: AWS KMS, Google Cloud KMS, transit (M13, V3, V4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate import settings as kit_settings
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.process.hardening import erase_variables
from headgate.main.master_keys import build_source
from headgate.settings import SECRETS, InvalidSettingError, Settings, variable_of
from headgate.vault.model.base_url import parse_base_url
from headgate.vault.model.keys import InvalidMasterKeyError, MasterKeyState
from headgate.vault.service import (
    KeyServiceUnavailableError,
    LocalMasterKey,
    RemoteSource,
    store_master_key,
)
from headgate.vault.service.master_key import aws_kms, gcp_kms
from headgate.vault.service.master_key.signing import Signer, derive_key
from headgate.vault.service.master_key.signing import (
    _sign as sign_any,  # pyright: ignore[reportPrivateUsage]
)
from headgate.vault.store import keys as key_store
from tests.fakes import kms
from tests.fakes.kms import KeyServices, running_key_services

PROVIDERS = ("aws-kms", "gcp-kms", "transit")
FIRST_QUESTIONS = {"aws-kms": 2, "gcp-kms": 4, "transit": 2}


@pytest.fixture(scope="module")
def module_services() -> Iterator[KeyServices]:
    with running_key_services() as running:
        yield running


@pytest.fixture
def services(module_services: KeyServices) -> KeyServices:
    module_services.seen.clear()
    module_services.changed, module_services.status = {}, None
    return module_services


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "headgate.db")
    METADATA.create_all(database.engine, tables=[key_store.MASTER_KEYS])
    yield database
    database.close()


def configure(services: KeyServices, provider: str, tmp_path: Path, **changes: Any) -> Settings:
    account = tmp_path / "account.json"
    account.write_text(json.dumps(services.account_file()))
    own: dict[str, dict[str, Any]] = {
        "aws-kms": {
            "master_key_name": kms.ARN,
            "aws_access_key_id": kms.ACCESS_KEY,
            "aws_secret_access_key": kms.SECRET_KEY,
        },
        "gcp-kms": {
            "master_key_name": kms.RESOURCE,
            "google_application_credentials": account,
        },
        "transit": {"master_key_name": kms.TRANSIT_KEY, "vault_token": kms.TRANSIT_TOKEN},
    }
    given: dict[str, Any] = {"master_key_provider": provider, "data": tmp_path}
    given |= {"master_key_address": services.url, **own[provider], **changes}
    return Settings(**given)


def start_first(settings: Settings, database: Database) -> LocalMasterKey:
    """Create and store a master key, as the first start does."""
    source = build_source(settings)
    with database.reading() as connection:
        assert source.find(connection) is None
    key = source.create()
    with database.transaction() as connection:
        store_master_key(connection, key, now=1.0)
    return key


def start_again(settings: Settings, database: Database) -> LocalMasterKey:
    with database.reading() as connection:
        found = build_source(settings).find(connection)
    assert found is not None
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
def test_key_that_a_service_wraps_comes_back_at_each_start(
    services: KeyServices, database: Database, provider: str, tmp_path: Path
) -> None:
    settings = configure(services, provider, tmp_path)
    made = start_first(settings, database)
    asked_at_first = len(services.seen)
    found = start_again(settings, database)
    box = made.wrap(b"key", bound_to=b"here")
    assert found.unwrap(box, bound_to=b"here") == b"key"
    assert asked_at_first == FIRST_QUESTIONS[provider]
    assert len(services.seen) - asked_at_first == FIRST_QUESTIONS[provider] / 2
    with database.reading() as connection:
        [record] = key_store.select_master_keys(connection).values()
    assert (record.provider, record.key_name) == (provider, settings.master_key_name)
    assert made._key.material not in (record.wrapped or b"")  # pyright: ignore[reportPrivateUsage]


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_wrapped_key_that_was_changed_or_moved_stops_the_start(
    services: KeyServices, database: Database, provider: str, tmp_path: Path
) -> None:
    settings = configure(services, provider, tmp_path)
    start_first(settings, database)
    with database.reading() as connection:
        [record] = key_store.select_master_keys(connection).values()
    other = build_source(settings).create().provenance.wrapped
    wrapped = record.wrapped or b""
    changes: list[tuple[str, Any]] = [("wrapped", other), ("wrapped", None), ("id", "00" * 8)]
    changes += [("wrapped", flip(wrapped, bit)) for bit in (0, 90, len(wrapped) * 8 - 9)]
    for name, value in changes:
        with database.transaction() as connection:
            key_store.delete_master_key(connection, record.id)
            changed = msgspec.structs.replace(record, **{name: value})
            key_store.insert_master_key(connection, changed)
        with pytest.raises((KeyServiceUnavailableError, InvalidMasterKeyError)):
            start_again(settings, database)
        with database.transaction() as connection:
            key_store.delete_master_key(connection, changed.id)
            key_store.insert_master_key(connection, record)
    start_again(settings, database)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("aws-kms", {"aws_secret_access_key": "wrong"}, r"status 400, InvalidSignatureException.*AWS_"),
    ("aws-kms", {"aws_access_key_id": "AKIAOTHER"}, "InvalidSignatureException"),
    ("aws-kms", {"master_key_name": kms.ARN[:-1] + "c"}, "NotFoundException"),
    ("gcp-kms", {"master_key_name": kms.RESOURCE + "x"}, "NOT_FOUND.*cryptoKeyEncrypterDecrypter"),
    ("transit", {"vault_token": "wrong"}, r"status 403\)\. Check .*policy"),
    ("transit", {"master_key_name": "other/headgate"}, "status 404"),
]


@pytest.mark.parametrize(("provider", "change", "said"), WRONG)
def test_what_a_service_refuses_is_told_without_a_secret(
    services: KeyServices, provider: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = build_source(configure(services, provider, tmp_path, **change))
    with pytest.raises(KeyServiceUnavailableError, match=said) as caught:
        source.create()
    assert f"at {services.url}" in caught.value.message
    for secret in (kms.SECRET_KEY, kms.TRANSIT_TOKEN, kms.BEARER, "wrong"):
        assert secret not in caught.value.message


@pytest.mark.parametrize("provider", PROVIDERS)
def test_service_that_does_not_answer_or_answers_nonsense_is_named(
    services: KeyServices, provider: str, tmp_path: Path
) -> None:
    address = {"master_key_address": "http://127.0.0.1:9", "master_key_seconds": 2.0}
    source = build_source(configure(services, provider, tmp_path, **address))
    with pytest.raises(
        KeyServiceUnavailableError, match=r"at http://127.0.0.1:9 does not answer.*Check"
    ):
        source.create()
    services.status = 503
    with pytest.raises(KeyServiceUnavailableError, match="status 503"):
        build_source(configure(services, provider, tmp_path)).create()
    services.status = None
    for name in ("CiphertextBlob", "Plaintext", "ciphertext", "plaintext", "data", "access_token"):
        services.changed[name] = 7
    with pytest.raises(KeyServiceUnavailableError, match="answers without"):
        build_source(configure(services, provider, tmp_path)).create()


def test_service_that_gives_back_another_key_is_not_trusted(
    services: KeyServices, tmp_path: Path
) -> None:
    services.changed = {"Plaintext": "AAAA"}
    with pytest.raises(InvalidMasterKeyError, match="gives back another key than it was given"):
        build_source(configure(services, "aws-kms", tmp_path)).create()


def test_database_under_another_key_says_which_settings_it_needs(
    services: KeyServices, database: Database, tmp_path: Path
) -> None:
    start_first(configure(services, "transit", tmp_path), database)
    wanted = "HEADGATE_MASTER_KEY_PROVIDER=transit and HEADGATE_MASTER_KEY_NAME=transit/headgate"
    for change in ({"master_key_provider": "local"}, {"master_key_name": "transit/other"}):
        with pytest.raises(InvalidMasterKeyError, match=wanted):
            start_again(configure(services, "transit", tmp_path, **change), database)
    local = {"master_key_provider": "local", "master_key": LOCAL_KEY}
    with pytest.raises(InvalidMasterKeyError, match=wanted):
        start_again(configure(services, "transit", tmp_path, **local), database)
    with database.transaction() as connection:
        [record] = key_store.select_master_keys(connection).values()
        key_store.set_master_key_state(
            connection, record.id, MasterKeyState.RETIRED, retired_at=1.0
        )
    with pytest.raises(InvalidMasterKeyError, match="This database has no active master key"):
        start_again(configure(services, "transit", tmp_path), database)


LOCAL_KEY = "fbff3a915e22d84b06ee19a374b5f12dfbff3a915e22d84b06ee19a374b5f12d"

MISSING: list[tuple[dict[str, Any], str]] = [
    ({"master_key_provider": "aws-kms"}, "HEADGATE_MASTER_KEY_NAME is missing.*ARN"),
    ({"master_key_provider": "aws-kms", "master_key_name": "alias/x"}, "AWS_REGION is missing"),
    ({"master_key_provider": "aws-kms", "master_key_name": kms.ARN}, "AWS_ACCESS_KEY_ID is miss"),
    ({"master_key_provider": "gcp-kms", "master_key_name": "x"}, "HEADGATE_MASTER_KEY_NAME is wr"),
    ({"master_key_provider": "transit", "master_key_name": "a?b"}, "MASTER_KEY_NAME is wrong"),
    ({"master_key_provider": "transit", "master_key_name": "a/b"}, "MASTER_KEY_ADDRESS is missing"),
    (
        {
            "master_key_provider": "transit",
            "master_key_name": "a/b",
            "master_key_address": "https://host",
        },
        "HEADGATE_VAULT_TOKEN is missing.*HEADGATE_VAULT_TOKEN_FILE",
    ),
    (
        {
            "master_key_provider": "transit",
            "master_key_name": "a/b",
            "master_key_address": "https://user:hunter2@host",
        },
        "HEADGATE_MASTER_KEY_ADDRESS cannot be used",
    ),
]


@pytest.mark.parametrize(("given", "said"), MISSING)
def test_setting_that_a_service_needs_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettingError, match=said) as caught:
        build_source(Settings(**given))
    assert "hunter2" not in caught.value.message


def test_files_of_credentials_are_told_by_name_and_never_by_content(
    services: KeyServices, tmp_path: Path
) -> None:
    settings = configure(services, "gcp-kms", tmp_path)
    account = settings.google_application_credentials
    assert account is not None
    refused: list[tuple[str, str]] = [
        ("{}", "is no key file of a service account"),
        ("not json hunter2", "is no key file"),
        (json.dumps({**services.account_file(), "private_key": "hunter2"}), "private key of the"),
    ]
    for content, said in refused:
        account.write_text(content)
        with pytest.raises(InvalidMasterKeyError, match=said) as caught:
            build_source(settings).create()
        assert "hunter2" not in str(caught.value)
    account.unlink()
    with pytest.raises(InvalidMasterKeyError, match=r"account.json cannot be read"):
        build_source(settings).create()


def test_token_of_transit_is_read_from_its_file_each_time(
    services: KeyServices, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{kms.TRANSIT_TOKEN}\n")
    source = build_source(configure(services, "transit", tmp_path, vault_token_file=path))
    source.create()
    path.write_text("\n")
    with pytest.raises(InvalidMasterKeyError, match="holds no token"):
        source.create()


def test_secrets_of_key_services_leave_the_environment_and_every_text(tmp_path: Path) -> None:
    environment = {
        "HEADGATE_VAULT_TOKEN": kms.TRANSIT_TOKEN,
        "AWS_SECRET_ACCESS_KEY": kms.SECRET_KEY,
        "AWS_SESSION_TOKEN": "session",
        "AWS_REGION": "eu-central-1",
    }
    loaded = kit_settings.load(environment, data=tmp_path)
    erase_variables(map(variable_of, SECRETS), environment)
    assert environment == {"AWS_REGION": "eu-central-1"}
    assert not any(text in repr(loaded) for text in (kms.TRANSIT_TOKEN, kms.SECRET_KEY))
    signer = Signer("AKIDEXAMPLE", kms.SECRET_KEY, "session", "eu-central-1", "kms")
    assert kms.SECRET_KEY not in repr(signer)


# AWS's published test suite for Signature Version 4 (aws-sig-v4-test-suite) and its IAM User Guide.
SUITE = Signer(
    "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, "us-east-1", "service"
)
SUITE_TIME = 1440938160.0
HOST = (b"host", b"example.amazonaws.com")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("method", "headers", "body", "signature"),
    [
        ("GET", [HOST], b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", [HOST], b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "POST",
            [FORM, HOST],
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
)
def test_requests_are_signed_as_aws_has_published(
    method: str, headers: list[tuple[bytes, bytes]], body: bytes, signature: str
) -> None:
    signed = dict(sign_any(SUITE, method, "/", headers, body, now=SUITE_TIME))
    assert signed[b"x-amz-date"] == b"20150830T123600Z"
    assert signed[b"authorization"].decode().endswith(f"Signature={signature}")


def test_signing_key_is_the_published_one() -> None:
    signer = msgspec.structs.replace(SUITE, service="iam")
    assert (
        derive_key(signer, "20150830").hex()
        == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    )


def test_temporary_credentials_are_signed_with_their_token(
    services: KeyServices, tmp_path: Path
) -> None:
    settings = configure(services, "aws-kms", tmp_path, aws_session_token="session")
    source = build_source(settings)
    assert isinstance(source, RemoteSource)
    assert source.create().provenance.provider == aws_kms.PROVIDER


@pytest.mark.parametrize("port", ["right", "wrong"])
def test_machine_of_google_has_its_token_from_the_metadata_server(
    services: KeyServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    settings = configure(services, "gcp-kms", tmp_path, google_application_credentials=None)
    origin, _ = parse_base_url(services.url if port == "right" else "http://127.0.0.1:9")
    monkeypatch.setattr(gcp_kms, "METADATA_ORIGIN", origin)
    source = build_source(settings)
    if port == "right":
        source.create()
        assert services.seen[:2] == ["gcp machine", "gcp encrypt"]
    else:
        with pytest.raises(
            KeyServiceUnavailableError, match=r"server at .*GOOGLE_APPLICATION_CREDENTIALS"
        ):
            source.create()
