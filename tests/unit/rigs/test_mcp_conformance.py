"""The official tests of the Model Context Protocol (M8): `make conformance`, as `make prove` runs
it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rigs.mcp_conformance.official import REVISIONS
from rigs.mcp_conformance.parts import PARTS

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("part", PARTS)
def test_official_tests_pass_but_for_those_that_are_listed(
    part: str, revision: str, tmp_path: Path
) -> None:
    report = PARTS[part](tmp_path, revision)
    assert report.is_clean, report.text[-4_000:]
    assert report.passed
