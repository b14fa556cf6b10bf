"""Measures how long others wait for the interpreter while calls of ours wait for a dead store.

    ticks.py sync|aio dying|dead URL

With `sync` the others are a thread, with `aio` a task of the same loop. Says "ready" once its clients
are open, goes on when told to, by when the store is dead, and writes a line of JSON for each call.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import libdiscover
from libdiscover import aio

MODE, STATE, URL = sys.argv[1:]
HOW = "ttl=30s" if STATE == "dying" else "ttl=30s&lazy=true"
ATTEMPTS = 10
ALLOWED = 0.020
"""How much longer than without us a tick may be late, in seconds."""
SHORT = 0.3

Measure = Callable[[Callable[[], Any]], Awaitable[float]]


async def in_a_thread(work: Callable[[], Any]) -> float:
    """The longest time between two ticks of another thread while `work` is under way."""
    worst, over = 0.0, threading.Event()

    def tick() -> None:
        nonlocal worst
        last = time.perf_counter()
        while not over.is_set():
            time.sleep(0.001)  # tidy: sleep, a tick
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    return worst


async def in_the_loop(work: Callable[[], Any]) -> float:
    """The longest time between two ticks of this loop while `work` is under way."""
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0)
    try:
        done = work()
        if done is not None:
            await done
    finally:
        await asyncio.sleep(0.002)  # What came late is seen.
        ticking.cancel()
    return worst


async def judge(name: str, measure: Measure, work: Callable[[], Any], idle: Callable[[float], Any]) -> None:
    """Compares with the same time spent idle. What we really hold, we hold each time."""
    for attempt in range(1, ATTEMPTS + 1):
        begin = time.perf_counter()
        ours = await measure(work)
        took = time.perf_counter() - begin
        quiet = await measure(lambda: idle(max(took, 0.05)))
        if ours <= quiet + ALLOWED:
            break
    facts = {"call": name, "held": ours > quiet + ALLOWED, "ours": ours, "quiet": quiet, "took": took}
    print(json.dumps({**facts, "attempts": attempt}), flush=True)


def failing(call: Callable[[], Any]) -> Callable[[], None]:
    """The store is dead, so it fails, and that is not what is measured."""

    def run() -> None:
        try:
            call()
        except libdiscover.DiscoverError:
            pass

    return run


def aside(call: Callable[[], Any]) -> Callable[[], None]:
    """The beginning of a call that may take long."""

    def run() -> None:
        thread = threading.Thread(target=failing(call), daemon=True)
        thread.start()
        thread.join(SHORT)

    return run


def failing_aio(call: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await asyncio.wait_for(call(), 2 * SHORT)
        except (libdiscover.DiscoverError, asyncio.TimeoutError):
            pass

    return run


def read(web: Any) -> None:
    """All that does not wait."""
    (web.online(), web.offline(), web.leader(), web.pick(), web.status(), web.snapshot(), len(web))
    web.filter(zone="eu")
    web.subscribe(lambda event: None).cancel()
    web.watch().cancel()


async def go_on() -> None:
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def sync() -> None:
    clients = [libdiscover.connect(f"{URL}?{HOW}") for _ in range(2 * ATTEMPTS)]
    client, web = clients[0], clients[0].services("web")
    leases = []
    if STATE == "dying":
        leases = [one.register("web", address=f"h:{n + 1}") for n, one in enumerate(clients)]
    await go_on()

    def watch() -> None:
        watch = client.services("web").watch()
        threading.Timer(SHORT, watch.cancel).start()
        for _ in watch:
            pass

    def reads() -> None:
        for _ in range(100):
            read(web)

    def drop() -> None:
        one = clients.pop()
        one.services("web").subscribe(lambda event: None)
        del one

    calls: dict[str, Callable[[], Any]] = {
        # First, while what its leases await has not lapsed.
        "close": lambda: clients.pop().close(timeout=SHORT),
        "connect": lambda: libdiscover.connect(f"{URL}?connect_timeout=300ms"),
        "register": lambda: client.register("web", address="h:999", timeout=SHORT),
        "services and wait": lambda: client.services("other").wait(9, timeout=SHORT),
        "reads": reads,
        "watch": watch,
        "drop a client": drop,
    }
    lease_calls: dict[str, Callable[[], Any]] = {
        "heartbeat": aside(lambda: leases[0].heartbeat()),
        "update": aside(lambda: leases[0].update({"n": "1"})),
        "unregister": aside(lambda: leases.pop(1).unregister()),
        "drop a lease": lambda: leases.pop(1).__dict__.clear(),
    }
    if leases:
        calls.update(lease_calls)
    for name, call in calls.items():
        await judge(name, in_a_thread, failing(call), time.sleep)


async def asynchronous() -> None:
    clients = [await aio.connect(f"{URL}?{HOW}") for _ in range(2 * ATTEMPTS)]
    client, web = clients[0], clients[0].services("web")
    leases = []
    if STATE == "dying":
        leases = [await one.register("web", address=f"h:{n + 1}") for n, one in enumerate(clients)]
    await go_on()

    async def watch() -> None:
        watch = client.services("web").watch()
        asyncio.get_running_loop().call_later(SHORT, watch.cancel)
        async for _ in watch:
            pass

    async def reads() -> None:
        for _ in range(100):
            read(web)
            await asyncio.sleep(0)

    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "close": lambda: clients.pop().close(timeout=SHORT),
        "connect": lambda: aio.connect(f"{URL}?connect_timeout=300ms"),
        "register": lambda: client.register("web", address="h:999", timeout=SHORT),
        "services and wait": lambda: client.services("other").wait(9, timeout=SHORT),
        "reads": reads,
        "watch": watch,
    }
    lease_calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "heartbeat": lambda: leases[0].heartbeat(),
        "update": lambda: leases[0].update({"n": "1"}),
        "unregister": lambda: leases.pop(1).unregister(),
    }
    if leases:
        calls.update(lease_calls)
    for name, call in calls.items():
        await judge(name, in_the_loop, failing_aio(call), asyncio.sleep)


asyncio.run(sync() if MODE == "sync" else asynchronous())
