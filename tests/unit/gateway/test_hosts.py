"""Which Host headers are valid and served."""

from __future__ import annotations

import pytest

from headgate.gateway.hosts import ACCEPTED_MAX, HostAllowlist, read_name
from headgate.gateway.limits import HostNotAllowedError, MalformedRequestError


def check_status(hosts: HostAllowlist, value: str) -> int:
    error = hosts.check([value.encode("latin-1")], is_old=False)
    return 200 if error is None else error.kind.value


@pytest.mark.parametrize(
    "value",
    [
        *("localhost", "LOCALHOST:4600", "localhost.", "api.localhost", "127.0.0.1", "10.1.2.3:80"),
        *("host.docker.internal:4600", "gateway.docker.internal", "mac.local", "a.b.local"),
        *("gate.team.svc", "gate.team.svc.cluster.local:80", "x.corp.internal", "HOST.INTERNAL."),
        *("[::1]", "[::1]:4600", "[::ffff:1.2.3.4]", "gateway", "head_gate:4600", "gateway-1:"),
    ],
)
def test_without_configuration_private_names_are_served(value: str) -> None:
    assert check_status(HostAllowlist(), value) == 200


@pytest.mark.parametrize(
    "value",
    [
        *("evil.example", "evil.example:4600", "localhost.evil.example", "127.0.0.1.nip.io"),
        *("local.evil.example", "evil.internal.example", "evillocal.example", "a.svc.example"),
    ],
)
def test_without_configuration_public_names_are_refused(value: str) -> None:
    error = HostAllowlist().check([value.encode()], is_old=False)
    assert isinstance(error, HostNotAllowedError)
    assert f"HEADGATE_ALLOWED_HOSTS={value.partition(':')[0]}" in error.message


def test_server_on_a_public_address_refuses_private_names() -> None:
    hosts = HostAllowlist(is_public=True)
    for value in ("host.docker.internal", "mac.local", "gate.team.svc.cluster.local", "a.svc"):
        assert check_status(hosts, value) == 421
    for value in ("localhost", "198.51.100.7:4600", "gateway"):
        assert check_status(hosts, value) == 200


def test_with_a_list_only_its_names_are_served() -> None:
    hosts = HostAllowlist(("Gate.example", "*.below.example", "[::1]"))
    assert [
        check_status(hosts, each) for each in ("gate.example", "GATE.EXAMPLE.:1", "[::1]:8")
    ] == [
        200,
        200,
        200,
    ]
    assert [check_status(hosts, each) for each in ("a.below.example", "a.b.below.example")] == [
        200,
        200,
    ]
    for other in ("below.example", "notbelow.example", "localhost", "127.0.0.1", "gate"):
        assert check_status(hosts, other) == 421


def test_star_serves_every_valid_name() -> None:
    hosts = HostAllowlist(("*",))
    assert check_status(hosts, "evil.example") == 200
    assert check_status(hosts, "evil.example/") == 400


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "x/?z", "a@b", "a b", "a\tb", "a:b", "a:-1", "a:65536", "a:1:1", "a:999999"),
        *(
            "[::1",
            "::1",
            "[1.2.3.4]",
            "[x]",
            "[::1%25eth0]",
            "[::1]x",
            "a,b",
            "a\\b",
            "a#b",
            "a%41",
        ),
        *("\xf6", ".", "a..b", "-a", "a-", "http://a", "a\x00", "x" * 300),
    ],
)
def test_malformed_host_is_rejected(value: str) -> None:
    assert read_name(value.encode("latin-1")) is None
    assert check_status(HostAllowlist(("*",)), value) == 400


def test_exactly_one_host_is_required_except_in_http_1_0() -> None:
    assert isinstance(HostAllowlist().check([], is_old=False), MalformedRequestError)
    assert isinstance(HostAllowlist().check([b"a", b"a"], is_old=False), MalformedRequestError)
    assert isinstance(HostAllowlist().check([b"a", b"a"], is_old=True), MalformedRequestError)
    assert HostAllowlist().check([], is_old=True) is None
    assert isinstance(HostAllowlist(("gate.example",)).check([], is_old=True), HostNotAllowedError)


def test_only_accepted_hosts_are_cached_up_to_a_limit() -> None:
    hosts = HostAllowlist(("*",))
    for number in range(ACCEPTED_MAX + 10):
        assert check_status(hosts, f"h{number}.example") == 200
    assert check_status(hosts, "a/b") == 400
    assert len(hosts.accepted) == ACCEPTED_MAX
    assert (b"host", b"h1.example") in hosts.accepted


def test_host_error_says_what_is_wrong_and_what_to_set() -> None:
    def message(hosts: HostAllowlist, values: list[bytes], *, is_old: bool = False) -> str:
        error = hosts.check(values, is_old=is_old)
        assert error is not None
        return error.message

    assert message(HostAllowlist(), []) == "A request must have exactly one Host header."
    assert message(HostAllowlist(), [b"a/b"]) == (
        "The Host header is not a host name with or without a port."
    )
    assert message(HostAllowlist(), [b"evil.example:80"]) == (
        "The host name 'evil.example' is not served here. To serve it, set "
        "HEADGATE_ALLOWED_HOSTS=evil.example (a list of names; *.example.com for all below one, "
        "* for any). Then only what is listed is served: list localhost and 127.0.0.1 as well if "
        "they are used."
    )
    assert message(HostAllowlist(("a",)), [], is_old=True) == (
        "The host name 'the-name' is not served here. To serve it, add it to the names of the "
        "setting HEADGATE_ALLOWED_HOSTS: HEADGATE_ALLOWED_HOSTS=...,the-name (*.example.com for "
        "all below one, * for any)."
    )


def test_http_1_0_without_a_host_is_served_where_any_name_is() -> None:
    assert HostAllowlist(("*",)).check([], is_old=True) is None
    assert HostAllowlist(("*", "a")).check([], is_old=True) is None


def test_names_of_the_list_are_read_as_those_of_a_request() -> None:
    hosts = HostAllowlist(("XX.example.", "[::1]", "lax"))
    for value in ("xx.example", "XX.example.", "[::1]:80", "lax"):
        assert check_status(hosts, value) == 200
    for value in ("example", ".example", "la", "x.example", "::1"):
        assert check_status(hosts, value) != 200


@pytest.mark.parametrize(
    ("value", "name"),
    [("a:0", "a"), ("a:65535", "a"), ("a:65536", None), ("a:00080", "a"), ("a:", "a")],
)
def test_port_of_a_host_is_in_range(value: str, name: str | None) -> None:
    assert read_name(value.encode()) == name


@pytest.mark.parametrize(("length", "is_name"), [(254, True), (255, False)])
def test_host_name_has_a_maximum_length(length: int, is_name: bool) -> None:
    assert (read_name(b"a" * length) is not None) is is_name
    assert (read_name(b"a" * length + b".:80") is not None) is is_name
