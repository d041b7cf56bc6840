"""Background work of webhooks: dispatch deliveries, delete old ones."""

from headgate.webhooks.jobs.dispatcher import Dispatcher, DispatcherLimits
from headgate.webhooks.jobs.pruning import PRUNING_SECONDS, WebhookPruner
from headgate.webhooks.jobs.sender import Sender

__all__ = ["PRUNING_SECONDS", "Dispatcher", "DispatcherLimits", "Sender", "WebhookPruner"]
