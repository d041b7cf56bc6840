"""How many events of a window pass, and what is told of the rest."""

from __future__ import annotations

from headgate.kit.event_limiter import ADDRESSES_MAX, SHOWN_MAX, EventLimiter


def test_so_many_of_one_address_and_so_many_in_all_pass() -> None:
    throttle = EventLimiter(in_all=5, of_address=2)
    taken = [throttle.take(address) for address in ["a"] * 4 + ["b"] * 3 + ["c"] * 3]
    assert taken == [True, True, False, False, True, True, False, True, False, False]


def test_rest_is_counted_by_address_and_the_next_window_begins_anew() -> None:
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
