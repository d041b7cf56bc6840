"""The official Node SDK, unchanged but for its base URL."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from headgate.llm.usage import Usage
from tests.fakes.simulated_gateway import SimulatedGateway

SOURCE = Path(__file__).parent / "node"
CACHE = Path(__file__).parents[2] / "build" / "node-sdk"
NODE_MAJOR_MIN = 22
INSTALL_SECONDS = 120
SAID = "[Headgate simulator, not a model] You said: Hello"

pytestmark = pytest.mark.timeout(INSTALL_SECONDS)


def find_node() -> Path | None:
    """Return the Node of the environment, to which the tools are locked, else the machine's."""
    own = Path(sys.executable).parent / "node"
    found = str(own) if own.exists() else shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    is_recent = int(version.stdout.strip().lstrip("v").split(".")[0]) >= NODE_MAJOR_MIN
    return Path(found) if is_recent else None


@pytest.fixture(scope="session")
def node() -> Path:
    found = find_node()
    if found is None:
        pytest.skip(f"there is no Node of version {NODE_MAJOR_MIN} or later")
    return found


@pytest.fixture(scope="session")
def installed(node: Path) -> Path:
    """Return the folder of the locked SDK, installed once for each state of the lock file."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        building = Path(made) / "sdk"
        building.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, building)
        subprocess.run(
            [node.parent / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=building,
            env=os.environ
            | {
                "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}",
                "NODE_USE_SYSTEM_CA": "1",
            },
            check=True,
            capture_output=True,
            timeout=INSTALL_SECONDS,
        )
        # Another worker may have been faster; both have the same.
        with contextlib.suppress(OSError):
            building.rename(folder)
    return folder


class Caller:
    def __init__(self, node: Path, folder: Path, sdk: SimulatedGateway) -> None:
        self._node = node
        self._folder = folder
        self._sdk = sdk

    def run(self, name: str, *, key: str | None = None) -> dict[str, Any]:
        script = shutil.copy(SOURCE / "calls.mjs", self._folder / f"calls-{os.getpid()}.mjs")
        environment = {
            "PATH": os.environ["PATH"],
            "OPENAI_API_KEY": key or self._sdk.gateway.key,
            "OPENAI_BASE_URL": self._sdk.gateway.base_url,
        }
        done = subprocess.run(
            [self._node, script, name],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def value(self, name: str) -> Any:
        outcome = self.run(name)
        assert "value" in outcome, outcome
        return outcome["value"]


@pytest.fixture
def caller(node: Path, installed: Path, sdk: SimulatedGateway) -> Caller:
    return Caller(node, installed, sdk)


def usage_of(usage: dict[str, Any]) -> Usage:
    details = usage["completion_tokens_details"]
    return Usage(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        reasoning_tokens=details["reasoning_tokens"],
    )


def price(usage: Usage) -> int:
    return usage.input_tokens * 750 + usage.output_tokens * 4500


def test_chat_and_its_cost(caller: Caller, sdk: SimulatedGateway) -> None:
    value = caller.value("chat")
    assert value["answer"]["choices"][0]["message"]["content"] == SAID
    usage = usage_of(value["answer"]["usage"])
    receipt = sdk.check("chat.completions", pricing="priced", usage=usage, cost_nano=price(usage))
    assert int(value["cost"].replace(".", "")) == receipt.cost_nano


def test_chat_stream_hides_the_usage_and_costs_the_same(
    caller: Caller, sdk: SimulatedGateway
) -> None:
    usage = usage_of(caller.value("chat")["answer"]["usage"])
    sdk.receipts.take()
    chunks = caller.value("chatStream")
    assert "".join(c["delta"].get("content", "") for x in chunks for c in x["choices"]) == SAID
    assert not any(chunk.get("usage") for chunk in chunks)
    sdk.check("chat.completions", pricing="priced", usage=usage, cost_nano=price(usage))


def test_chat_stream_helper(caller: Caller) -> None:
    assert caller.value("chatRunner")["choices"][0]["message"]["content"] == SAID


def test_response_stream_ends_completed_and_costs_the_same(
    caller: Caller, sdk: SimulatedGateway
) -> None:
    response = caller.value("responses")
    whole = sdk.receipts.take_one()
    events = caller.value("responsesStream")
    streamed = sdk.receipts.take_one()
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"] == response["usage"]
    assert (streamed.usage, streamed.cost_nano) == (whole.usage, whole.cost_nano)
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert text == SAID


def test_embeddings_in_the_form_that_the_sdk_prefers(caller: Caller, sdk: SimulatedGateway) -> None:
    value = caller.value("embeddings")
    assert value["lengths"] == [8, 8]
    tokens = value["usage"]["prompt_tokens"]
    usage = Usage(input_tokens=tokens)
    sdk.check("embeddings", pricing="priced", usage=usage, cost_nano=20 * tokens)


def test_file_goes_up_and_comes_down(caller: Caller, sdk: SimulatedGateway) -> None:
    assert caller.value("files") == {"bytes": 70_000, "same": True, "deleted": True}
    sdk.check_free("files", calls=3)


def test_models_are_listed(caller: Caller) -> None:
    assert "gpt-5.4-mini" in caller.value("models")


def test_wrong_key_is_the_sdks_own_error(caller: Caller, sdk: SimulatedGateway) -> None:
    error = caller.run("chat", key="wrong")["error"]
    assert error["kind"] == "AuthenticationError"
    assert (error["status"], error["code"]) == (401, "invalid_api_key")
    assert error["requestID"].startswith("req_")
    assert sdk.receipts.take() == []


def test_management_key_is_the_sdks_own_error(caller: Caller, sdk: SimulatedGateway) -> None:
    error = caller.run("chat", key=sdk.gateway.keys["admin_key"])["error"]
    assert (error["kind"], error["status"]) == ("PermissionDeniedError", 403)
