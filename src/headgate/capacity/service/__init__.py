"""Count calls against limits, in memory and in Valkey, and manage priority pools."""

from headgate.capacity.service.limiter import CapacityLimiter
from headgate.capacity.service.pools import TOPIC, PoolIndex, PoolService
from headgate.capacity.service.windows import Windows

__all__ = ["TOPIC", "CapacityLimiter", "PoolIndex", "PoolService", "Windows"]
