"""Build the egress client from the settings: where it may connect, and whom it trusts."""

from __future__ import annotations

from headgate.accounts.service.issuer import IDENTITY
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.client import HttpClient
from headgate.kit.http.connection import HeadLimits
from headgate.kit.http.dial import Dialer, share_tls_context
from headgate.kit.http.guard import EgressRule, EgressRules, Guard, parse_rule
from headgate.kit.http.lookup import SystemLookup
from headgate.kit.http.message import Origin
from headgate.main.login_settings import list_issuer_origins
from headgate.main.payment_settings import parse_api_base
from headgate.oauth.service.clients import PURPOSE as OAUTH_CLIENT
from headgate.payments.service.provider import PAYMENTS
from headgate.relay.content import PURPOSE as CONTENT
from headgate.relay.ports import OPERATOR
from headgate.settings import InvalidSettingError, Settings, variable_of
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url


class InvalidCertificateAuthoritiesError(HeadgateError):
    """`HEADGATE_EGRESS_CA_FILE` cannot be read.

    Name a file of certificates in PEM.
    """

    kind = Kind.INVALID
    code = "authorities_refused"


def build_rules(settings: Settings, simulator: Origin | None = None) -> EgressRules:
    """Build the egress rules of each purpose.

    The allow-list holds for every purpose but two: the content that requests name by its address,
    which any client of the gateway chooses, and the metadata documents of applications that want to
    be connected, which anybody's link chooses. `OPENAI_BASE_URL` and the simulator are added for
    the operator's credentials, the issuers of logins for those. Raise `InvalidSettingError`.
    """
    rules = EgressRules(build_rule(settings), {CONTENT: EgressRule(), OAUTH_CLIENT: EgressRule()})
    rules = rules.with_origins(IDENTITY, *list_issuer_origins(settings))
    rules = rules.with_origins(PAYMENTS, parse_api_base(settings))
    if settings.openai_base_url is not None:
        rules = rules.with_origins(OPERATOR, _parse_own_origin(settings.openai_base_url))
    return rules if simulator is None else rules.with_origins(OPERATOR, simulator)


def build_rule(settings: Settings) -> EgressRule:
    """Build the rule of the allow-list. Raise `InvalidSettingError`."""
    try:
        return parse_rule(settings.egress_allow)
    except ValueError as error:
        variable = variable_of("egress_allow")
        raise InvalidSettingError(f"{variable}: {error}.", param="egress_allow") from error


def _parse_own_origin(base_url: str) -> Origin:
    try:
        return parse_base_url(base_url)[0]
    except InvalidCredentialError as error:
        variable = variable_of("openai_base_url")
        # Without the address itself: it may hold a password.
        message = f"{variable} cannot be used: {error.message}"
        raise InvalidSettingError(message, param="openai_base_url") from error


def open_client(settings: Settings, rules: EgressRules | EgressRule) -> HttpClient:
    """Open the client on the running loop. Raise `InvalidCertificateAuthoritiesError`."""
    return HttpClient(
        head_limits=HeadLimits(
            settings.response_header_bytes_max, settings.response_header_count_max
        ),
        dialer=Dialer(
            Guard(rules, SystemLookup(lookups_max=settings.lookups_max)),
            share_tls_context(settings.egress_ca_file),
        ),
    )


def check_authorities(settings: Settings) -> None:
    """Raise `InvalidCertificateAuthoritiesError` for a file that cannot be used."""
    path = settings.egress_ca_file
    try:
        share_tls_context(path)
    except OSError as error:
        raise InvalidCertificateAuthoritiesError(
            f"{variable_of('egress_ca_file')} cannot be {path!r}: {error.strerror or error}. "
            "It is a file of certificates in PEM."
        ) from error


def simulator_origin(settings: Settings) -> Origin | None:
    """Return where a simulator on this machine would listen."""
    port = settings.simulator_port
    return Origin("http", "127.0.0.1", port) if port else None
