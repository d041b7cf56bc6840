"""Connections and calls fit into what the system lets a process open."""

from __future__ import annotations

import resource

from headgate.kit.process.descriptors import RESERVED, raise_limit, share


def test_enough_files_change_nothing() -> None:
    assert share(10_000, 2048, files_max=20_000) == (10_000, 2048)
    assert share(10_000, 2048, files_max=resource.RLIM_INFINITY) == (10_000, 2048)


def test_few_files_are_shared_and_some_kept_back() -> None:
    for files_max in (4096, 1024, 256):
        connections, requests = share(10_000, 2048, files_max=files_max)
        assert 0 < requests < connections
        assert connections + requests <= files_max - RESERVED


def test_hardly_any_files_still_leave_one_of_each() -> None:
    assert min(share(10, 10, files_max=64)) >= 1


def test_limit_is_raised_to_what_the_system_grants() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        assert raise_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
