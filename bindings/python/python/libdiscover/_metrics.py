"""What a client has been through, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metrics:
    """What a client has been through since it was opened. All but `lag_ms` only grow.

    `dataclasses.asdict` makes a dict of it. A later version may bring new counters.

    Threads: any number at once.
    """

    reconnects: int
    """Connections made after the first."""
    relists: int
    """Whole lists read after the first of each service."""
    resyncs: int
    """Times the store turned out to have another history than before: restored, or wiped."""
    duplicates: int
    """Changes that the store sent again, and that were dropped."""
    mismatches: int
    """Comparisons with a list that showed that the store had not told of a change."""
    invalid: int
    """Records that could not be read, each time one came."""
    restored: int
    """Registrations put back after they were lost."""
    lag_ms: int
    """How old what is shown may be at most, in milliseconds: since the store last gave a sign of life. 0
    where nothing can be lost on the way, and while nothing is watched."""
