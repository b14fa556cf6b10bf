"""Exits with callbacks running, threads inside calls and futures pending.

Prints when its own work ended, on the clock that all processes share, and the processor time it used.
"""

import asyncio
import itertools
import sys
import threading
import time
from typing import Callable

import libdiscover
from libdiscover import aio

URL, SILENT_STORE = sys.argv[1:]
delivered = threading.Semaphore(0)

client = libdiscover.connect(URL)
web = client.services("web")
subscriptions = [web.subscribe(lambda event: delivered.release()) for _ in range(3)]
lease = client.register("web", address="127.0.0.1:1")
numbers = itertools.count()


def change() -> None:
    lease.update({"number": str(next(numbers))})


def follow() -> None:
    for event in web.watch():
        repr(event.instance)


def wait() -> None:
    web.wait(99, timeout=60)


def connect() -> None:
    libdiscover.connect(SILENT_STORE)


def register() -> None:
    with client.register("web", address=f"127.0.0.1:{next(numbers) % 60000 + 1}"):
        client.services("web").filter(number="1").online()


async def use_asyncio() -> None:
    async with await aio.connect(URL) as other:
        services = other.services("web")
        subscription = services.subscribe(lambda event: delivered.release())
        waits = [asyncio.ensure_future(services.wait(99, timeout=60)) for _ in range(10)]
        for pending in waits:  # asyncio prints an exception that is never retrieved.
            pending.add_done_callback(lambda done: done.cancelled() or done.exception())
        async for event in services.watch():
            repr((event, subscription))
        await asyncio.gather(*waits)


def run(body: Callable[[], object]) -> None:
    """Repeats `body`, and continues after a pause when a call is refused, as a careless daemon does."""
    while True:
        try:
            body()
        except (libdiscover.DiscoverError, RuntimeError):
            time.sleep(0.001)  # tidy: sleep, the pause


for body in [change, change, follow, wait, wait, connect, register, lambda: asyncio.run(use_asyncio())]:
    threading.Thread(target=run, args=[body], daemon=True).start()

for _ in range(100):
    if not delivered.acquire(timeout=20):
        sys.exit("no callbacks")

print(time.monotonic(), time.process_time(), flush=True)
