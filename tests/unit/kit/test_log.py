from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from headgate.kit import log

TOKEN = "hg_live_abcdefghijkl_" + "S" * 49
SECRETS = [
    *("sk-proj-SSSSSSSSSSSSSSSS", TOKEN, "Bearer SSSSSSSS", "hg_admin_" + "S" * 40),
    *("https://me:SSSSSSSS@example.org/v1", "GET /v1/models?a=1&api_key=SSSSSSSS"),
]
UNCAUGHT = """
import sys, threading
from headgate.kit import log
log.configure(sys.stderr, level="info")
log.catch_uncaught()
def fail():
    local = "sk-" + "local" * 8
    raise ValueError("sk-" + "S" * 40)
class Dying:
    def __del__(self):
        fail()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Dying()
fail()
"""


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


def test_messages_that_name_a_header_stay_whole() -> None:
    text = "Send an API key (`Authorization: Bearer hg_live_...`), or connect the application."
    assert log.mask_text(text) == text
    assert log.mask_text(f"Bearer {TOKEN}") != f"Bearer {TOKEN}"


def test_value_that_is_nested_without_end_is_shown_in_part() -> None:
    deep: Any = TOKEN
    for _ in range(5_000):
        deep = {"a": [deep]}
    shown = json.dumps(log.mask_value(deep))
    assert log.OMITTED.encode("ascii", "backslashreplace").decode() in shown
    assert len(shown) < 1_000


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


def test_uncaught_exceptions_are_logged_without_secrets_and_local_variables() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["uncaught", "unraisable", "uncaught"]
    assert all("ValueError: sk-…" in line["exception"] for line in lines)
    assert "SSSS" not in done.stderr
    assert "locallocal" not in done.stderr
    assert done.returncode == 1


def test_logs_are_json_without_a_terminal() -> None:
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


PLAIN = ["a task-force-of-people", "hg_live_abcdefghijkl", "gpt-5.4", "http://127.0.0.1:80/v1?a=b"]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_left_alone(text: str) -> None:
    assert log.mask_text(text) == text


@pytest.mark.parametrize("prefix", ["hg_oat_", "hg_ort_", "hg_oac_"])
def test_tokens_of_connected_applications_are_masked(prefix: str) -> None:
    token = prefix + "A0_-" * 10 + "xyz"
    assert log.mask_text(f"refused {token}, as said") == f"refused {prefix}…, as said"
