"""Meter moderations, which report no usage."""

from __future__ import annotations

from headgate.llm.answers import BodyMeter
from headgate.llm.meter import Meter

METER: Meter = BodyMeter()
