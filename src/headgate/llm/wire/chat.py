"""Meter chat completions."""

from __future__ import annotations

from headgate.llm.choices import ChoicesMeter
from headgate.llm.meter import Meter

METER: Meter = ChoicesMeter()
