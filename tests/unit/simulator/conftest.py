from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import httpx2
import openai
import pytest

from headgate_simulator import server


@pytest.fixture(scope="session")
def address() -> Generator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(10)
    yield running.address
    asyncio.run_coroutine_threadsafe(running.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def client(address: str) -> Generator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-test", base_url=f"{address}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def http(address: str) -> Generator[httpx2.Client]:
    headers = {"authorization": "Bearer sk-test"}
    with httpx2.Client(base_url=address, headers=headers, timeout=5) as http:
        yield http
