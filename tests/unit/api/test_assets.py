"""Assets over the platform API, and their contents for anybody."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from headgate.api.large_bodies import BODIES_MAX, LargeBodies, TooManyLargeBodiesError
from headgate.api.parsing import BODY_BYTES_MAX
from tests.fakes.api import Answer, Api

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(128))
TEXT = "0123456789"


def upload(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.post("/api/assets", body)
    assert answer.status == 201, answer.text
    return answer.json


def fetch(api: Api, url: str, method: str = "GET", **headers: str) -> Answer:
    """Ask as anybody."""
    path = url.removeprefix("http://gate.example")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.request(method, path, key="", organization="", headers=named)


def test_asset_is_uploaded_listed_served_replaced_and_removed(api: Api) -> None:
    answer = api.post("/api/assets", {"content_text": TEXT, "slug": "a.txt", "alt": "Digits"})
    made = answer.json
    assert (answer.status, answer.headers["etag"]) == (201, '"1"')
    assert made["url"] == f"http://gate.example/assets/{made['id']}/a.txt?v=1"
    assert (made["alt"], made["bytes"], made["project_id"]) == ("Digits", 10, api.own.project_id)
    assert fetch(api, made["url"]).text == TEXT
    assert api.post("/api/assets", {"content_text": "x", "slug": "a.txt"}).code == "asset_exists"
    again = upload(api, content_text="other", slug="a.txt", overwrite=True)
    assert (again["id"], again["version"], again["alt"]) == (made["id"], 2, "Digits")
    old, new = fetch(api, made["url"]), fetch(api, again["url"])
    assert (old.text, new.text) == ("other", "other")
    assert new.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert old.headers["cache-control"] == "public, max-age=300, must-revalidate"
    assert api.get(f"/api/assets/{made['id']}").json == again
    page = api.get("/api/assets").json
    assert (page["assets"], page["count"], page["bytes_used"]) == ([again], 1, 5)
    path = f"/api/assets/{made['id']}"
    assert api.delete(path, headers={"if-match": '"1"'}).status == 412
    assert api.delete(path).status == 204
    gone = fetch(api, again["url"])
    assert (gone.status, gone.headers["cache-control"]) == (404, "no-store")
    assert [api.get(path).status, api.delete(path).status] == [404, 404]
    actions = [action for action, _ in api.audited() if action.startswith("asset.")]
    assert actions == ["asset.created", "asset.replaced", "asset.removed"]


def test_contents_are_served_with_headers_that_let_nothing_run(shared_api: Api) -> None:
    for fields, media_type, disposition in (
        ({"content": base64.b64encode(PNG).decode()}, "image/png", "inline"),
        ({"content_text": "<svg/>", "slug": "a.svg"}, "image/svg+xml; charset=utf-8", "attachment"),
        ({"content_text": "<script>", "slug": "a.html"}, "text/html; charset=utf-8", "attachment"),
        ({"content_text": "let a", "slug": "a.js"}, "text/plain; charset=utf-8", "inline"),
    ):
        made = upload(shared_api, **fields)
        served = fetch(shared_api, made["url"], origin="https://elsewhere.example")
        assert served.status == 200
        headers = dict(served.headers)
        assert headers["content-type"] == media_type
        assert headers["content-disposition"] == f'{disposition}; filename="{made["slug"]}"'
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "sandbox" in headers["content-security-policy"]
        assert "set-cookie" not in headers


def test_address_has_to_be_known_exactly(shared_api: Api) -> None:
    made = upload(shared_api, content_text="secret plans", slug="plans.txt")
    base = f"http://gate.example/assets/{made['id']}"
    for url in (
        f"{base}/other.txt",
        f"{base}/PLANS.TXT",
        f"{base}/",
        base,
        f"{base}/plans.txt/x",
        f"http://gate.example/assets/ast_{'0' * 32}/plans.txt",
        "http://gate.example/assets/%00/plans.txt",
    ):
        assert fetch(shared_api, url).status == 404, url
    assert fetch(shared_api, made["url"], "POST").status == 405


@pytest.mark.parametrize(
    ("wanted", "status", "text", "content_range"),
    [
        ("bytes=0-3", 206, "0123", "bytes 0-3/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=-99", 206, TEXT, "bytes 0-9/10"),
        ("bytes=5-99", 206, "56789", "bytes 5-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=-0", 416, "", "bytes */10"),
        ("bytes=3-1", 200, TEXT, None),
        ("bytes=0-1,3-4", 200, TEXT, None),
        ("bytes=-", 200, TEXT, None),
        ("lines=0-1", 200, TEXT, None),
        ("bytes=99999999999999999999-", 200, TEXT, None),
    ],
)
def test_part_of_a_content_is_served(
    shared_api: Api, wanted: str, status: int, text: str, content_range: str | None
) -> None:
    made = upload(shared_api, content_text=TEXT)
    answer = fetch(shared_api, made["url"], range=wanted)
    assert (answer.status, answer.text) == (status, text)
    assert answer.headers.get("content-range") == content_range


def test_known_content_is_not_sent_again(shared_api: Api) -> None:
    made = upload(shared_api, content_text=TEXT)
    etag = fetch(shared_api, made["url"]).headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        answer = fetch(shared_api, made["url"], if_none_match=known)
        assert (answer.status, answer.text, answer.headers["etag"]) == (304, "", etag)
    assert fetch(shared_api, made["url"], if_none_match='"x"').status == 200
    assert fetch(shared_api, made["url"], range="bytes=0-1", if_range='"x"').status == 200
    assert fetch(shared_api, made["url"], range="bytes=0-1", if_range=etag).status == 206
    head = fetch(shared_api, made["url"], "HEAD")
    assert (head.status, head.text, head.headers["content-length"]) == (200, "", "10")


def test_caches_keep_a_content_no_longer_than_the_asset_stays(shared_api: Api) -> None:
    for slug, seconds, kept in (("100.txt", 100, 100), ("1000.txt", 1_000, 300)):
        made = upload(shared_api, content_text=slug, slug=slug, expires_in_seconds=seconds)
        for url, most in ((made["url"], seconds), (made["url"].partition("?")[0], kept)):
            answer = fetch(shared_api, url)
            [found] = re.findall(r"public, max-age=(\d+), ", answer.headers["cache-control"])
            assert most - 60 <= int(found) <= most


def test_upload_that_is_repeated_with_its_key_makes_one_asset(api: Api) -> None:
    body = {"content_text": "x", "slug": "x.txt"}
    answers = [
        api.post("/api/assets", body, headers={"idempotency-key": "upload-1"}) for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[1].json == answers[0].json
    assert answers[1].headers["idempotent-replayed"] == "true"


def test_faults_name_their_field(shared_api: Api) -> None:
    for body, field in (
        ({}, "content"),
        ({"content": "eA==", "content_text": "x"}, "content_text"),
        ({"source_url": "http://a.example/a.png"}, "source_url"),
        ({"source_url": "https://127.0.0.1/a.png"}, "source_url"),
        ({"source_url": "https://169.254.169.254/latest"}, "source_url"),
        ({"content_text": "x", "slug": "a/b"}, "slug"),
        ({"content_text": "x", "slug": "a.png"}, "media_type"),
        ({"content_text": "x", "media_type": "text/javascript"}, "media_type"),
        ({"content_text": "x", "more": 1}, "more"),
    ):
        answer = shared_api.post("/api/assets", body)
        assert answer.fields_at_fault == [["body", field]], (body, answer.text)
    assert shared_api.post("/api/assets", {"handle": "hdl_unknown"}).code == "not_found"
    content = base64.b64encode(PNG + bytes(5 * 1024 * 1024)).decode()
    assert shared_api.post("/api/assets", {"content": content}).code == "asset_too_large"
    unknown = shared_api.post("/api/assets", {"content_text": "x", "project_id": "proj_unknown"})
    assert unknown.status == 404


def test_key_of_some_projects_sees_their_assets_only(api: Api) -> None:
    made = upload(api, content_text="x")
    other = api.post("/api/projects", {"name": "Second"}).json["id"]
    beside = upload(api, content_text="x", project_id=other)
    key = api.post(
        "/api/api-keys",
        {
            "name": "narrow",
            "kind": "admin",
            "project_id": other,
            "projects": [other],
            "permissions": ["assets:*"],
        },
    ).json["key"]
    page = api.get("/api/assets", key=key).json
    assert [each["id"] for each in page["assets"]] == [beside["id"]]
    # How much others have is not told either.
    assert (page["count"], page["bytes_used"]) == (1, 1)
    everything = api.get(f"/api/assets?project_id={other}").json
    assert (everything["total"], everything["count"], everything["bytes_used"]) == (1, 2, 2)
    assert api.get(f"/api/assets/{made['id']}", key=key).status == 404
    assert api.delete(f"/api/assets/{made['id']}", key=key).status == 404
    body = {"content_text": "y", "project_id": api.own.project_id}
    assert api.post("/api/assets", body, key=key).status == 404
    assert api.post("/api/assets", {"content_text": "y"}, key=key).status == 201


def test_inference_key_has_the_assets_of_its_project_and_what_its_tools_allow(api: Api) -> None:
    live = {"key": api.own.live_key, "organization": ""}
    made = api.post("/api/assets", {"content_text": "x", "slug": "x.txt"}, **live)
    assert (made.status, made.json["project_id"]) == (201, api.own.project_id)
    other = api.post("/api/projects", {"name": "Second"}).json["id"]
    beside = upload(api, content_text="x", project_id=other)
    page = api.get("/api/assets", **live).json
    assert [each["id"] for each in page["assets"]] == [made.json["id"]]
    assert (page["count"], page["bytes_used"]) == (1, 1)
    assert api.get(f"/api/assets/{beside['id']}", **live).status == 404
    body = {"content_text": "y", "project_id": other}
    assert api.post("/api/assets", body, **live).status == 404
    assert api.delete(f"/api/assets/{made.json['id']}", **live).status == 204
    issued = api.post(
        "/api/api-keys",
        {"name": "n", "project_id": api.own.project_id, "tools": ["list_*"]},
    )
    narrow = {"key": issued.json["key"], "organization": ""}
    assert api.get("/api/assets", **narrow).status == 200
    assert api.post("/api/assets", {"content_text": "y"}, **narrow).code == "tool_forbidden"


def test_large_bodies_are_read_where_they_may_come_and_few_at_a_time(shared_api: Api) -> None:
    text = "x" * BODY_BYTES_MAX
    assert shared_api.post("/api/projects", {"name": text}).status == 413
    body = json.dumps({"content_text": text}).encode()
    assert shared_api.post("/api/assets", content=body).status == 201


class Announced:
    def __init__(self, length: int | None) -> None:
        self.headers = {} if length is None else {"content-length": str(length)}


def test_places_of_large_bodies_are_limited_and_come_back() -> None:
    bodies = LargeBodies(1)
    large: Any = Announced(BODY_BYTES_MAX + 1)
    unknown: Any = Announced(None)
    usual: Any = Announced(BODY_BYTES_MAX)
    with bodies.hold(large, 2 * BODY_BYTES_MAX):
        for request in (large, unknown):
            with (
                pytest.raises(TooManyLargeBodiesError),
                bodies.hold(request, 2 * BODY_BYTES_MAX),
            ):
                raise AssertionError
        with bodies.hold(usual, 2 * BODY_BYTES_MAX), bodies.hold(unknown, BODY_BYTES_MAX):
            pass
    with bodies.hold(unknown, 2 * BODY_BYTES_MAX):
        pass
    assert BODIES_MAX > 1
