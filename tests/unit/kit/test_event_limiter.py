"""How many events of a window pass, and what is told of the rest."""

from __future__ import annotations

from headgate.kit.event_limiter import ADDRESSES_MAX, SHOWN_MAX, EventLimiter


def test_events_are_limited_per_address_and_in_total() -> None:
    throttle = EventLimiter(in_all=5, of_address=2)
    taken = [throttle.take(address) for address in ["a"] * 4 + ["b"] * 3 + ["c"] * 3]
    assert taken == [True, True, False, False, True, True, False, True, False, False]


def test_suppressed_events_are_counted_by_address_per_window() -> None:
    throttle = EventLimiter(in_all=2, of_address=1)
    for address in ["a"] * 4 + ["b"] * 3 + ["c"]:
        throttle.take(address)
    told = throttle.end()
    assert told is not None
    assert (told.count, told.addresses, told.most) == (6, 3, {"a": 3, "b": 2, "c": 1})
    assert throttle.end() is None
    assert throttle.take("a")


def test_flood_from_many_addresses_takes_little_memory_and_is_counted_whole() -> None:
    throttle = EventLimiter(in_all=1, of_address=1)
    for number in range(ADDRESSES_MAX * 3):
        throttle.take(f"10.{number}")
    told = throttle.end()
    assert told is not None
    assert (told.count, told.addresses) == (ADDRESSES_MAX * 3 - 1, ADDRESSES_MAX)
    assert len(told.most) == SHOWN_MAX
