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
    "aws_endpoint_url_s3": "AWS_ENDPOINT_URL_S3",
    "google_application_credentials": "GOOGLE_APPLICATION_CREDENTIALS",
}
SECRETS = frozenset(
    {
        *("openai_api_key", "master_key", "database_url", "valkey_url", "vault_token"),
        "oidc_client_secret",
        *("stripe_secret_key", "stripe_webhook_secret"),
        *("aws_secret_access_key", "aws_session_token"),
    }
)

FAILPOINTS = {
    "first_start_tables": "the tables are made, not committed",
    "first_start_master_key": "the master key is on the disk, and unknown to the database",
    "first_start_keys": "the first keys are on the disk, not committed",
    "first_start_owner": "the first owner's invitation is on the disk, not committed",
    "migration": "an upgrade is done, not committed",
    "after_hold": "money is set aside, nothing was sent",
    "after_target_hold": "money is set aside for one target of a route, nothing was sent to it",
    "before_dispatch": "the provider is asked next",
    "first_byte": "the head of the provider's answer is here",
    "claim_inserted": "an idempotency key is claimed, not committed",
    "nonce_inserted": "the nonce of a signed request is used up, not committed",
    "mid_claim": "the receipt of a claimed call is inserted, its answer not stored",
    "before_settle": "the answer is here, its receipt not queued",
    "mid_settlement": "the receipt is inserted, the hold not closed",
    "outbox_insert": "the events are inserted",
    "webhook_fan_out": "the deliveries of events are inserted, the events not removed",
    "webhook_result": "the result of a delivery is stored, not committed",
    "before_commit": "a batch is done, not committed",
    "after_commit": "a batch is committed, and nobody knows",
    "before_last_frame": "the call is settled, its last bytes withheld",
    "after_last_frame": "the last bytes are written",
    "background_taken": "responses are leased to ask their provider, not committed",
    "hold_reaper": "holds that nobody settles are resolved, not committed",
    "retention": "old receipts are deleted, not committed",
    "roll_up": "receipts are added to the sums of usage, not committed",
    "rotation_slice": "a slice of a rotation is written, not committed",
    "rotation_switch": "the next master key is in the place of the old one, not committed",
    "rotation_files": "the next master key is in force, its file not in its place",
    "top_up_ordered": "the order of an automatic top-up is stored, nobody was asked to pay",
    "top_up_charged": "an automatic top-up is charged, nothing of it recorded",
    "mid_invoice": "an invoice has its number and is not stored",
    "payment_credited": "a payment is credited, not committed",
    "top_up_credited": "an automatic top-up is credited, not committed",
    "stopping": "the calls that outlived the grace are being cut",
}
"""Every failpoint, and the state of the process at that place."""

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE


API_KEY_VARIABLE, URL_OF_SERVER_VARIABLE = "HEADGATE_API_KEY", "HEADGATE_URL"
CLIENT_VARIABLES = (API_KEY_VARIABLE, URL_OF_SERVER_VARIABLE)
"""Variables of clients of a server (`headgate mcp`). A server on the same machine ignores them."""


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

    host: Annotated[
        str, _text("Address to listen on; by default only this machine can connect.")
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    ] = 4600
    data: Annotated[Path, _text("Directory of the database, the master key and other files.")] = (
        Path("data")
    )
    catalog_dir: Annotated[
        Path | None,
        _text("Directory of your own integrations, one TOML file each; see docs/catalog.md."),
    ] = None
    ssl_certfile: Annotated[
        str | None, _text("PEM certificate chain; when set, only HTTPS is served.")
    ] = None
    ssl_keyfile: Annotated[str | None, _text("PEM private key of the certificate.")] = None
    allow_public_without_tls: Annotated[
        bool, _text("Allow a public address without TLS, for use behind a proxy that has TLS.")
    ] = False
    allowed_hosts: Annotated[
        tuple[str, ...],
        _text(
            "Host names that are served: a name, *.example.com, or *; see below for the default."
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        _text("Networks of proxies whose X-Forwarded-For or Forwarded header is trusted."),
    ] = ()
    trust_any_proxy: Annotated[
        bool, _text("Accept * in HEADGATE_TRUSTED_PROXIES, where only proxies can connect.")
    ] = False
    cors_origins: Annotated[
        tuple[str, ...],
        _text(
            "Origins of web pages that may read responses (CORS); * allows any, empty allows none."
        ),
    ] = ()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _text("Lowest level that is logged.")
    ] = "info"
    allow_debugging: Annotated[
        bool, _text("Allow debuggers and core dumps of this user, which can read all secrets.")
    ] = False
    access_log: Annotated[bool, _text("Write one line of JSON for each call.")] = True
    otel_endpoint: Annotated[
        str | None, _text("URL of an OTLP collector over HTTP; spans are sent when it is set.")
    ] = None

    openai_api_key: Annotated[
        str | None,
        _text("API key that is stored as the credential named environment at each start."),
    ] = None
    openai_base_url: Annotated[
        str | None, _text("Base URL to which that key is sent; a local address is allowed, too.")
    ] = None
    master_key: Annotated[
        str | None,
        _text("Master key that seals all secrets, 32 bytes in base64 or hex; else DIR/master.key."),
    ] = None
    master_key_provider: Annotated[
        Literal["local", "aws-kms", "gcp-kms", "transit"],
        _text("Where the master key is kept: on this machine, or wrapped by a key service."),
    ] = "local"
    master_key_name: Annotated[
        str | None,
        _text("Name of the wrapping key: an ARN, a resource name, or MOUNT/KEY of transit."),
    ] = None
    master_key_address: Annotated[
        str | None,
        _text("Base URL of the key service; required for transit, optional for the clouds."),
    ] = None
    master_key_seconds: Annotated[
        float, _count("Time-out for one response of the key service.")
    ] = 10.0
    vault_token: Annotated[str | None, _text("Token for the transit engine.")] = None
    vault_token_file: Annotated[
        Path | None, _text("File that holds that token; it is read each time the token is needed.")
    ] = None
    aws_access_key_id: Annotated[
        str | None, _text("Access key of the provider aws-kms, and of a bucket of assets.")
    ] = None
    aws_secret_access_key: Annotated[str | None, _text("Secret key of that access key.")] = None
    aws_session_token: Annotated[
        str | None, _text("Session token of that access key, with temporary credentials.")
    ] = None
    aws_region: Annotated[
        str | None,
        _text("Region of a bucket of assets, and of aws-kms if the name of its key is not an ARN."),
    ] = None
    aws_endpoint_url_s3: Annotated[
        str | None, _text("Address of a bucket of assets that is not at AWS, such as MinIO's.")
    ] = None
    google_application_credentials: Annotated[
        Path | None,
        _text("Key file of a service account for gcp-kms; else the machine's own account."),
    ] = None

    public_url: Annotated[
        str | None, _text("URL at which browsers reach this server: https://headgate.example.com.")
    ] = None
    session_seconds: Annotated[float, _count("Longest duration of a login session.")] = 604_800.0
    session_idle_seconds: Annotated[
        float, _count("Duration after which an unused login session ends.")
    ] = 43_200.0
    invitation_seconds: Annotated[
        float, _count("Duration for which an invitation can be accepted.")
    ] = 604_800.0
    sign_ins_per_minute: Annotated[
        int, _count("Sign-in attempts allowed per minute, for each address and each account.")
    ] = 10
    oidc_issuer: Annotated[
        str | None, _text("OpenID Connect issuer by which people sign in; see docs/people.md.")
    ] = None
    oidc_client_id: Annotated[str | None, _text("Client id of Headgate at that issuer.")] = None
    oidc_client_secret: Annotated[
        str | None, _text("Client secret at that issuer; empty for a public client.")
    ] = None
    oidc_scopes: Annotated[str, _text("Scopes that are requested from the issuer.")] = (
        "openid email profile"
    )
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
        tuple[str, ...], _text("Audiences that those tokens must be for (aud, or else azp).")
    ] = ()
    jwt_jwks_url: Annotated[
        str | None,
        _text("URL of that issuer's keys; else it is taken from the discovery document."),
    ] = None

    oauth_access_token_seconds: Annotated[
        float, _count("Duration for which an access token of a connected application is accepted.")
    ] = 3_600.0
    oauth_refresh_token_seconds: Annotated[
        float, _count("Duration after which an unused connection of an application ends.")
    ] = 2_592_000.0
    oauth_refresh_grace_seconds: Annotated[
        float, _from_zero("Duration for which a used refresh token gives the same successor again.")
    ] = 60.0
    oauth_requests_per_minute: Annotated[
        int, _count("Registrations and token requests allowed per minute, for each address.")
    ] = 600

    stripe_secret_key: Annotated[
        str | None, _text("Secret key of the Stripe account that payments go to; none without it.")
    ] = None
    stripe_webhook_secret: Annotated[
        str | None, _text("Signing secret of the webhook endpoint at Stripe, at least 24 bytes.")
    ] = None
    stripe_api_base: Annotated[
        str, _text("Base URL of Stripe's API; another one only for tests.")
    ] = "https://api.stripe.com"
    top_up_cents_min: Annotated[int, _count("Smallest payment into a wallet, in US cents.")] = 500
    top_up_cents_max: Annotated[int, _count("Largest payment into a wallet, in US cents.")] = (
        1_000_000
    )
    payment_return_url: Annotated[
        str | None,
        _text("URL to which the payment page leads back; HEADGATE_PUBLIC_URL if it is not set."),
    ] = None
    invoice_issuer_name: Annotated[str, _text("Name of who issues the invoices.")] = "Headgate"
    invoice_issuer_address: Annotated[
        str | None, _text("Address of who issues the invoices; commas end its lines.")
    ] = None
    invoice_issuer_tax_id: Annotated[str | None, _text("Tax id of who issues the invoices.")] = None
    invoice_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9/_-]{0,16}$",
            description="Beginning of every invoice number.",
        ),
    ] = "INV-"
    invoice_font: Annotated[
        Path | None,
        _text("TrueType font of invoices as PDF, for other scripts than Latin; Helvetica if not."),
    ] = None

    egress_allow: Annotated[
        tuple[str, ...],
        _text("Origins and networks that may be reached although they are local or plain HTTP."),
    ] = ()
    egress_ca_file: Annotated[
        str | None,
        _text("PEM file of further certificate authorities that are trusted for providers."),
    ] = None
    lookups_max: Annotated[int, _count("Host names that are resolved at the same time.")] = 32

    simulator: Annotated[
        bool,
        _text(
            "Answer calls by the simulator (headgate[simulator]) while there is no OPENAI_API_KEY."
        ),
    ] = False
    simulator_port: Annotated[
        int,
        Meta(ge=0, le=65535, description="Port on this machine on which the simulator listens."),
    ] = 4601

    connect_seconds: Annotated[
        float, _count("Time-out for connecting to a provider, TLS included.")
    ] = 5.0
    first_byte_seconds: Annotated[float, _count("Time-out until a provider's response begins.")] = (
        600.0
    )
    idle_seconds: Annotated[
        float, _count("Time-out between two pieces of a provider's response.")
    ] = 600.0
    total_seconds: Annotated[float, _count("Time-out for a whole call with its retries.")] = 3_600.0
    retries_max: Annotated[
        int, _from_zero("Retries of a call before the first byte of its response.")
    ] = 2
    retry_budget_ratio: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="Retries that each call adds to the retry budget of its provider.",
        ),
    ] = 0.2
    retry_budget_floor_per_second: Annotated[
        float, _from_zero("Retries per second that are allowed whatever the budget.")
    ] = 10.0
    retry_wait_max_seconds: Annotated[
        float, _count("Longest Retry-After of a provider for which a retry waits.")
    ] = 5.0
    retry_after_max_seconds: Annotated[
        float, _count("Longest Retry-After sent to clients, except that of a provider's 429.")
    ] = 60.0
    breaker_failures: Annotated[
        int,
        _from_zero("Failed calls in a row that open a model's circuit breaker; 0 is never."),
    ] = 5
    breaker_open_seconds: Annotated[
        float, _count("How long an open breaker rejects calls until one probes the provider.")
    ] = 30.0

    header_bytes_max: Annotated[int, _count("Size limit for all header lines of a request.")] = (
        64 * KIBIBYTE
    )
    header_count_max: Annotated[int, _count("Number of header lines allowed in a request.")] = 100
    target_bytes_max: Annotated[int, _count("Size limit for path and query of a request.")] = (
        8 * KIBIBYTE
    )
    json_body_bytes_max: Annotated[
        int, _count("Size limit for a JSON body, which is held in memory.")
    ] = 64 * MEBIBYTE
    json_depth_max: Annotated[
        int, Meta(gt=1, le=512, description="Nesting depth allowed in a JSON body.")
    ] = 64
    json_keys_max: Annotated[
        int, _count("Number of keys allowed in all objects of a JSON body.")
    ] = 100_000
    json_items_max: Annotated[
        int, _count("Number of strings, objects and arrays allowed in a JSON body.")
    ] = 100_000
    form_body_bytes_max: Annotated[
        int, _count("Size limit for a form with files, which is held in memory.")
    ] = 64 * MEBIBYTE
    form_parts_max: Annotated[int, _count("Number of parts allowed in a form.")] = 256
    form_part_header_bytes_max: Annotated[
        int, _count("Size limit for the header lines of one part of a form.")
    ] = 8 * KIBIBYTE
    decode_request_bodies: Annotated[
        bool, _text("Accept compressed JSON and form bodies; they are sent on uncompressed.")
    ] = True
    decode_ratio_max: Annotated[
        int, _count("Ratio by which a compressed body may grow; the first 1 MiB is free.")
    ] = 100
    raw_body_bytes_max: Annotated[
        int, _count("Size limit for a body that is streamed through.")
    ] = GIBIBYTE
    response_body_bytes_max: Annotated[
        int, _count("Size limit for a provider's response that is held in memory.")
    ] = 64 * MEBIBYTE
    bodies_bytes_max: Annotated[
        int,
        _from_zero("Memory for all bodies together; 0 is a quarter of the memory of the process."),
    ] = 0
    response_header_bytes_max: Annotated[
        int, _count("Size limit for all header lines of a provider's response.")
    ] = 64 * KIBIBYTE
    response_header_count_max: Annotated[
        int, _count("Number of header lines allowed in a provider's response.")
    ] = 256
    event_bytes_max: Annotated[
        int,
        _count("Size limit for one event of a stream that is parsed; larger ones pass unparsed."),
    ] = MEBIBYTE
    connections_max: Annotated[int, _count("Number of open client connections.")] = 10_000
    credential_tests_per_minute: Annotated[
        int, _count("Tests of provider credentials allowed per minute and organization.")
    ] = 20
    requests_in_flight_max: Annotated[
        int, _count("Concurrent requests; beyond, those of the busiest key are rejected first.")
    ] = 2048
    loop_lag_seconds_max: Annotated[
        float, _count("Lag of the event loop above which fewer calls are admitted.")
    ] = 0.25
    first_request_seconds: Annotated[
        float, _count("Time-out for the first byte on a new client connection.")
    ] = 15.0
    header_seconds: Annotated[
        float, _count("Time-out for a client's header lines, from their first byte.")
    ] = 10.0
    body_seconds: Annotated[
        float,
        _count("Time-out for a client's whole body, unless it is a form or streamed through."),
    ] = 60.0
    body_grace_seconds: Annotated[
        float, _count("Duration for which a body may be slow before its minimum rate applies.")
    ] = 10.0
    body_bytes_per_second_min: Annotated[
        int, _count("Minimum rate of a request body; a slower one is cut.")
    ] = 1000
    write_seconds: Annotated[
        float, _count("Time-out for a client that does not read its response.")
    ] = 60.0
    keepalive_seconds: Annotated[
        float, _count("Duration for which an idle client connection stays open.")
    ] = 75.0
    disconnect_policy: Annotated[
        Literal["cancel", "drain"],
        _text(
            "Whether to stop or to read on a response whose client left, unless the key says it."
        ),
    ] = "cancel"
    drain_seconds: Annotated[
        float, _from_zero("Longest duration for which such a response is read on for its usage.")
    ] = 60.0
    drains_max: Annotated[
        int, _from_zero("Number of responses that are read on at the same time; more are stopped.")
    ] = 256
    models_cache_seconds: Annotated[
        float,
        _from_zero(
            "Duration for which a provider's list of models is cached; 0 disables the cache."
        ),
    ] = 300.0
    grace_seconds: Annotated[
        float, _count("Duration for which running calls may finish at shutdown.")
    ] = 30.0

    snapshot_poll_seconds: Annotated[
        float, _count("Interval of looking for changes by other processes.")
    ] = 0.25
    always_flush: Annotated[
        bool, _text("Flush every commit to the disk, also those that concern no money.")
    ] = False
    hold_lease_seconds: Annotated[
        float, _count("Duration after which a hold whose call never settled is resolved.")
    ] = 900.0
    embedding_cache_bytes_max: Annotated[
        int, _from_zero("Size limit for the cache of embeddings; 0 disables it.")
    ] = 256 * MEBIBYTE
    request_log: Annotated[
        Literal["off", "metadata", "full"],
        Meta(description="What projects keep of their requests that chose nothing themselves."),
    ] = "off"
    request_log_payload_bytes_max: Annotated[
        int, _count("Size up to which one kept body of a request or of an answer is kept whole.")
    ] = MEBIBYTE
    request_log_pending_bytes_max: Annotated[
        int, _count("Size of the bodies that may wait to be kept; beyond, rows are kept alone.")
    ] = 64 * MEBIBYTE
    request_tail_seconds_max: Annotated[
        int, _from_zero("Duration after which a reader that follows requests is disconnected.")
    ] = 3_600
    signature_window_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3_600,
            description="How far the time of a signed request may be from that of the server.",
        ),
    ] = 300.0
    signature_nonces_max: Annotated[
        int, _count("Most nonces of signed requests that are remembered, twice the window each.")
    ] = 1_000_000
    idempotency_answer_bytes_max: Annotated[
        int, _from_zero("Size limit for one answer that is kept for its Idempotency-Key.")
    ] = 8 * MEBIBYTE
    idempotency_bytes_max: Annotated[
        int, _from_zero("Size limit for all answers that are kept for idempotency keys.")
    ] = GIBIBYTE
    idempotency_keys_max: Annotated[
        int, _count("Most idempotency keys of model calls that are remembered, for 24 hours each.")
    ] = 1_000_000
    tool_repeat_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=3_600,
            description="How long a repeated tool call that costs is answered from the first one.",
        ),
    ] = 120.0
    tool_seconds_max: Annotated[
        float, _count("Time limit for one tool call of an agent; the call is stopped then.")
    ] = 600.0
    tool_result_tokens_max: Annotated[
        int, _count("Longest result of a tool in tokens; a longer one is handed over by a handle.")
    ] = 20_000
    mcp_body_bytes_max: Annotated[
        int, _count("Size limit for the body of one request to /mcp.")
    ] = 8 * MEBIBYTE
    mcp_requests_max: Annotated[
        int, _count("Most requests to /mcp that are answered at once; further ones get 503.")
    ] = 1_000
    background_seconds_max: Annotated[
        float,
        _count("Duration after which nobody waits for the end of a response in the background."),
    ] = 86_400.0
    held_tool_calls: Annotated[
        int,
        _from_zero(
            "Calls of hosted tools for which money is held, unless max_tool_calls is given."
        ),
    ] = 10
    keys_max: Annotated[
        int, _count("Keys allowed for each organization; revoked ones do not count.")
    ] = 10_000
    resources_max: Annotated[int, _count("Resources allowed for each organization.")] = 1_000
    assets_url: Annotated[
        str | None,
        _text(
            "Where assets are kept: a folder, or s3://bucket/prefix; else the folder DIR/assets."
        ),
    ] = None
    assets_max: Annotated[int, _count("Assets allowed for each organization.")] = 10_000
    assets_bytes_max: Annotated[int, _count("Size limit for all assets of one organization.")] = (
        GIBIBYTE
    )
    handles_bytes_max: Annotated[
        int, _count("Size limit for all content that one project has put aside behind handles.")
    ] = 256 * MEBIBYTE
    retention_days: Annotated[
        int, _from_zero("Days for which receipts are kept; 0 keeps them for ever.")
    ] = 0
    usage_retention_days: Annotated[
        int, _from_zero("Days for which sums of usage are kept; 0 keeps them for ever.")
    ] = 0
    webhook_endpoints_max: Annotated[
        int, _count("Webhook endpoints allowed for each organization.")
    ] = 100
    webhook_seconds: Annotated[
        float, Meta(gt=0, le=30, description="Time-out for one attempt of a webhook delivery.")
    ] = 15.0
    webhooks_in_flight_max: Annotated[
        int, Meta(ge=2, description="Webhook deliveries that are sent at the same time.")
    ] = 256
    webhooks_per_endpoint_max: Annotated[
        int, _count("Deliveries that are sent to one webhook endpoint at the same time.")
    ] = 64
    webhook_retention_days: Annotated[
        int, _count("Days for which webhook deliveries and unwanted events are kept.")
    ] = 30
    mcp_servers_max: Annotated[int, _count("MCP servers allowed for each organization.")] = 50
    mcp_server_tools_max: Annotated[
        int, Meta(gt=0, le=1_000, description="Tools that are taken from one MCP server.")
    ] = 200
    mcp_server_answer_bytes_max: Annotated[
        int, _count("Largest answer of an MCP server to one call or one discovery.")
    ] = 8 * MEBIBYTE
    mcp_server_requests_per_minute: Annotated[
        int,
        _from_zero("Calls per minute of an MCP server without a limit of its own; 0: no limit."),
    ] = 600
    mcp_server_calls_max: Annotated[
        int, _count("Calls of one MCP server that one process makes at the same time.")
    ] = 32
    mcp_server_refresh_seconds: Annotated[
        float, Meta(ge=10, description="Time between two discoveries of what an MCP server offers.")
    ] = 3600.0
    database_url: Annotated[
        str | None, _text("URL of a PostgreSQL shared by several processes; else DIR/headgate.db.")
    ] = None
    valkey_url: Annotated[
        str | None,
        _text("URL of a Valkey or Redis in which several processes count the limits of capacity."),
    ] = None
    valkey_timeout_seconds: Annotated[
        float,
        _count("Time-out for one question to Valkey; after it, the process counts by itself."),
    ] = 0.25
    capacity_sync_seconds: Annotated[
        float,
        _count("Interval of storing what limits of capacity counted, and of reading others'."),
    ] = 0.5
    capacity_windows_max: Annotated[
        int, _count("Most windows of limits of capacity that are counted apart at a time.")
    ] = 100_000
    database_wait_seconds: Annotated[
        float, _count("Time-out for the database's lock while another program holds it.")
    ] = 4.0
    wal_alarm_bytes: Annotated[
        int, _count("Size of the write-ahead log above which the log and the doctor warn.")
    ] = 256 * MEBIBYTE
    wal_bytes_max: Annotated[
        int, _count("Size of the write-ahead log above which no calls are accepted.")
    ] = 4 * GIBIBYTE

    test_mode: Annotated[
        bool, _text("For tests only: allows failpoints and keeps every event in the outbox.")
    ] = False
    failpoint: Annotated[
        str | None, _text("Place at which a test breaks the process; see below. Only in test mode.")
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
    return ESTABLISHED_NAMES.get(name, PREFIX + name.upper())


def load(environment: Mapping[str, str], **overrides: Any) -> Settings:
    """Read the settings of an environment; overrides that are not None take precedence.

    Raise `InvalidSettingError` for an unknown `HEADGATE_` variable or an impossible value. An empty
    variable counts as not set.
    """
    types = get_type_hints(Settings, include_extras=True)
    names = {variable_of(name): name for name in types}
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in (*names, *CLIENT_VARIABLES):
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
        given = "" if name in SECRETS else f" cannot be {value!r}"
        raise InvalidSettingError(f"{variable_of(name)}{given}: {error}.", param=name) from error


_INDEXES = {name: index for index, name in enumerate(Settings.__struct_fields__)}


def _make_path(wanted: type, value: Any) -> Any:
    return wanted(value)


def _suggest(variable: str, names: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(variable, names, n=1)
    hint = f"did you mean {near[0]}?" if near else "docs/configuration.md lists all settings."
    return f"There is no setting {variable}; {hint}"
