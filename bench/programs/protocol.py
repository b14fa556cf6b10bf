"""The protocol of the programs in Python: a line of JSON when they are ready, and one on request; see protocol.rs."""

from __future__ import annotations

import json
import sys
import time


def now_us() -> int:
    return time.monotonic_ns() // 1000


def report(**values: object) -> None:
    print(json.dumps(values), flush=True)


def wait_for_stop() -> None:
    sys.stdin.readline()


def resident() -> int:
    """Returns the resident memory of this process in KiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def host(number: int) -> str:
    """Returns the host of an instance by number, the same in every language."""
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250}"
