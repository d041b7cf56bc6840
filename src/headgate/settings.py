"""Every setting of Headgate: its unit, default, bounds and reason, in one place.

`HEADGATE_<NAME>` in the environment sets it; the few that have an established name of their own
are in `ESTABLISHED_NAMES`. `docs/configuration.md` lists them for people.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from headgate.kit.errors import HeadgateError, Kind

PREFIX = "HEADGATE_"
ESTABLISHED_NAMES = {
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "otel_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "aws_region": "AWS_REGION",
    "google_application_credentials": "GOOGLE_APPLICATION_CREDENTIALS",
}
SECRETS = frozenset(
    {
        *("openai_api_key", "master_key", "database_url", "vault_token"),
        "oidc_client_secret",
        *("aws_secret_access_key", "aws_session_token"),
    }
)

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE


class InvalidSettingError(HeadgateError):
    """A setting is unknown or has an invalid value; the message names it.

    Correct the variable; `docs/configuration.md` lists all.
    """

    kind = Kind.INVALID
    code = "setting_refused"


def _text(reason: str) -> Meta:
    return Meta(description=reason)


def _count(reason: str) -> Meta:
    return Meta(gt=0, description=reason)


def _from_zero(reason: str) -> Meta:
    return Meta(ge=0, description=reason)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the settings of one process. Units are in the names."""

    host: Annotated[str, _text("Address to listen on; only this machine unless changed.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 picks one.")] = 4600
    data: Annotated[Path, _text("Directory of the database, keys and files.")] = Path("data")
    catalog_dir: Annotated[
        Path | None,
        _text("Directory of your own integrations, a TOML file each; see docs/catalog.md."),
    ] = None
    ssl_certfile: Annotated[str | None, _text("PEM certificate chain; with it, HTTPS only.")] = None
    ssl_keyfile: Annotated[str | None, _text("PEM private key of the certificate.")] = None
    allow_public_without_tls: Annotated[
        bool, _text("Listen beyond this machine without TLS: a proxy in front has it.")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...],
        _text("Host names that are served, *.example.com, or *; see below for none."),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        _text("Networks of proxies whose X-Forwarded-For or Forwarded tells the client's address."),
    ] = ()
    trust_any_proxy: Annotated[
        bool, _text("Accept * in HEADGATE_TRUSTED_PROXIES: nothing but proxies can connect.")
    ] = False
    cors_origins: Annotated[
        tuple[str, ...],
        _text("Origins of web pages that may read answers (CORS), or * for any; none if empty."),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _text("The least that is logged.")
    ] = "info"
    allow_debugging: Annotated[
        bool, _text("Let this user's debuggers and core dumps see the process, secrets and all.")
    ] = False
    access_log: Annotated[bool, _text("One line of JSON for each call.")] = True
    otel_endpoint: Annotated[
        str | None, _text("OTLP collector over HTTP; spans are sent when it is set.")
    ] = None

    openai_api_key: Annotated[
        str | None, _text("Becomes the credential named environment at each start.")
    ] = None
    openai_base_url: Annotated[
        str | None, _text("Where that key is sent; also allowed when it is a local address.")
    ] = None
    master_key: Annotated[
        str | None, _text("Seals all secrets: 32 bytes in base64 or hex; else DIR/master.key.")
    ] = None
    master_key_provider: Annotated[
        Literal["local", "aws-kms", "gcp-kms", "transit"],
        _text("Who keeps the master key: this machine, or a key service that wraps it."),
    ] = "local"
    master_key_name: Annotated[
        str | None, _text("The key service's key: ARN, resource name, or MOUNT/KEY of transit.")
    ] = None
    master_key_address: Annotated[
        str | None, _text("Base URL of the key service; transit has no other, the clouds theirs.")
    ] = None
    master_key_seconds: Annotated[
        float, _count("For one answer of the key service, at a start or a rotation.")
    ] = 10.0
    vault_token: Annotated[str | None, _text("Token for the transit engine.")] = None
    vault_token_file: Annotated[
        Path | None, _text("File of that token, read each time that it is needed.")
    ] = None
    aws_access_key_id: Annotated[str | None, _text("For the provider aws-kms.")] = None
    aws_secret_access_key: Annotated[str | None, _text("For the provider aws-kms.")] = None
    aws_session_token: Annotated[
        str | None, _text("For the provider aws-kms, with temporary credentials.")
    ] = None
    aws_region: Annotated[
        str | None, _text("For the provider aws-kms, where its key's name is no ARN.")
    ] = None
    google_application_credentials: Annotated[
        Path | None, _text("Key file of a service account for gcp-kms; else the machine's own.")
    ] = None

    public_url: Annotated[
        str | None, _text("Where people reach this in a browser: https://headgate.example.com.")
    ] = None
    session_seconds: Annotated[float, _count("A person's session lasts at most.")] = 604_800.0
    session_idle_seconds: Annotated[float, _count("A session that nobody uses ends.")] = 43_200.0
    invitation_seconds: Annotated[float, _count("An invitation can be taken up.")] = 604_800.0
    sign_ins_per_minute: Annotated[
        int, _count("Tries to sign in, for each address and each account.")
    ] = 10
    oidc_issuer: Annotated[
        str | None, _text("OpenID Connect issuer by which people sign in; see docs/people.md.")
    ] = None
    oidc_client_id: Annotated[str | None, _text("By what that issuer knows Headgate.")] = None
    oidc_client_secret: Annotated[
        str | None, _text("The secret of that client; none for a public one.")
    ] = None
    oidc_scopes: Annotated[str, _text("What the issuer is asked for.")] = "openid email profile"
    oidc_domains: Annotated[
        tuple[str, ...], _text("Domains of e-mail addresses that may sign in; any if empty.")
    ] = ()
    oidc_trusted_domains: Annotated[
        tuple[str, ...], _text("Domains whose people are added when they first sign in.")
    ] = ()
    jwt_issuer: Annotated[
        str | None, _text("Issuer whose tokens are accepted as a person's login.")
    ] = None
    jwt_audience: Annotated[
        tuple[str, ...], _text("Who those tokens have to be for: their aud, or else azp.")
    ] = ()
    jwt_jwks_url: Annotated[
        str | None, _text("Where that issuer's keys are; else its discovery document says it.")
    ] = None

    egress_allow: Annotated[
        tuple[str, ...],
        _text("Origins and networks that may be reached although they are local or plain http."),
    ] = ()
    egress_ca_file: Annotated[
        str | None, _text("PEM certificates of further authorities that providers are verified by.")
    ] = None
    lookups_max: Annotated[int, _count("Names that are being resolved at the same time.")] = 32

    simulator: Annotated[
        bool,
        _text(
            "Answer calls by the simulator (headgate[simulator]) while there is no OPENAI_API_KEY."
        ),
    ] = False
    simulator_port: Annotated[
        int, Meta(ge=0, le=65535, description="Where the simulator listens, on this machine.")
    ] = 4601

    connect_seconds: Annotated[float, _count("To reach a provider and finish TLS.")] = 5.0
    first_byte_seconds: Annotated[float, _count("Until a provider's answer begins.")] = 600.0
    idle_seconds: Annotated[float, _count("Between two pieces of an answer.")] = 600.0
    total_seconds: Annotated[float, _count("For a whole call with its retries.")] = 3_600.0
    retries_max: Annotated[int, _from_zero("Further attempts before the first byte.")] = 2
    retry_budget_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Retries that each call adds to the retry budget of its provider.",
        ),
    ] = 0.2
    retry_budget_floor_per_second: Annotated[
        float, _from_zero("Retries that are always allowed.")
    ] = 10.0
    retry_wait_max_seconds: Annotated[
        float, _count("A provider that asks for a longer wait is not waited for.")
    ] = 5.0
    retry_after_max_seconds: Annotated[
        float, _count("The longest wait asked of a client, but for that of a provider's 429.")
    ] = 60.0
    breaker_failures: Annotated[
        int,
        _from_zero("Failed calls in a row that open a model's circuit breaker; 0 is never."),
    ] = 5
    breaker_open_seconds: Annotated[
        float, _count("How long an open breaker rejects calls until one probes the provider.")
    ] = 30.0

    header_bytes_max: Annotated[int, _count("All header lines of a request.")] = 64 * KIBIBYTE
    header_count_max: Annotated[int, _count("Header lines of a request.")] = 100
    target_bytes_max: Annotated[int, _count("Path and query of a request.")] = 8 * KIBIBYTE
    json_body_bytes_max: Annotated[int, _count("A JSON body: held in memory.")] = 64 * MEBIBYTE
    json_depth_max: Annotated[
        int, Meta(gt=1, le=512, description="Objects and arrays of a JSON body inside each other.")
    ] = 64
    json_keys_max: Annotated[int, _count("Keys in all objects of a JSON body.")] = 100_000
    json_items_max: Annotated[int, _count("Strings, objects and arrays in a JSON body.")] = 100_000
    form_body_bytes_max: Annotated[int, _count("A form with files: held in memory.")] = (
        64 * MEBIBYTE
    )
    form_parts_max: Annotated[int, _count("Parts of a form.")] = 256
    form_part_header_bytes_max: Annotated[int, _count("Header lines of a form's part.")] = (
        8 * KIBIBYTE
    )
    decode_request_bodies: Annotated[
        bool, _text("Accept compressed JSON and form bodies; they go on decompressed.")
    ] = True
    decode_ratio_max: Annotated[
        int, _count("A compressed body may grow by this; the first 1 MiB is free.")
    ] = 100
    raw_body_bytes_max: Annotated[int, _count("A body that streams through.")] = GIBIBYTE
    response_body_bytes_max: Annotated[int, _count("An answer that is held to be read.")] = (
        64 * MEBIBYTE
    )
    bodies_bytes_max: Annotated[
        int, _from_zero("All bodies together; 0 is a quarter of the memory that the process has.")
    ] = 0
    response_header_bytes_max: Annotated[
        int, _count("All header lines of a provider's answer.")
    ] = 64 * KIBIBYTE
    response_header_count_max: Annotated[int, _count("Header lines of a provider's answer.")] = 256
    event_bytes_max: Annotated[
        int, _count("One event of a stream that is read; a larger one goes on unread.")
    ] = MEBIBYTE
    connections_max: Annotated[int, _count("Open client connections.")] = 10_000
    credential_tests_per_minute: Annotated[
        int, _count("Tests of provider credentials that one organization may ask for.")
    ] = 20
    requests_in_flight_max: Annotated[
        int, _count("Requests at the same time; more are refused, first those of the busiest key.")
    ] = 2048
    loop_lag_seconds_max: Annotated[
        float, _count("While its own work makes the gateway later, it admits fewer calls.")
    ] = 0.25
    first_request_seconds: Annotated[
        float, _count("A new connection that says nothing stays open.")
    ] = 15.0
    header_seconds: Annotated[
        float, _count("For a client to send its header lines, from their first byte.")
    ] = 10.0
    body_seconds: Annotated[
        float, _count("For a client to send a whole body, unless it is a form or streams through.")
    ] = 60.0
    body_grace_seconds: Annotated[
        float, _count("A body may pause or begin late; then it has to keep its rate.")
    ] = 10.0
    body_bytes_per_second_min: Annotated[
        int, _count("The rate of a body, in bytes per second, below which it is cut.")
    ] = 1000
    write_seconds: Annotated[
        float, _count("A client that takes nothing of its answer is cut after this.")
    ] = 60.0
    keepalive_seconds: Annotated[float, _count("An idle client connection stays open.")] = 75.0
    disconnect_policy: Annotated[
        Literal["cancel", "drain"],
        _text("For keys without their own: a client left, so stop its answer or read it on."),
    ] = "cancel"
    drain_seconds: Annotated[
        float, _from_zero("An answer is read on so long for its usage, then stopped.")
    ] = 60.0
    drains_max: Annotated[
        int, _from_zero("Answers read on at the same time; more are stopped.")
    ] = 256
    models_cache_seconds: Annotated[
        float, _from_zero("A provider's list of models is shown again so long; 0 is never.")
    ] = 300.0
    grace_seconds: Annotated[float, _count("Running calls may end at shutdown.")] = 30.0

    snapshot_poll_seconds: Annotated[
        float, _count("A change by another process is seen within this time.")
    ] = 0.25
    always_flush: Annotated[
        bool, _text("Flush every commit to the disk, also those that hold no money.")
    ] = False
    hold_lease_seconds: Annotated[
        float, _count("Money set aside is resolved if its call never settled.")
    ] = 900.0
    held_tool_calls: Annotated[
        int, _from_zero("Calls of hosted tools that are held for, unless max_tool_calls says it.")
    ] = 10
    keys_max: Annotated[
        int, _count("Keys that an organization may have; revoked ones do not count.")
    ] = 10_000
    retention_days: Annotated[int, _from_zero("Receipts are kept; 0 is for ever.")] = 0
    database_url: Annotated[
        str | None, _text("PostgreSQL, shared by several processes; else DIR/headgate.db.")
    ] = None
    database_wait_seconds: Annotated[
        float, _count("For the database's lock, while another program has it.")
    ] = 4.0
    wal_alarm_bytes: Annotated[
        int, _count("A write-ahead log above this is told in the log and by the doctor.")
    ] = 256 * MEBIBYTE
    wal_bytes_max: Annotated[
        int, _count("Above this, no call is taken until the write-ahead log is shorter.")
    ] = 4 * GIBIBYTE

    test_mode: Annotated[
        bool, _text("Never where it matters: allows failpoints, keeps every event in the outbox.")
    ] = False
    failpoint: Annotated[
        str | None, _text("Where a test breaks the process; see below. Only in test mode.")
    ] = None

    @property
    def is_simulated(self) -> bool:
        """Return whether the simulator answers calls: it is on, and there is no OPENAI_API_KEY."""
        return self.simulator and not self.openai_api_key

    def __repr__(self) -> str:
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
            if name not in SECRETS
        )
        return f"Settings({', '.join(shown)})"


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return ESTABLISHED_NAMES.get(name, PREFIX + name.upper())


def load(environment: Mapping[str, str], **overrides: Any) -> Settings:
    """Read the settings of an environment; overrides that are not None take precedence.

    Raise `InvalidSettingError` for an unknown `HEADGATE_` variable or an impossible value. An empty
    variable counts as not set.
    """
    types = get_type_hints(Settings, include_extras=True)
    names = {variable_of(name): name for name in types}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in names:
            raise InvalidSettingError(_suggest(variable, names))
    values: dict[str, Any] = {
        name: environment[variable]
        for variable, name in names.items()
        if environment.get(variable, "") != ""
    }
    values |= {name: value for name, value in overrides.items() if value is not None}
    return Settings(**{name: _convert(name, value, types[name]) for name, value in values.items()})


def _convert(name: str, value: Any, wanted: Any) -> Any:
    if isinstance(value, str) and Settings.__struct_defaults__[_INDEXES[name]] == ():
        value = [part.strip() for part in value.split(",")]
    try:
        return msgspec.convert(value, wanted, strict=False, dec_hook=_make_path)
    except msgspec.ValidationError as error:
        said = "" if name in SECRETS else f" cannot be {value!r}"
        raise InvalidSettingError(f"{variable_of(name)}{said}: {error}.", param=name) from error


_INDEXES = {name: index for index, name in enumerate(Settings.__struct_fields__)}


def _make_path(wanted: type, value: Any) -> Any:
    return wanted(value)


def _suggest(variable: str, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(variable, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "docs/configuration.md lists all settings."
    return f"There is no setting {variable}; {hint}"
