from __future__ import annotations

from pathlib import Path

from tests.fakes import account_objects
from tests.fakes.api import running_api
from tests.fakes.commands import run, run_json


def test_applications_are_listed_and_disconnected(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        application_id = account_objects.connect_application(api, api.own)
        key_id = api.get(f"/api/connected-applications/{application_id}").json["key_id"]
        where = ("--data", str(tmp_path))
        listed = run_json("applications", "list", "--organization", "Own", *where)
        assert [each["id"] for each in listed] == [application_id]
        assert "Agent" in run("applications", "list", "--organization", "Own", *where).stdout
        assert run("applications", "revoke", application_id, *where).exit_code == 0
        assert run_json("applications", "list", "--organization", "Own", *where) == []
        assert api.get(f"/api/api-keys/{key_id}").json["state"] == "revoked"
        again = run("applications", "revoke", application_id, *where)
        assert again.exit_code == 1
