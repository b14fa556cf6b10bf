"""The counters of a client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metrics:
    """Counters of a client since it was opened. All fields except `lag_ms` only grow.

    `dataclasses.asdict` converts it to a dict. Later versions may add counters.

    Threads: any number at once.
    """

    reconnects: int
    """Connections established after the first one."""
    relists: int
    """Complete lists read after the first one of each service."""
    resyncs: int
    """New epochs of the store: it was restored or wiped."""
    duplicates: int
    """Changes that the store sent again and that were dropped."""
    mismatches: int
    """Comparisons with a complete list that showed a change which the store had not reported."""
    invalid: int
    """Records that could not be decoded, counted on each receipt."""
    restored: int
    """Registrations restored after they were lost."""
    lag_ms: int
    """Maximum age of the data in memory, in milliseconds: the time since the last progress response of the store.

    0 if no change can be lost on the way, and if nothing is watched.
    """
