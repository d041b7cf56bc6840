"""Count calls against limits, in memory and in Valkey, and manage priority pools."""

from headgate.capacity.service.limiter import CapacityLimiter
from headgate.capacity.service.pools import TOPIC, PoolIndex, PoolService
from headgate.capacity.service.windows import Windows
from headgate.capacity.store.usage import WINDOWS

__all__ = ["TOPIC", "WINDOWS", "CapacityLimiter", "PoolIndex", "PoolService", "Windows"]
