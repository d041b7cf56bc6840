"""`headgate resources`: every command, for people and for programs."""

from __future__ import annotations

import json

import pytest

from tests.fakes.api import clear_platform, running_api
from tests.fakes.commands import run, run_json


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return a data directory, and an organization in it that has one credential."""
    folder = tmp_path_factory.mktemp("resources") / "data"
    with running_api(folder) as api:
        tenant = api.own.organization_id
        clear_platform(api)
    secret = "sk-proj-0123456789abcdefWXYZ"
    options = ("--name", "acme", "--organization", tenant, "--data", str(folder))
    added = run("credentials", "add", "openai", "--api-key-stdin", *options, stdin=secret)
    assert added.exit_code == 0, added.output
    return str(folder), tenant


@pytest.fixture(autouse=True)
def _data(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_DATA", place[0])


@pytest.fixture
def own(place: tuple[str, str]) -> tuple[str, str]:
    """Return the option that names the organization."""
    return "--organization", place[1]


def test_resource_is_created_listed_shown_copied_and_deleted(own: tuple[str, str]) -> None:
    assert "no resources" in run("resources", "list", *own).stdout
    options = (
        "--model",
        "gpt-5.4",
        "--credential",
        "acme",
        "--retries",
        "2",
        "--timeout-ms",
        "500",
    )
    fallbacks = ("--fallback", "acme/vendor/mini", "--fallback", "gpt-4.1")
    made = run(
        "resources", "create", *own, "assistant", *options, *fallbacks, "--timeout-ms", "500"
    )
    assert '"model": "assistant"' in made.stdout
    (resource,) = run_json("resources", "list", *own)
    assert (resource["model"]["credential_name"], resource["model"]["max_retries"]) == ("acme", 2)
    assert [each["model"] for each in resource["fallback_models"]] == ["vendor/mini", "gpt-4.1"]
    assert resource["use_fallback"]
    table = run("resources", "list", *own).stdout
    assert "acme/gpt-5.4" in table
    named = run_json("resources", "create", *own, "short", "--model", "acme/gpt-5.4")
    assert (named["model"]["credential_name"], named["model"]["model"]) == ("acme", "gpt-5.4")
    mistyped = run("resources", "create", *own, "odd", "--model", "m", "--fallback", "acmee/mini")
    assert "there is no credential 'acmee'" in mistyped.stderr

    shown = run("resources", "show", *own, "assistant").stdout
    assert json.loads(shown)["id"] == resource["id"]
    copy = run_json("resources", "create", *own, "copy", "--file", "-", stdin=shown)
    assert copy["fallback_models"] == resource["fallback_models"]

    kept = run("credentials", "remove", "acme")
    assert kept.exit_code == 1
    for name in ("assistant", "copy", "short", "odd"):
        assert "is deleted" in run("resources", "delete", *own, name).stdout
    assert run("resources", "show", *own, "assistant").exit_code == 1
    assert run("credentials", "remove", "acme").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("without-a-model",),
        ("bad name", "--model", "m"),
        ("x", "--model", "m", "--credential", "none"),
        ("x", "--model", "m", "--retries", "11"),
        ("x", "--model", "m", "--project", "none"),
        ("x", "--file", "nowhere.json"),
    ],
)
def test_invalid_resource_is_refused(own: tuple[str, str], words: tuple[str, ...]) -> None:
    assert run("resources", "create", *own, *words).exit_code == 1
