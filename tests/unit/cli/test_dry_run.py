"""`headgate resources dry-run`, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.api import clear_platform, running_api
from tests.fakes.commands import run, run_json
from tests.unit.resources.routing_rules import condition, group, rule

HELLO = '{"messages": [{"role": "user", "content": "Hello"}]}'


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return the options of a data directory that has a resource with rules."""
    folder = tmp_path_factory.mktemp("dry-run") / "data"
    with running_api(folder) as api:
        tenant = api.own.organization_id
        clear_platform(api)
    options = ("--organization", tenant, "--data", str(folder))
    rules = [
        rule(
            group(condition("request.lastMessage.content", "CONTAINS", "bomb")),
            action="BLOCK",
            description="No bombs",
        ),
        rule(
            condition("errorRate(5)", "GREATER_THAN", "20", "number"),
            description="Failing",
            model="gpt-5.4-mini",
            then={"traffic": 50},
        ),
    ]
    resource = {"model": {"model": "gpt-5.4"}, "routing": {"conditions": rules}}
    made = run(
        "resources", "create", "assistant", "--file", "-", *options, stdin=json.dumps(resource)
    )
    assert made.exit_code == 0, made.output
    return options


def test_decision_targets_and_rules_are_told(own: tuple[str, ...]) -> None:
    command = ("resources", "dry-run", "assistant", "--request", HELLO, *own)
    shown = run(*command).stdout
    assert "No rule takes the call" in shown
    assert "gpt-5.4" in shown
    assert "No bombs" in shown
    assert "'Hello'" in shown
    told = run_json(*command, "--error-rate", "30", "--draw", "10")
    assert (told["decision"]["rule"], told["targets"][0]["model"]) == (1, "gpt-5.4-mini")


def test_request_and_rules_are_read_from_files(own: tuple[str, ...], tmp_path: Path) -> None:
    command = ("resources", "dry-run", "assistant", *own)
    piped = run(*command, "--file", "-", stdin=HELLO.replace("Hello", "a bomb"))
    assert "The rule at index 0 refuses the call." in piped.stdout
    rules = tmp_path / "rules.json"
    tried = rule(condition("metadata.tier", "EQUAL", "free"), model="small")
    rules.write_text(json.dumps({"conditions": [tried]}))
    told = run_json(
        *command, "--request", HELLO, "--routing", str(rules), "--metadata", "tier=free"
    )
    assert told["targets"][0]["model"] == "small"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "--request or with --file"),
        (("--request", "[]"), "--request is not JSON of a request"),
        (("--request", "{"), "--request is not JSON of a request"),
        (("--request", HELLO, "--metadata", "tier"), "key=text"),
        (("--file", "nowhere.json"), "Cannot read nowhere.json"),
        (("--request", HELLO, "--routing", "nowhere.json"), "Cannot read nowhere.json"),
    ],
)
def test_what_cannot_be_read_is_refused(
    own: tuple[str, ...], options: tuple[str, ...], reason: str
) -> None:
    refused = run("resources", "dry-run", "assistant", *options, *own)
    assert refused.exit_code == 1
    assert reason in refused.stderr
