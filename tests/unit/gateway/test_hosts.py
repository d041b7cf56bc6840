"""Which host names are served, and which are none."""

from __future__ import annotations

import pytest

from headgate.gateway.hosts import ACCEPTED_MAX, Hosts, read_name
from headgate.gateway.limits import HostUnknown, RequestMalformed


def verdict(hosts: Hosts, value: str) -> int:
    error = hosts.check([value.encode("latin-1")], is_old=False)
    return 200 if error is None else error.kind.value


@pytest.mark.parametrize(
    "value",
    [
        *("localhost", "LOCALHOST:4600", "localhost.", "api.localhost", "127.0.0.1", "10.1.2.3:80"),
        *("[::1]", "[::1]:4600", "[::ffff:1.2.3.4]", "gateway", "head_gate:4600", "gateway-1:"),
    ],
)
def test_without_configuration_what_no_stranger_can_name_is_served(value: str) -> None:
    assert verdict(Hosts(), value) == 200


@pytest.mark.parametrize(
    "value", ["evil.example", "evil.example:4600", "localhost.evil.example", "127.0.0.1.nip.io"]
)
def test_without_configuration_a_name_of_the_network_is_misdirected(value: str) -> None:
    error = Hosts().check([value.encode()], is_old=False)
    assert isinstance(error, HostUnknown)
    assert f"HEADGATE_ALLOWED_HOSTS={value.partition(':')[0]}" in error.message


def test_only_listed_names_are_served_where_there_is_a_list() -> None:
    hosts = Hosts(("Gate.example", "*.below.example", "[::1]"))
    assert [verdict(hosts, each) for each in ("gate.example", "GATE.EXAMPLE.:1", "[::1]:8")] == [
        200,
        200,
        200,
    ]
    assert [verdict(hosts, each) for each in ("a.below.example", "a.b.below.example")] == [200, 200]
    for other in ("below.example", "notbelow.example", "localhost", "127.0.0.1", "gate"):
        assert verdict(hosts, other) == 421


def test_star_serves_every_valid_name() -> None:
    hosts = Hosts(("*",))
    assert verdict(hosts, "evil.example") == 200
    assert verdict(hosts, "evil.example/") == 400


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
def test_value_that_is_no_host_is_none(value: str) -> None:
    assert read_name(value.encode("latin-1")) is None
    assert verdict(Hosts(("*",)), value) == 400


def test_one_host_is_wanted_but_of_an_old_client() -> None:
    assert isinstance(Hosts().check([], is_old=False), RequestMalformed)
    assert isinstance(Hosts().check([b"a", b"a"], is_old=False), RequestMalformed)
    assert isinstance(Hosts().check([b"a", b"a"], is_old=True), RequestMalformed)
    assert Hosts().check([], is_old=True) is None
    assert isinstance(Hosts(("gate.example",)).check([], is_old=True), HostUnknown)


def test_only_what_is_good_is_remembered_and_not_without_end() -> None:
    hosts = Hosts(("*",))
    for number in range(ACCEPTED_MAX + 10):
        assert verdict(hosts, f"h{number}.example") == 200
    assert verdict(hosts, "a/b") == 400
    assert len(hosts.accepted) == ACCEPTED_MAX
    assert (b"host", b"h1.example") in hosts.accepted
