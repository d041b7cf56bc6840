from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.server_database import ServerDatabase
from tests.fakes.simulated_gateway import SimulatedGateway, running_simulated_gateway
from tests.fakes.upstream import FakeUpstream, running_upstream


@pytest.fixture
def upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture
def gateway(upstream: FakeUpstream, tmp_path: Path) -> Generator[Gateway]:
    """Start a real server whose provider is the fake upstream, for each test."""
    with running_gateway(tmp_path / "data", provider_url=upstream.base_url) as running:
        yield running


@pytest.fixture(scope="module")
def module_simulated_gateway(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[SimulatedGateway]:
    with running_simulated_gateway(tmp_path_factory.mktemp("simulated") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def shared_upstream() -> Generator[FakeUpstream]:
    with running_upstream() as fake:
        yield fake


@pytest.fixture(scope="module")
def shared_gateway(
    shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway]:
    """Start one server for the tests of a file that only add records to it."""
    data = tmp_path_factory.mktemp("shared") / "data"
    with running_gateway(data, provider_url=shared_upstream.base_url) as running:
        yield running


@pytest.fixture
def sdk(module_simulated_gateway: SimulatedGateway) -> SimulatedGateway:
    """Return a server in front of its simulator, shared by the tests of a module."""
    module_simulated_gateway.receipts.take()
    return module_simulated_gateway


@pytest.fixture
def server_database(gateway: Gateway) -> ServerDatabase:
    return ServerDatabase(gateway.data)
