"""Messages to the owner, through Apprise. They follow the audit events, and never delay a transfer."""

from pysequence_api.notify.channels import Channel, Outcome, open_channels
from pysequence_api.notify.notifier import Notifier, open_notifier

__all__ = ["Channel", "Notifier", "Outcome", "open_channels", "open_notifier"]
