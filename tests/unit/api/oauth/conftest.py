"""One server for all tests of the authorization server."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.fakes.api import Api, Props, running_api
from tests.fakes.connecting import (
    AgentClient,
    Tokens,
    make_agent,
)
from tests.fakes.pipeline import ManualClock


@pytest.fixture(scope="package")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="package")
def api(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Generator[Api]:
    """Shared: each test has a person of its own."""
    with running_api(tmp_path_factory.mktemp("oauth") / "data", Props(clock=clock)) as running:
        yield running


@pytest.fixture
def agent(api: Api) -> AgentClient:
    return make_agent(api)


@pytest.fixture
def tokens(api: Api, clock: ManualClock) -> Tokens:
    return Tokens(api, clock)
