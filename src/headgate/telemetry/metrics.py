"""Count calls and their durations, in the text format of Prometheus.

They are counted in plain dictionaries on the loop's thread, and collected into families when
scraped: observing a call costs about a microsecond.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from headgate.kit.errors import HeadgateError
from headgate.kit.money import NANO_PER_DOLLAR
from headgate.relay.ports import Receipt
from headgate.telemetry.metric_help import COUNTERS, HELP

OVERHEAD_BOUNDS = (50, 100, 200, 350, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000)
DURATION_BOUNDS = tuple(
    int(seconds * 1_000_000) for seconds in (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600)
)
LAG_BOUNDS = (500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)
TOKEN_KINDS = ("input", "cached", "output", "reasoning")
UNKNOWN_MODEL = "other"
"""The label of every model without a price, so that clients cannot create labels without end."""


class Histogram:
    """Count durations in microseconds below fixed bounds."""

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0

    def observe(self, microseconds: int) -> None:
        self._counts[bisect.bisect_left(self._bounds, microseconds)] += 1
        self._sum += microseconds

    def observe_all(self, durations: Sequence[int]) -> None:
        """Count many durations in one loop: a call of `observe` for each would cost more than its
        work."""
        bounds, counts, find = self._bounds, self._counts, bisect.bisect_left
        for microseconds in durations:
            counts[find(bounds, microseconds)] += 1
        self._sum += sum(durations)

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound in seconds, as Prometheus expects them."""
        total, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound is None else str(bound / 1_000_000), total))
        return buckets

    def sum_seconds(self) -> float:
        return self._sum / 1_000_000


class CallSeries:
    __slots__ = ("cached", "calls", "cost_nano", "input", "output", "reasoning", "retries")

    def __init__(self) -> None:
        self.calls = self.retries = self.cost_nano = 0
        self.input = self.cached = self.output = self.reasoning = 0


Labels = tuple[str, str, str, int, str, bool]
"""Endpoint, model, outcome, status, pricing, managed."""


class Metrics(Collector):
    """Count receipts and refusals; `gauges` and `counters` are read at each scrape."""

    def __init__(self, gauges: Mapping[str, Callable[[], float]]) -> None:
        self.gauges = dict(gauges)
        self.counters: dict[str, Callable[[], float]] = {}
        self._series: dict[Labels, CallSeries] = {}
        self._refusals: dict[tuple[str, int], int] = {}
        self._overhead = Histogram(OVERHEAD_BOUNDS)
        self._settlement = Histogram(OVERHEAD_BOUNDS)
        self._first_byte = Histogram(DURATION_BOUNDS)
        self._duration = Histogram(DURATION_BOUNDS)
        self.loop_lag = Histogram(LAG_BOUNDS)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # Memory, descriptors and CPU time of this process, by their conventional names.
        ProcessCollector(registry=self._registry)

    def observe(self, receipts: Sequence[Receipt], settlements: Sequence[int]) -> None:
        """Count settled calls, and the microseconds that the settlement of each took."""
        self._count(receipts)
        self._settlement.observe_all(settlements)
        self._overhead.observe_all(
            [
                receipt.overhead_microseconds + settlement
                for receipt, settlement in zip(receipts, settlements, strict=True)
            ]
        )
        self._duration.observe_all([receipt.total_microseconds for receipt in receipts])
        self._first_byte.observe_all(
            [
                receipt.first_byte_microseconds
                for receipt in receipts
                if receipt.first_byte_microseconds >= 0
            ]
        )

    def _count(self, receipts: Sequence[Receipt]) -> None:
        known = self._series
        for receipt in receipts:
            model = receipt.model_requested if receipt.price_id is not None else None
            labels = (
                receipt.endpoint,
                model or UNKNOWN_MODEL,
                receipt.outcome,
                receipt.status,
                receipt.pricing,
                receipt.managed,
            )
            series = known.get(labels)
            if series is None:
                series = known[labels] = CallSeries()
            series.calls += 1
            series.cost_nano += receipt.cost_nano
            series.retries += receipt.attempts - 1 if receipt.attempts else 0
            usage = receipt.usage
            if usage is not None:
                series.input += usage.input_tokens
                series.cached += usage.cached_tokens
                series.output += usage.output_tokens
                series.reasoning += usage.reasoning_tokens

    def count_refusal(self, error: HeadgateError) -> None:
        """Count one request that was rejected with an error of the gateway's own."""
        refusal = (error.code, error.kind.value)
        self._refusals[refusal] = self._refusals.get(refusal, 0) + 1

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_counters()
        yield from self._collect_histograms()
        for name, read in self.gauges.items():
            yield GaugeMetricFamily(f"headgate_{name}", HELP[name], value=read())
        for name, read in self.counters.items():
            yield _count(name, read())

    def _collect_counters(self) -> Iterator[Metric]:
        calls, tokens, cost = _count("calls"), _count("tokens"), _count("cost_dollars")
        token_sums, cost_sums = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for (endpoint, model, outcome, status, pricing, managed), each in self._series.items():
            calls.add_metric((endpoint, model, outcome, str(status), pricing), each.calls)
            for kind in TOKEN_KINDS:
                token_sums[model, kind] += getattr(each, kind)
            cost_sums[model, str(managed).lower()] += each.cost_nano
        for labels, count in token_sums.items():
            tokens.add_metric(labels, count)
        for labels, nano in cost_sums.items():
            cost.add_metric(labels, nano / NANO_PER_DOLLAR)
        yield from (calls, tokens, cost)
        refusals = _count("refusals")
        for (code, status), count in self._refusals.items():
            refusals.add_metric((code, str(status)), count)
        yield refusals
        retries = sum(each.retries for each in self._series.values())
        yield _count("retries", retries)

    def _collect_histograms(self) -> Iterator[Metric]:
        for name, histogram in (
            ("overhead_seconds", self._overhead),
            ("settlement_seconds", self._settlement),
            ("first_byte_seconds", self._first_byte),
            ("call_seconds", self._duration),
            ("event_loop_lag_seconds", self.loop_lag),
        ):
            yield HistogramMetricFamily(
                f"headgate_{name}", HELP[name], histogram.buckets(), histogram.sum_seconds()
            )


def _count(name: str, value: float | None = None) -> CounterMetricFamily:
    return CounterMetricFamily(
        f"headgate_{name}", HELP[name], value, None if value is not None else COUNTERS[name]
    )
