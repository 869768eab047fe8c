"""The search page of a store and its HTTP API: ``kerashash serve``."""

from kerashash.page.limits import Limits, Refused

__all__ = ["Limits", "Refused"]
