"""Waits in one of the ways there are, again and again, and says when Ctrl-C had ended it.

    interrupted.py WAY TIMES URL_OF_NOBODY
"""

import asyncio
import signal
import sys
import threading
import time
from typing import Callable, Dict

import libdiscover
from libdiscover import aio

# A shell starts what it starts in the background with Ctrl-C ignored, and Python heeds that.
signal.signal(signal.SIGINT, signal.default_int_handler)

WAY, TIMES, NOBODY = sys.argv[1], int(sys.argv[2]), sys.argv[3]

client = libdiscover.connect("memory://interrupted")
nobody = libdiscover.connect(f"{NOBODY}&lazy=true")
web = client.services("web")
# The current state has been told already, so that nothing more comes.
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
    "nothing of ours": lambda: threading.Event().wait(60),
    "connect": lambda: libdiscover.connect(NOBODY),
    "register": lambda: nobody.register("web", address="h:1", timeout=60),
    "wait": lambda: web.wait(9, timeout=60),
    "watch": lambda: next(watch),
    "close": close,
    "aio": lambda: asyncio.run(wait()),
}

for _ in range(TIMES):
    try:
        print("waiting", flush=True)
        WAYS[WAY]()
        sys.exit("it did not wait")
    except KeyboardInterrupt:
        print(time.monotonic(), flush=True)
go.set()
