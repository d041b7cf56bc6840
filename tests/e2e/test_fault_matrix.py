"""Every fault of an upstream, on every wire, streamed and not (laws 1, 2, 4, 6, 9).

The matrix is `rigs.faults`; `python -m rigs.faults` runs it with longer deadlines, many times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import openai
import pytest

from headgate_simulator.fault_server import catalogue, wires
from headgate_simulator.fault_server.steps import FaultRequest
from rigs.faults import client, matrix
from rigs.faults.cells import EXPECTED, PLACES, Cell, is_heavy, list_cells
from rigs.faults.harness import FaultHarness, running_harness
from rigs.faults.matrix import Matrix

CELLS = list(list_cells())
DEADLINES = ("U2.", "U8.", "U9.", "U10.", "U17.second")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Generator[FaultHarness]:
    with running_harness(tmp_path_factory.mktemp("faults")) as running:
        yield running


def check(run: Matrix) -> None:
    judged = run.judge()
    failures = [f"{case.cell.spec} on {case.cell.shape}: {f}" for case, fs in judged for f in fs]
    failures += run.find_leaks()
    assert judged
    assert not failures, "\n".join(failures)


def test_every_fault_script_has_an_expected_outcome() -> None:
    assert EXPECTED.keys() == catalogue.SCRIPTS.keys() | PLACES.keys()
    assert {name.partition(".")[0] for name in EXPECTED} == {
        "good",
        *(f"U{number}" for number in range(1, 25)),
    }


def test_faults_that_last_end_at_their_deadline(harness: FaultHarness) -> None:
    run = Matrix(harness)
    run.run(cell for cell in CELLS if cell.name.startswith(DEADLINES))
    check(run)


def test_every_other_fault_is_reported_charged_and_released_as_expected(
    harness: FaultHarness,
) -> None:
    run = Matrix(harness)
    run.run(cell for cell in CELLS if not (cell.name.startswith(DEADLINES) or is_heavy(cell)))
    check(run)


@pytest.mark.prove
def test_faults_that_are_large_take_little_memory(harness: FaultHarness) -> None:
    run = Matrix(harness)
    run.run_alone(cell for cell in CELLS if is_heavy(cell))
    check(run)


@pytest.mark.prove
@pytest.mark.parametrize("wire", [wires.CHAT, wires.RESPONSES])
def test_stream_that_is_cut_anywhere_is_the_same_stream_at_the_same_price(
    harness: FaultHarness, wire: str
) -> None:
    """One call for each possible cut."""
    request = FaultRequest(wire, True, b"", {})
    whole = b"".join(send.data for send in wires.events(request))
    run = SplitRun(harness, wire, whole)
    asyncio.run(run.call_all())
    assert {response.status for response in run.response} == {200}
    assert {response.body for response in run.response} == {run.shown}
    check_split_receipts(harness, run)


class SplitRun:
    def __init__(self, harness: FaultHarness, wire: str, whole: bytes) -> None:
        self.harness = harness
        self.wire = wire
        self.tags = [f"{wire}-split-{at}" for at in range(1, len(whole))]
        # The usage event of a chat is there only because the gateway asked for it.
        dropped = next((e for e in whole.split(b"\n\n") if b'"choices": []' in e), None)
        self.shown = whole if dropped is None else whole.replace(dropped + b"\n\n", b"")
        self.response: list[client.ReceivedResponse] = []

    async def call_all(self) -> None:
        gate = asyncio.Semaphore(matrix.AT_ONCE)

        async def call(at: int, tag: str) -> None:
            cell = Cell("U14.split", f"U14.split,at={at}", self.wire, True, EXPECTED["U14.split"])
            async with gate:
                request = matrix.render(cell, tag, self.harness.gateway.key)
                self.response.append(await client.ask(self.harness.gateway.port, request))

        await asyncio.gather(*(call(at, tag) for at, tag in enumerate(self.tags, 1)))


def check_split_receipts(harness: FaultHarness, run: SplitRun) -> None:
    receipts = harness.receipts()
    found = [row for tag in run.tags for row in receipts[tag]]
    assert len(found) == len(run.tags) > 500
    assert {(row.outcome, row.pricing, row.attempts) for row in found} == {
        ("completed", "priced", 1)
    }
    assert len({row.cost_nano for row in found}) == 1
    assert {(row.usage.input_tokens, row.usage.output_tokens) for row in found if row.usage} == {
        (wires.INPUT_TOKENS, wires.OUTPUT_TOKENS)
    }


SDK_ERRORS = {
    "U5.reset": openai.InternalServerError,
    "U8.late": openai.InternalServerError,
    "U11.malformed": openai.InternalServerError,
    "U15.error": openai.InternalServerError,
    "U17.hour": openai.RateLimitError,
    "U18.503": openai.InternalServerError,
    "U21.error": openai.BadRequestError,
    "U22.private": openai.InternalServerError,
    "U23.echo-error": openai.AuthenticationError,
}
SDK_STREAM_ERRORS = ["U6.between", "U7.end", "U9.stall", "U15.error", "U16.error"]


@pytest.fixture(scope="module")
def sdk(harness: FaultHarness) -> Generator[openai.OpenAI]:
    headers = {"x-headgate-credential": "own-main"}
    with openai.OpenAI(
        api_key=harness.gateway.key,
        base_url=harness.gateway.base_url,
        max_retries=0,
        timeout=20,
        default_headers=headers,
    ) as made:
        yield made


@pytest.mark.parametrize(("name", "kind"), SDK_ERRORS.items())
def test_official_sdk_raises_the_error_of_the_status(
    sdk: openai.OpenAI, name: str, kind: type[openai.APIStatusError]
) -> None:
    model = f"{wires.MODEL}@fault:{name}"
    with pytest.raises(kind):
        sdk.chat.completions.create(model=model, messages=[])
    with pytest.raises(kind):
        sdk.responses.create(model=model, input="Hi")


@pytest.mark.parametrize("name", SDK_STREAM_ERRORS)
def test_official_sdk_raises_for_a_stream_that_fails_after_content(
    sdk: openai.OpenAI, name: str
) -> None:
    model = f"{wires.MODEL}@fault:{name}"
    seen: list[object] = []
    with pytest.raises(openai.APIError):
        seen.extend(sdk.chat.completions.create(model=model, messages=[], stream=True))
    with pytest.raises(openai.APIError):
        seen.extend(sdk.responses.create(model=model, input="Hi", stream=True))


def test_correct_answer_of_the_fault_server_is_understood_by_the_sdk(sdk: openai.OpenAI) -> None:
    said = sdk.chat.completions.create(model=wires.MODEL, messages=[])
    assert said.choices[0].message.content == "".join(wires.PIECES)
    assert sdk.responses.create(model=wires.MODEL, input="Hi").output_text == "".join(wires.PIECES)
