"""The generated pages of the documentation are what the program says."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.telemetry.metric_help import COUNTERS, HELP, HISTOGRAMS
from tools import reference


@pytest.mark.parametrize("name", reference.PAGES)
def test_page_is_what_the_program_says(name: str) -> None:
    assert (reference.DOCS / name).read_text() == reference.PAGES[name]()


def test_every_metric_is_explained() -> None:
    assert {*COUNTERS, *HISTOGRAMS} <= set(HELP)
    assert all(text.endswith(".") for text in HELP.values())


def test_every_page_is_in_the_navigation() -> None:
    site = tomllib.loads((reference.DOCS.parent / "zensical.toml").read_text())
    listed = set(_list_pages(site["project"]["nav"]))
    assert listed == {
        path.relative_to(reference.DOCS).as_posix() for path in reference.DOCS.rglob("*.md")
    }


def _list_pages(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _list_pages(target)
