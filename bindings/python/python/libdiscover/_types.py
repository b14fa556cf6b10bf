"""Types that several modules share."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Union

Seconds = Union[float, timedelta]
"""A duration: a number of seconds, or a `timedelta`."""

ConnectionState = Literal["connected", "suspended", "lost"]
EventKind = Literal["up", "update", "down", "leader", "current", "stale", "fresh"]
Heartbeat = Literal["automatic", "manual"]
OfflineReason = Literal["removed", "missing"]
Policy = Literal["round_robin", "random", "weighted", "p2c", "hash"]
Protocol = Literal["tcp", "udp"]
SetState = Literal["pending", "current", "stale"]
Standing = Literal["live", "lapsed", "replaced", "released"]
