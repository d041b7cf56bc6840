"""`headgate assets`: every command, for people and for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fakes.api import running_api
from tests.fakes.commands import run, run_json


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return a data directory, and a project in it."""
    folder = tmp_path_factory.mktemp("assets") / "data"
    with running_api(folder) as api:
        return str(folder), api.own.project_id


@pytest.fixture(autouse=True)
def _data(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_DATA", place[0])


def test_file_is_uploaded_listed_replaced_and_removed(
    place: tuple[str, str], tmp_path: Path
) -> None:
    project = ("--project", place[1])
    file = tmp_path / "My notes.md"
    file.write_text("# Notes")
    uploaded = run("assets", "upload", str(file), "--alt", "Notes", *project)
    assert uploaded.exit_code == 0, uploaded.output
    assert "My-notes.md (text/markdown, 7 bytes) is ast_" in uploaded.stdout
    assert "http://127.0.0.1:4600/assets/ast_" in uploaded.stdout
    refused = run("assets", "upload", str(file), *project)
    assert (refused.exit_code, "already" in refused.output) == (1, True)
    again = run_json("assets", "upload", str(file), "--overwrite", *project)
    assert (again["slug"], again["version"], again["alt"]) == ("My-notes.md", 2, "Notes")
    piped = run_json("assets", "upload", "-", "--slug", "a.txt", *project, stdin="text")
    listed = run_json("assets", "list", *project)
    assert listed == [piped, again]
    assert run_json("assets", "list") == listed
    shown = run("assets", "list").stdout
    assert again["id"] in shown
    assert run("assets", "remove", "a.txt", *project).stdout == "a.txt is removed.\n"
    assert run("assets", "remove", again["id"]).exit_code == 0
    assert run("assets", "remove", again["id"], *project).exit_code == 1
    assert run_json("assets", "list") == []


def test_doctor_tells_of_files_that_are_missing(place: tuple[str, str]) -> None:
    run_json("assets", "upload", "-", "--slug", "lost.txt", "--project", place[1], stdin="text")
    found = {each["subject"]: each for each in json.loads(run("doctor", "--json").stdout)}
    assert found["assets"]["text"] == "1 files, all there"
    shutil.rmtree(Path(place[0]) / "assets")
    found = {each["subject"]: each for each in json.loads(run("doctor", "--json").stdout)}
    assert found["assets"]["level"] == "fail"
    assert found["assets"]["text"].startswith("1 of 1 files are missing")
    assert run("assets", "remove", "lost.txt", "--project", place[1]).exit_code == 0


def test_address_that_may_not_be_fetched_is_an_error(place: tuple[str, str]) -> None:
    refused = run("assets", "upload", "http://127.0.0.1/a.png", "--project", place[1])
    assert refused.exit_code == 1
    assert "only https://" in refused.output
