from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.fakes.api import Api, running_api


@pytest.fixture
def api(tmp_path: Path) -> Generator[Api]:
    with running_api(tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api]:
    """For tests that leave nothing behind that another one could see."""
    with running_api(tmp_path_factory.mktemp("api") / "data") as running:
        yield running
