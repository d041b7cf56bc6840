"""The decisions on keys: who may issue what, and what a token opens now."""

from headgate.keys.service.authority import EVERYTHING, Authority
from headgate.keys.service.book import OVERLAP_SECONDS_MAX, Keys
from headgate.keys.service.ring import TOPICS, KeyRing, flush_used
from headgate.keys.store import TOPIC

__all__ = [
    "EVERYTHING",
    "OVERLAP_SECONDS_MAX",
    "TOPIC",
    "TOPICS",
    "Authority",
    "KeyRing",
    "Keys",
    "flush_used",
]
