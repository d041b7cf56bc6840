from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from headgate.kit import log

TOKEN = "hg_live_abcdefghijkl_" + "S" * 49
SECRETS = ["sk-proj-SSSSSSSSSSSSSSSS", TOKEN, "Bearer SSSSSSSS", "hg_admin_" + "S" * 40]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_secret_reaches_the_log(secret: str, stream: type[io.StringIO]) -> None:
    output = stream()
    log.configure(output, level="info")
    logger = structlog.get_logger("test")
    logger.info(f"seen {secret}", header=secret.encode(), deep={"a": [{"b": (secret,)}]})
    logging.getLogger("library").warning("seen %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logger.exception("failed", error=ValueError(secret))
        logging.getLogger("library").exception("failed")
    assert "SSSS" not in output.getvalue()
    assert output.getvalue().count("ValueError") >= 2


def test_lines_are_json_where_nobody_watches() -> None:
    output = io.StringIO()
    log.configure(output, level="info")
    structlog.get_logger("test").info("call", status=200, model="gpt-5.4", key=TOKEN)
    structlog.get_logger("test").debug("not shown")
    line = json.loads(output.getvalue())
    assert line["event"] == "call"
    assert line["status"] == 200
    assert line["level"] == "info"
    assert line["key"] == "hg_live_abcdefghijkl_…"
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("text", ["a task-force-of-people", "hg_live_abcdefghijkl", "gpt-5.4"])
def test_plain_text_is_left_alone(text: str) -> None:
    assert log.mask_text(text) == text
