from __future__ import annotations

import asyncio
import logging
import signal
import socket

import httpx2
import pytest

from headgate.kit.process.listener import AddressInUseError
from headgate_simulator import server

pytestmark = pytest.mark.anyio
KEY = {"authorization": "Bearer sk-t"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_it_runs_beside_its_host_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    running = await server.start("127.0.0.1", 0)
    assert signal.getsignal(signal.SIGINT) is before
    async with httpx2.AsyncClient(base_url=running.address, headers=KEY) as http:
        assert (await http.get("/v1/models")).status_code == 200
        await running.stop()
        with pytest.raises(httpx2.ConnectError):
            await http.get("/v1/models")


async def test_stopping_cuts_open_answers_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    running = await server.start("127.0.0.1", 0)
    body = {
        "model": "gpt-4o@fault:stall=2",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }
    async with (
        httpx2.AsyncClient(base_url=running.address, headers=KEY) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        pieces = response.aiter_raw()
        await anext(pieces)
        await asyncio.wait_for(running.stop(), 3)
        with pytest.raises(httpx2.RemoteProtocolError):
            async for _ in pieces:
                pass
    assert asyncio.all_tasks() == before


async def test_taken_port_is_told_with_the_setting_that_chooses_another() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(AddressInUseError, match=r"in use.*HEADGATE_SIMULATOR_PORT"),
    ):
        await server.start("127.0.0.1", taken.getsockname()[1])


async def test_cut_leaves_no_noise_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    running = await server.start("127.0.0.1", 0)
    body = {"model": "gpt-4o@fault:cut=1", "input": "hi", "stream": True}
    with caplog.at_level(logging.DEBUG, "uvicorn"):
        async with httpx2.AsyncClient(base_url=running.address, headers=KEY) as http:
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.post("/v1/responses", json=body)
        await running.stop()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
