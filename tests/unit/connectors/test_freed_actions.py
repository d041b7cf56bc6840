"""What a failed action was given is freed with its error, without the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any, cast

import pytest

from headgate.audit.model import SYSTEM
from headgate.catalog.service.catalog import Catalog
from headgate.connectors.model.caller import make_key_caller
from headgate.connectors.service.action_receipts import ActionReceipts
from headgate.connectors.service.actions import ActionPorts, ActionRun, ActionService
from headgate.connectors.service.http_calls import HttpCalls
from headgate.connectors.service.registry import ConnectorRegistry
from headgate.connectors.service.setup import SetupRequest, SetupService
from headgate.credentials.service import CredentialTestResult
from headgate.kit.errors import HeadgateError
from headgate.kit.http.errors import ConnectError, EgressError, TotalTimeoutError
from headgate.kit.ids import IdGenerator
from headgate.kit.rate_limiter import RateLimiter
from headgate.relay.ports import Credential, Grant
from headgate.vault.model.base_url import parse_base_url
from tests.fakes.http_actions import CALLER
from tests.fakes.ledger import SetClock
from tests.fakes.pipeline import FakeLedger

pytestmark = pytest.mark.anyio

REGISTRY = ConnectorRegistry.load()
CLOCK = SetClock()
ORIGIN, _ = parse_base_url("https://api.search.example/res/v1")
NOTHING: Any = None


class Watched(dict[str, Any]):
    """Be an object whose end can be seen."""


class World:
    """Have every credential, and reach nobody."""

    def __init__(self, failure: type[EgressError] = EgressError) -> None:
        self.failure = failure

    def has_usable(self, organization_id: str, integration: str) -> bool:
        return True

    def resolve(self, organization_id: str, **_named: Any) -> Credential:
        return Credential("cred_1", "", "brave_search", False, ORIGIN, b"/res/v1", [], b"")

    async def send(self, _request: Any) -> Any:
        raise self.failure("There is no answer.")

    async def read(self, _work: Any) -> Any:
        return None

    def admit(self, organization_id: str) -> None:
        """Admit every test of a credential."""

    async def run(self, *_given: Any, **_named: Any) -> CredentialTestResult:
        return CredentialTestResult(False, "The key is not accepted.", 401)


@pytest.fixture(autouse=True)
def no_collector() -> Generator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def is_freed(given: dict[str, Any], fail: Callable[[Watched], Awaitable[Any]]) -> bool:
    watched = Watched(given)
    end = weakref.ref(watched)
    with pytest.raises(HeadgateError):
        await fail(watched)
    del watched
    return end() is None


@pytest.mark.parametrize(
    ("limits", "given"),
    [({"tools": ("openai_*",)}, {"query": "x"}), ({}, {"query": 1}), ({}, {"count": "x"})],
)
async def test_input_of_a_refused_action_is_freed(
    limits: dict[str, Any], given: dict[str, Any]
) -> None:
    ports = ActionPorts(NOTHING, NOTHING, NOTHING)
    service = ActionService(REGISTRY, World(), ports, RateLimiter(CLOCK))
    caller = make_key_caller(Grant("key_1", "org_1", "proj_1", **limits))
    action = service.find("brave_search", "web-search")
    run = ActionRun(request_id="req_1")
    assert await is_freed(given, lambda watched: service.run(action, caller, watched, run))


@pytest.mark.parametrize("failure", [ConnectError, TotalTimeoutError])
async def test_request_without_an_answer_is_freed(failure: type[EgressError]) -> None:
    world = cast("Any", World(failure))
    receipts = ActionReceipts(FakeLedger(), CLOCK, lambda _receipt, _: None)
    calls = HttpCalls(
        world, REGISTRY, world, receipts, integrations=Catalog.load().integrations,
        clock=CLOCK, ids=IdGenerator(),
    )  # fmt: skip

    async def send(query: Watched) -> None:
        await calls.send(CALLER, "brave_search", "web-search", "GET", "/web/search", query=query)

    assert await is_freed({"q": "x"}, send)


async def test_secret_that_a_provider_rejects_is_freed() -> None:
    world = cast("Any", World())
    setup = SetupService(
        Catalog.load().integrations, world, tester=world,
        credentials=NOTHING, secrets=NOTHING, audit=NOTHING,
    )  # fmt: skip

    async def set_up(secrets: Watched) -> None:
        request = SetupRequest(
            organization_id="org_1", service="openai", secrets=secrets, is_tested=True
        )
        await setup.set_up(request, by=SYSTEM)

    assert await is_freed({"openai_api_key": "sk-proj-0123456789abcdefghijWXYZ"}, set_up)
