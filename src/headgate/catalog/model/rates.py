"""The cost of a usage, in exact integers, rounded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headgate.kit.money import divide_half_up
from headgate.llm.usage import Usage

_PER_MILLION = 3
_PER_MILLISECOND = 50
_PER_ONE = 3_000_000
"""All units over one divisor: a million tokens (or characters) and the 60,000 milliseconds of a
minute have the least common multiple 3,000,000."""

_HALF_MILLION = 500_000
_MILLION = 1_000_000

DearestRates = tuple[int | None, int | None, int]
"""The highest rate of a million input and of a million output tokens (None: none is known), and the
fee of a request."""


class NanoRates(msgspec.Struct, frozen=True, kw_only=True):
    """Hold rates in nano-dollars; None where the price book states none.

    Rates are for a million tokens of each class, an image, a minute of audio, a million characters
    and a tool call; `per_request` is added to every answer, such as the fee of a model that always
    searches.
    """

    above_input_tokens: int = -1
    input: int | None = None
    cached_input: int | None = None
    cache_write: int | None = None
    input_audio: int | None = None
    input_image: int | None = None
    output: int | None = None
    reasoning: int | None = None
    output_audio: int | None = None
    output_image: int | None = None
    per_image: int | None = None
    per_minute: int | None = None
    per_million_characters: int | None = None
    per_request: int | None = None
    tool_calls: Mapping[str, int] = {}

    def cost(self, usage: Usage) -> int | None:
        """Return the exact cost in nano-dollars, rounded once; None if a needed rate is missing.

        Return None, too, if details exceed their total: the report is wrong, and so would be its
        price. Audio, characters and images without a rate cost nothing if tokens were reported:
        then the tokens measure them.
        """
        if not (
            usage.cache_write_tokens
            or usage.input_audio_tokens
            or usage.input_image_tokens
            or usage.output_audio_tokens
            or usage.output_image_tokens
        ):
            tokens = self._cost_of_text(usage)
        else:
            tokens = _sum(self._token_parts(usage))
        others = self._cost_of_others(usage)
        if tokens is None or others is None:
            return None
        cost = divide_half_up(tokens * _PER_MILLION + others, _PER_ONE)
        return cost + self.per_request if self.per_request else cost

    @property
    def dearest(self) -> DearestRates:
        """Return the highest rates of input and of output, whatever the class of a token."""
        inputs = (
            self.input,
            self.cached_input,
            self.cache_write,
            self.input_audio,
            self.input_image,
        )
        outputs = (self.output, self.reasoning, self.output_audio, self.output_image)
        return (
            max((rate for rate in inputs if rate is not None), default=None),
            max((rate for rate in outputs if rate is not None), default=None),
            self.per_request or 0,
        )

    def _cost_of_text(self, usage: Usage) -> int | None:
        """Return the sum of `_token_parts` for an answer of only text, cached and reasoning
        tokens."""
        cached, reasoning = usage.cached_tokens, usage.reasoning_tokens
        fresh, stated = usage.input_tokens - cached, usage.output_tokens - reasoning
        if fresh < 0 or stated < 0:
            return None
        total = 0
        for count, rate in (
            (fresh, self.input),
            (cached, self.cached_input),
            (stated, self.output),
            (reasoning, self.reasoning),
        ):
            if count:
                if rate is None:
                    return None
                total += count * rate
        return total

    def _token_parts(self, usage: Usage) -> Sequence[tuple[int, int | None]]:
        text_in = (
            usage.input_tokens
            - usage.cached_tokens
            - usage.cache_write_tokens
            - usage.input_audio_tokens
            - usage.input_image_tokens
        )
        text_out = (
            usage.output_tokens
            - usage.reasoning_tokens
            - usage.output_audio_tokens
            - usage.output_image_tokens
        )
        return (
            (text_in, self.input),
            (usage.cached_tokens, self.cached_input),
            (usage.cache_write_tokens, self.cache_write),
            (usage.input_audio_tokens, self.input_audio),
            (usage.input_image_tokens, self.input_image),
            (text_out, self.output),
            (usage.reasoning_tokens, self.reasoning),
            (usage.output_audio_tokens, self.output_audio),
            (usage.output_image_tokens, self.output_image),
        )

    def _cost_of_others(self, usage: Usage) -> int | None:
        if not (usage.images or usage.audio_milliseconds or usage.characters or usage.tool_calls):
            return 0
        unknown = 0 if usage.input_tokens or usage.output_tokens else None
        image, minute, characters = self.per_image, self.per_minute, self.per_million_characters
        calls = [
            (count * _PER_ONE, self.tool_calls.get(n)) for n, count in usage.tool_calls.items()
        ]
        return _sum(
            [
                (usage.images * _PER_ONE, unknown if image is None else image),
                (
                    usage.audio_milliseconds * _PER_MILLISECOND,
                    unknown if minute is None else minute,
                ),
                (usage.characters * _PER_MILLION, unknown if characters is None else characters),
                *calls,
            ]
        )


class PriceRow:
    """Hold the rates of a model in force over one span of time (`relay.ports.Price`). `tiers` maps
    each service tier to its rates, the highest input threshold first."""

    __slots__ = ("_by_service_tier", "_dearest", "id", "tiers", "tool_fees")

    def __init__(self, price_id: str, tiers: Mapping[str, Sequence[NanoRates]]) -> None:
        self.id = price_id
        self.tiers = tiers
        # Found at the first use: a catalog has many prices, and a process uses few of them.
        self._dearest: Sequence[DearestRates] | None = None
        self.tool_fees: dict[str, int] = {}
        for rates in (each for steps in tiers.values() for each in steps):
            for name, fee in rates.tool_calls.items():
                self.tool_fees[name] = max(fee, self.tool_fees.get(name, 0))
        default = tiers.get("default", ())
        self._by_service_tier: Mapping[str | None, Sequence[NanoRates]] = {
            **tiers,
            None: default,
            "auto": default,
        }

    def cost(self, usage: Usage, service_tier: str | None) -> int | None:
        """Return the cost in nano-dollars; None if the tier has no rates. The default's do not
        stand in."""
        for rates in self._by_service_tier.get(service_tier, ()):
            if usage.input_tokens > rates.above_input_tokens:
                return rates.cost(usage)
        return None

    def find_rates(self, usage: Usage, service_tier: str | None) -> NanoRates | None:
        """Return the rates that apply to a usage; None if the tier has none."""
        steps = self._by_service_tier.get(service_tier, ())
        return next((each for each in steps if usage.input_tokens > each.above_input_tokens), None)

    def bound(self, input_tokens: int, output_tokens: int, service_tier: str | None) -> int | None:
        """Return the most that so many tokens can cost in any tier, since the provider may serve in
        any.

        Return None for an unknown tier, and if any rates have no input or no output rate.
        """
        if service_tier not in self._by_service_tier:
            return None
        dearest = self._dearest
        if dearest is None:
            dearest = self._dearest = find_dearest(self.tiers)
        most: int | None = None
        for input_rate, output_rate, fee in dearest:
            tokens = 0
            if input_tokens:
                if input_rate is None or input_tokens < 0:
                    return None
                tokens = input_tokens * input_rate
            if output_tokens:
                if output_rate is None or output_tokens < 0:
                    return None
                tokens += output_tokens * output_rate
            cost = (tokens + _HALF_MILLION) // _MILLION + fee
            if most is None or cost > most:
                most = cost
        return most


def find_dearest(tiers: Mapping[str, Sequence[NanoRates]]) -> Sequence[DearestRates]:
    """Return the highest rates of every tier, without those that others exceed in every part."""
    found = {rates.dearest for steps in tiers.values() for rates in steps}
    return [each for each in found if not any(_exceeds(other, each) for other in found - {each})]


def _exceeds(one: DearestRates, other: DearestRates) -> bool:
    """Return whether no usage costs more at the other rates. A rate that is not known decides
    whether a usage has a price, so none exceeds it."""
    pairs = zip(one, other, strict=True)
    return all(a is not None and b is not None and a >= b for a, b in pairs)


def _sum(parts: Iterable[tuple[int, int | None]]) -> int | None:
    total = 0
    for count, rate in parts:
        if count:
            if rate is None or count < 0:
                return None
            total += count * rate
    return total
