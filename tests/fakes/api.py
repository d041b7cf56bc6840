"""The platform API in this process: the real application on a real database, without a socket.

    def test_...(api: Api) -> None:
        answer = api.post("/api/projects", {"name": "Search"})
        assert answer.status == 201

`api.key` is a management key of `api.organization_id`; `other` is somebody else's organization.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio.from_thread
import httpx2
import sqlalchemy as sa

from headgate import settings
from headgate.accounts.service import PasswordHasher
from headgate.api import app as asgi
from headgate.api.operation import Operations
from headgate.api.routes import ALL
from headgate.audit.model import SYSTEM
from headgate.credentials.model.credential import CredentialRequest
from headgate.credentials.model.managed_model import ManagedModelRequest
from headgate.keys.model import KeyKind, KeyRequest
from headgate.keys.service import KeyIndex
from headgate.kit.clock import Clock
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import ConnectError
from headgate.kit.http.guard import Guard
from headgate.main import data_plane, platform
from headgate.main.application import Application
from headgate.relay.ports import Grant
from tests.fakes.quick_start import CATALOG, open_quickly

Result = TypeVar("Result")
NOBODY = ""
OPERATOR_KEY = "hg_admin_operator"
TOPICS = frozenset(
    {"accounts", "keys", "credentials", "catalog", "budgets", "request_log", "priority_pools"}
    | {"mcp_servers"}
)


@dataclass
class Answer:
    """Hold a response. `json` is None where there is no body."""

    status: int
    headers: httpx2.Headers
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text) if self.text else None

    @property
    def code(self) -> str:
        """Return the code of an error in any shape; those of VM-X in lower case."""
        if "errorCode" in self.json:
            return self.json["errorCode"].lower()
        if "error_object" in self.json:
            return self.json["error_object"]["code"]
        return self.json["error"]["code"] if "error" in self.json else self.json["code"]

    @property
    def fields_at_fault(self) -> list[list[str | int]]:
        """Return the paths that a 422 names, or a 400 below `/v1` and of VM-X, of a body."""
        if self.status == 400 and "errorCode" in self.json:
            return [self.json["details"]["path"]]
        if self.status == 400 and "error" in self.json:
            return [["body", *self.json["error"]["param"].split(".")]]
        assert self.status == 422, self.text
        if "error_object" in self.json:
            return [["body", *self.json["error_object"]["field"].split(".")]]
        return [each["loc"] for each in self.json["detail"]]


@dataclass
class Tenant:
    """Hold an organization with one project, a management key and an inference key."""

    organization_id: str
    project_id: str
    key: str
    live_key: str
    key_id: str = ""


@dataclass
class Api:
    """Call the API, with `own`'s management key unless another is given."""

    application: Application
    portal: anyio.from_thread.BlockingPortal
    writer: Writer
    app: Any
    client: HttpClient
    own: Tenant
    other: Tenant
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        return self.own.key

    @property
    def organization_id(self) -> str:
        return self.own.organization_id

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        organization: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """`key` "" sends none, `organization` "" no header; `content` are raw bytes of JSON."""
        sent = {"content-type": "application/json"} if body is not None or content else {}
        token = self.own.key if key is None else key
        if token:
            sent["authorization"] = f"Bearer {token}"
        named = self.own.organization_id if organization is None else organization
        if named:
            sent["x-organization-id"] = named
        sent |= {**self.headers, **(headers or {})}
        data = content if content is not None else (b"" if body is None else json.dumps(body))
        answer = self.portal.call(self._send, method, path, sent, data)
        return Answer(answer.status_code, answer.headers, answer.text)

    async def _send(
        self, method: str, path: str, headers: dict[str, str], data: Any
    ) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=self.app, client=("203.0.113.9", 5555))
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://gate.example"
        ) as client:
            return await client.request(method, path, headers=headers, content=data)

    def get(self, path: str, **given: Any) -> Answer:
        return self.request("GET", path, **given)

    def post(self, path: str, body: Any = None, **given: Any) -> Answer:
        return self.request("POST", path, body, **given)

    def put(self, path: str, body: Any = None, **given: Any) -> Answer:
        return self.request("PUT", path, body, **given)

    def patch(self, path: str, body: Any = None, **given: Any) -> Answer:
        return self.request("PATCH", path, body, **given)

    def delete(self, path: str, **given: Any) -> Answer:
        return self.request("DELETE", path, **given)

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Read from the database directly."""
        with self.application.database.reading() as connection:
            return work(connection)

    def audited(self) -> list[tuple[str, str]]:
        """Return action and object of every audit event, the oldest first."""
        from_database = "SELECT action, object_id FROM audit ORDER BY number"
        return self.read(
            lambda connection: [tuple(row) for row in connection.exec_driver_sql(from_database)]
        )


def make_tenant(application: Application, connection: sa.Connection, name: str) -> Tenant:
    """Create an organization with a project and keys."""
    accounts = application.accounts
    organization = accounts.create_organization(connection, name, by=SYSTEM)
    project = accounts.create_project(
        connection, "Default", organization_id=organization.id, by=SYSTEM
    )
    admin, live = (
        application.keys.create(
            connection,
            KeyRequest(
                name=kind.value, organization_id=organization.id, project_id=project.id, kind=kind
            ),
            by=SYSTEM,
        )
        for kind in (KeyKind.ADMIN, KeyKind.LIVE)
    )
    return Tenant(organization.id, project.id, admin.token, live.token, admin.key.id)


@dataclass(frozen=True)
class Props:
    """Hold what a test substitutes."""

    clock: Clock | None = None
    hasher: PasswordHasher | None = None
    modules: Sequence[Operations] = ALL


NO_PROPS = Props()


class OperatorKeyIndex(KeyIndex):
    """Find keys, and one of the operator that no command can make yet."""

    operator = Grant(
        "key_operator",
        "",
        "",
        management=True,
        permissions=("platform:read", "platform:write"),
    )

    def find(self, token: bytes) -> Grant:
        return self.operator if token == OPERATOR_KEY.encode() else super().find(token)


def stock_platform(application: Application, connection: sa.Connection) -> None:
    """A credential of the platform, named `platform`, and a model that it serves."""
    request = CredentialRequest(
        organization_id=None,
        integration="openai",
        secret="sk-platform-0123456789abcdefghijkl",
        name="platform",
    )
    application.credentials.add(connection, request, by=SYSTEM)
    sold = ManagedModelRequest(model_id="gpt-5.4-nano", credential="platform")
    application.managed_models.attach(connection, sold, by=SYSTEM)


def clear_platform(api: Api) -> None:
    """Remove the platform's credential, so that only own ones can be resolved."""
    application = api.application
    with application.database.transaction() as connection:
        record = application.credentials.find(connection, "platform")
        application.credentials.remove(connection, record, by=SYSTEM)


class NoNameService:
    """Resolve no name: only addresses can be reached."""

    async def find(self, host: str) -> Sequence[str]:
        raise ConnectError(f"Cannot resolve {host}: there is no name service")


async def open_client(application: Application) -> HttpClient:
    """Open an egress client that connects to this machine only."""
    return HttpClient(resolver=Guard(application.egress_rules, NoNameService()))


class AlwaysValid:
    def check(self) -> str | None:
        return None


@contextlib.contextmanager
def running_api(folder: Path, props: Props = NO_PROPS, /, **variables: str) -> Generator[Api]:
    """The API on a database in `folder`; `variables` are HEADGATE_ settings in lower case."""
    environment = {f"HEADGATE_{name.upper()}": value for name, value in variables.items()}
    usual = {"HEADGATE_EGRESS_ALLOW": "127.0.0.1/32", "HEADGATE_CATALOG_DIR": str(CATALOG)}
    # The transport of the tests waits for the end of an answer.
    usual["HEADGATE_REQUEST_TAIL_SECONDS_MAX"] = "0"
    loaded = settings.load({**usual, **environment}, data=folder)
    application = open_quickly(loaded, clock=props.clock)
    if props.hasher is not None:
        application.hasher.close()
        application.hasher = props.hasher
    application.key_index = OperatorKeyIndex(application.clock)
    with application.database.transaction() as connection:
        own = make_tenant(application, connection, "Own")
        other = make_tenant(application, connection, "Other")
        stock_platform(application, connection)

    taking_up = threading.Lock()

    def reload() -> None:
        with taking_up, application.database.reading() as connection:
            application.load(connection, TOPICS)

    reload()
    writer = Writer(application.database)
    with contextlib.ExitStack() as stack:
        stack.callback(application.close)
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal())

        async def start() -> None:
            writer.start()

        portal.call(start)
        stack.callback(portal.call, writer.stop)
        client = portal.call(open_client, application)
        stack.callback(portal.call, client.close)
        ledger = data_plane.build_ledger(loaded, application, writer)
        app = asgi.build_app(
            health=AlwaysValid(),
            render_metrics=bytes,
            make_id=application.ids.make,
            platform=platform.build(
                application,
                writer,
                reload=reload,
                client=client,
                settlement=ledger,
                observe=lambda _receipt, _microseconds: None,
                modules=props.modules,
            ),
        )
        yield Api(application, portal, writer, app, client, own, other)
