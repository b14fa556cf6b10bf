"""How the programs in Python speak: a line of JSON when they are ready, and one when they are asked; see told.rs."""

from __future__ import annotations

import json
import sys
import time


def now_us() -> int:
    return time.monotonic_ns() // 1000


def tell(**values: object) -> None:
    print(json.dumps(values), flush=True)


def wait_for_the_end() -> None:
    sys.stdin.readline()


def resident() -> int:
    """KiB of memory that this process takes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def host(number: int) -> str:
    """The host of the instance with this number, the same in every language."""
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250}"
