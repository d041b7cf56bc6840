"""Operations on keys, and the index that checks tokens."""

from headgate.keys.service.authority import Authority
from headgate.keys.service.key_budgets import list_changed_budgets
from headgate.keys.service.key_index import TOPICS, KeyIndex, flush_used
from headgate.keys.service.keys import OVERLAP_SECONDS_MAX, KeyService
from headgate.keys.store import TOPIC

__all__ = [
    "OVERLAP_SECONDS_MAX",
    "TOPIC",
    "TOPICS",
    "Authority",
    "KeyIndex",
    "KeyService",
    "flush_used",
    "list_changed_budgets",
]
