"""Telling the owner what happens, through Apprise. It follows the audit events, and is never in the way of money."""

from pysequence_api.notify.channels import Channel, Outcome, open_channels
from pysequence_api.notify.notifier import Notifier, open_notifier

__all__ = ["Channel", "Notifier", "Outcome", "open_channels", "open_notifier"]
