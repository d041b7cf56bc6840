"""Run periodic background jobs, so that the failure of one run ends none of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import msgspec
import structlog

from headgate.kit.errors import HeadgateError

log = structlog.get_logger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Describe work to repeat. Without `first_seconds`, the first run is after one period."""

    name: str
    run: Callable[[], Awaitable[object]]
    period_seconds: float
    first_seconds: float | None = None


async def run_jobs(jobs: Iterable[Job]) -> None:
    """Run the jobs until cancelled."""
    await asyncio.gather(*map(_repeat, jobs))


async def _repeat(job: Job) -> None:
    await asyncio.sleep(job.period_seconds if job.first_seconds is None else job.first_seconds)
    while True:
        try:
            await job.run()
        except HeadgateError as error:
            # The database may be busy or full; the next run tries again.
            log.warning("background_job.failed", work=job.name, error=error.message)
        # A bug in one run must not end all background jobs, unseen.
        except Exception:
            log.exception("background_job.fault", work=job.name)
        await asyncio.sleep(job.period_seconds)


@contextlib.asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
