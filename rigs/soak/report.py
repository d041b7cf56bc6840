"""The report of a soak."""

from __future__ import annotations

from collections.abc import Sequence

from rigs.soak import chart, retention, samples
from rigs.soak.run import SoakResult
from rigs.soak.samples import Finding, Sample


def print_soak(result: SoakResult) -> int:
    """Print the curve, the figures, the verdict; return 1 when a bar is missed."""
    tally, end = result.tally, result.end
    curve = [(float(each.calls), each.resident) for each in result.loaded]
    print(chart.draw(curve, title="resident memory in MiB over the calls, after the warm-up"))
    calls_by_fault = ", ".join(
        f"{name} {count:,}" for name, count in sorted(tally.calls_by_fault.items())
    )
    print(
        f"\n{tally.done:,} calls with {result.plan.keys:,} keys on {result.plan.connections} "
        f"connections; {result.upstream_calls:,} attempts reached the provider\n"
        f"calls by what went wrong: {calls_by_fault}\n"
        f"{describe_cost(result.idle, end)}\n"
        f"memory at rest: RSS {end.resident:.1f}, PSS {end.proportional:.1f}, "
        f"USS {end.unique:.1f} MiB; write-ahead log {end.wal_bytes / samples.MEBIBYTE:.1f} MiB\n"
        f"p99 of the lag of an idle loop beside it: {result.control_seconds * 1000:.1f} ms"
    )
    for text in [*tally.shown, *result.ledger_state.faults[:20], *result.alarms[:3]]:
        print(f"  ! {text}")
    return print_findings(result.judge())


def describe_cost(idle: Sample, end: Sample) -> str:
    """Return what a call cost between two samples."""
    calls = max(1, end.calls - idle.calls)
    cpu_microseconds = (end.cpu_seconds - idle.cpu_seconds) * 1e6 / calls
    stored = (end.database_bytes - idle.database_bytes) / calls
    written = (end.written_bytes - idle.written_bytes) / calls
    return (
        f"{calls / (end.at - idle.at):,.0f} calls a second, {cpu_microseconds:.0f} us of CPU each; "
        f"each {stored:.0f} bytes of database and {written:.0f} bytes written, log line included"
    )


def print_retention(result: retention.RetentionResult) -> int:
    """Print the figures of the retention; return 1 when a bar is missed."""
    print(chart.draw(result.curve, title="resident memory in MiB over the seconds of the job"))
    print(
        f"\n{result.rows:,} receipts in {result.seconds:.0f} s, "
        f"{result.rows / max(result.seconds, 1e-9):,.0f} a second; {result.calls:,} calls meanwhile"
    )
    return print_findings(result.judge())


def print_findings(findings: Sequence[Finding]) -> int:
    """Print a table; return 1 when one does not pass."""
    print()
    for each in findings:
        print(f"  {'ok  ' if each.passes else 'MISS'}  {each.name:28} {each.shown:32} {each.bar}")
    return 0 if all(each.passes for each in findings) else 1
