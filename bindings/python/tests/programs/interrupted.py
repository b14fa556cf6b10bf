"""Waits in one way repeatedly, and prints the time at which Ctrl-C ended each wait.

    interrupted.py WAY TIMES URL_OF_A_SILENT_STORE
"""

import asyncio
import signal
import sys
import threading
import time
from typing import Callable, Dict

import libdiscover
from libdiscover import aio

# A shell starts background processes with SIGINT ignored, and Python keeps that.
signal.signal(signal.SIGINT, signal.default_int_handler)

WAY, TIMES, SILENT_STORE = sys.argv[1], int(sys.argv[2]), sys.argv[3]

client = libdiscover.connect("memory://interrupted")
lazy_client = libdiscover.connect(f"{SILENT_STORE}&lazy=true")
web = client.services("web")
# The watch has returned `current`, so that no more events follow.
watch = web.watch()
next(watch)
entered, go = threading.Event(), threading.Event()


def stuck(event: libdiscover.Event) -> None:
    entered.set()
    go.wait()


def close() -> None:
    if not entered.is_set():
        web.subscribe(stuck)
        entered.wait()
    client.close(timeout=60)


async def wait() -> None:
    async with await aio.connect("memory://interrupted") as other:
        await other.services("web").wait(9, timeout=60)


WAYS: Dict[str, Callable[[], object]] = {
    "plain Python": lambda: threading.Event().wait(60),
    "connect": lambda: libdiscover.connect(SILENT_STORE),
    "register": lambda: lazy_client.register("web", address="h:1", timeout=60),
    "wait": lambda: web.wait(9, timeout=60),
    "watch": lambda: next(watch),
    "close": close,
    "aio": lambda: asyncio.run(wait()),
}

for _ in range(TIMES):
    try:
        print("waiting", flush=True)
        WAYS[WAY]()
        sys.exit("the call did not wait")
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
go.set()
