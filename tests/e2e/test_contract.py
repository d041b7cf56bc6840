"""The platform API against its OpenAPI document: the quick form of `make contract`."""

from __future__ import annotations

import functools
from collections.abc import Generator
from pathlib import Path

import pytest

from rigs.contract.roles import LOCKING_OUT, find_roles
from rigs.contract.run import run
from tests.fakes.gateway import Gateway, find_port, running_gateway

run_quickly = functools.partial(run, phases="examples,fuzzing", examples=1)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway]:
    data = tmp_path_factory.mktemp("contract") / "data"
    with running_gateway(data, simulator="true", simulator_port=find_port()) as running:
        yield running


@pytest.mark.timeout(180)
def test_api_keeps_to_its_own_document(gateway: Gateway, tmp_path: Path) -> None:
    roles = find_roles(gateway)
    operator = roles["operator's key"]
    whole = run_quickly(gateway, operator, folder=tmp_path, without=LOCKING_OUT)
    assert whole.is_clean, whole.text
    signed_in = roles["owner who is signed in"]
    last = run_quickly(gateway, signed_in, folder=tmp_path, only=LOCKING_OUT)
    assert last.is_clean, last.text
    assert "api.fault" not in gateway.log.read_text()
