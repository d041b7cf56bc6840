"""What is printed at a start works as it is typed."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from headgate.kit.http.message import Origin
from headgate.main import banner
from headgate.main.banner import StartState
from headgate.relay.ports import Credential
from headgate.settings import Settings


def make_credential(name: str) -> Credential:
    return Credential(
        id="cred_1",
        name=name,
        integration="openai",
        managed=False,
        origin=Origin("https", "api.openai.com", 443),
        base_path=b"/v1",
        headers=[],
        secret=b"sk-x",
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("simulator", "the simulator"),
        ("environment", "https://api.openai.com:443, with OPENAI_API_KEY"),
        ("mine", "https://api.openai.com:443, with the stored credential mine (cred_1)"),
        (None, "none yet: ./headgate credentials add openai --data 'a folder'"),
    ],
)
def test_credential_that_answers_is_named(name: str | None, told: str) -> None:
    credential = None if name is None else make_credential(name)
    assert told in banner.describe_provider(
        credential, "./headgate", data="'a folder'", has_key=True
    )


def test_key_of_an_earlier_start_is_told_with_how_to_end_it() -> None:
    told = banner.describe_provider(make_credential("environment"), "./headgate", data="d")
    assert "with the OPENAI_API_KEY of an earlier start" in told
    assert "./headgate credentials remove environment --data d" in told


def test_commands_name_the_program_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert banner.find_program(".venv/bin/headgate") == ".venv/bin/headgate"
    assert banner.find_program("/usr/bin/headgate") == "/usr/bin/headgate"
    assert banner.find_program("headgate") == "./headgate"
    module = banner.find_program("/somewhere/headgate/cli/__main__.py")
    assert shlex.split(module)[1:] == ["-m", "headgate.cli"]
    done = subprocess.run(
        [*shlex.split(module), "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()


@pytest.mark.parametrize("name", ["data", "a folder"])
def test_keys_are_read_by_the_lines_that_are_shown(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.mkdir()
    (data / "first-keys.json").write_text('{"inference_key": "hg_live_x", "owner_invitation": "t"}')
    settings = Settings(data=data, host="0.0.0.0", port=4600)
    told = banner.render(settings, StartState(is_owner_missing=True), None)
    assert "curl http://127.0.0.1:4600/v1/chat/completions" in told
    assert "API reference     http://127.0.0.1:4600/docs" in told
    assert f"init --data {shlex.quote(str(data))}" in told
    lines = [line.strip() for line in told.splitlines()]
    script = [line for line in lines if line.startswith(("KEY=", "INVITATION="))]
    shown = "\n".join([*script, 'echo "$KEY $INVITATION"'])
    done = subprocess.run(["/bin/sh", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout == "hg_live_x t\n"


@pytest.mark.parametrize("kept", [None, '{"owner_invitation": "t"}'])
def test_start_without_the_first_keys_tells_how_to_issue_one(
    tmp_path: Path, kept: str | None
) -> None:
    if kept is not None:
        (tmp_path / "first-keys.json").write_text(kept)
    told = banner.render(Settings(data=tmp_path), StartState(), None)
    assert f"keys create --data {tmp_path})" in told
    assert "first-keys.json" not in told
