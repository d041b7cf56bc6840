"""Anthropic's official SDK for Node, unchanged but for its base URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rigs import node_sdk
from tests.fakes.simulated_gateway import SimulatedGateway


def pick(message: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same in a repeated answer."""
    changing = ("id", "signature", "tool_use_id")
    content: list[dict[str, Any]] = [
        {name: value for name, value in block.items() if name not in changing and value is not None}
        for block in message["content"]
    ]
    return {"stop_reason": message["stop_reason"], "content": content}


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_stream_helpers_of_the_node_sdk_accept_every_stream(
    tmp_path: Path, module_simulated_gateway: SimulatedGateway
) -> None:
    node_sdk.install(tmp_path)
    gateway = module_simulated_gateway.gateway
    found = node_sdk.run_script(tmp_path, gateway.base_url, gateway.key)
    for name, answers in found["streams"].items():
        assert pick(answers["streamed"]) == pick(answers["whole"]), name
        assert answers["kinds"][0] == "message_start"
        assert answers["kinds"][-1] == "message_stop"
    assert found["streams"]["tools"]["whole"]["stop_reason"] == "tool_use"
    assert found["streams"]["stop"]["whole"]["stop_sequence"] == "not a model"
    assert found["rounds"] == ["tool_use", "end_turn"]
    assert found["tokens"] == 8
    assert "gpt-5.4-mini" in found["models"]
    assert found["errors"]["limit"]["class"] == "BadRequestError"
    assert found["errors"]["model"]["type"] == "not_found_error"
    assert found["errors"]["model"]["requestId"].startswith("req_")
