"""Questions to the operating system's resolver, with a resolver that the test holds."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from headgate.kit.http.errors import ConnectError, PoolExhaustedError
from headgate.kit.http.lookup import SystemLookup, resolve_host

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def test_system_is_asked_for_stream_addresses_and_repeats_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[object, object, object]] = []

    def getaddrinfo(host: object, port: object, *, type: object = 0) -> list[Any]:
        asked.append((host, port, type))
        places = ["2606::1", "8.8.8.8", "2606::1", "8.8.4.4"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, 0)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert resolve_host("api.test") == ["2606::1", "8.8.8.8", "8.8.4.4"]
    assert asked == [("api.test", None, socket.SOCK_STREAM)]


def test_address_is_its_own_answer() -> None:
    assert resolve_host("127.0.0.1") == ["127.0.0.1"]


@pytest.mark.anyio
@ONLY_ASYNCIO
async def test_lookup_runs_in_a_named_daemon_thread() -> None:
    threads: list[threading.Thread] = []

    def ask(host: str) -> list[str]:
        threads.append(threading.current_thread())
        return [host]

    assert await SystemLookup(ask=ask).find("a.test") == ["a.test"]
    assert [(thread.name, thread.daemon) for thread in threads] == [("headgate-lookup", True)]


@pytest.mark.anyio
@ONLY_ASYNCIO
@pytest.mark.parametrize("fault", [OSError("no such name"), UnicodeError("label too long")])
async def test_failed_lookup_has_its_reason_and_is_repeated(fault: Exception) -> None:
    asked: list[str] = []

    def ask(host: str) -> list[str]:
        asked.append(host)
        raise fault

    lookup = SystemLookup(ask=ask)
    for _ in range(2):
        with pytest.raises(ConnectError) as failed:
            await asyncio.wait_for(lookup.find("a.test"), 10)
        assert str(failed.value) == f"Cannot resolve a.test: {fault}"
        assert failed.value.__cause__ is fault
    assert asked == ["a.test"] * 2


@pytest.mark.anyio
@ONLY_ASYNCIO
async def test_as_many_names_as_allowed_are_asked_for_at_a_time_and_then_more() -> None:
    held = threading.Event()

    def ask(host: str) -> list[str]:
        assert held.wait(10)
        return [host]

    lookup = SystemLookup(lookups_max=2, ask=ask)
    tasks = [asyncio.create_task(lookup.find(name)) for name in ("a.test", "b.test", "a.test")]
    await asyncio.sleep(0)
    with pytest.raises(PoolExhaustedError) as refused:
        await lookup.find("c.test")
    assert str(refused.value) == "2 names are being resolved already."
    held.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*tasks) == [["a.test"], ["b.test"], ["a.test"]]
        assert await lookup.find("c.test") == ["c.test"]


@pytest.mark.anyio
@ONLY_ASYNCIO
async def test_name_is_asked_for_anew_after_a_time_without_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    lookup = SystemLookup(ask=lambda host: [host])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(
            PoolExhaustedError, match=r"^No name can be resolved now: can't start new"
        ):
            await lookup.find("a.test")
    assert await asyncio.wait_for(lookup.find("a.test"), 10) == ["a.test"]


@pytest.mark.anyio
@ONLY_ASYNCIO
async def test_cancelled_caller_leaves_the_lookup_to_others() -> None:
    held = threading.Event()
    asked: list[str] = []

    def ask(host: str) -> list[str]:
        asked.append(host)
        assert held.wait(10)
        return [host]

    lookup = SystemLookup(ask=ask)
    leaver, stayer = (asyncio.create_task(lookup.find("a.test")) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.sleep(0)
    assert leaver.cancelled()
    held.set()
    assert await asyncio.wait_for(stayer, 10) == ["a.test"]
    assert asked == ["a.test"]


def test_answer_after_the_loop_closed_is_ignored() -> None:
    held = threading.Event()
    threads: list[threading.Thread] = []

    def ask(host: str) -> list[str]:
        threads.append(threading.current_thread())
        assert held.wait(10)
        return [host]

    async def leave() -> None:
        task = asyncio.create_task(SystemLookup(ask=ask).find("a.test"))
        while not threads:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    held.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
