"""Words and units that more than one module speaks of."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Union

Seconds = Union[float, timedelta]
"""How long: a number of seconds, or a timedelta."""

ConnectionState = Literal["connected", "suspended", "lost"]
EventKind = Literal["up", "update", "down", "leader", "current", "stale", "fresh"]
Heartbeat = Literal["automatic", "manual"]
Policy = Literal["round_robin", "random", "weighted", "p2c", "hash"]
Protocol = Literal["tcp", "udp"]
Reason = Literal["removed", "missing"]
Standing = Literal["live", "lapsed", "replaced", "released"]
State = Literal["pending", "current", "stale"]
