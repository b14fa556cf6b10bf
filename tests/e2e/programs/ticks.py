"""Measures how long other threads wait for the GIL while calls wait for a dead store.

    ticks.py sync|aio dying|dead URL

With `sync`, a thread is delayed; with `aio`, a task of the same event loop. Prints "ready" when its clients are open,
continues after a line of input, when the store is dead, and prints a line of JSON for each call.
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
OPTIONS = "ttl=30s" if STATE == "dying" else "ttl=30s&lazy=true"
ATTEMPTS = 10
MAX_DELAY = 0.020
"""Maximum delay of a tick, compared with an idle process, in seconds."""
CALL_TIMEOUT = 0.3

Measure = Callable[[Callable[[], Any]], Awaitable[float]]


async def in_a_thread(work: Callable[[], Any]) -> float:
    """Returns the longest time between two ticks of another thread while `work` runs."""
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
    """Returns the longest time between two ticks of this event loop while `work` runs."""
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
        await asyncio.sleep(0.002)  # A late tick is recorded.
        ticking.cancel()
    return worst


async def compare(name: str, measure: Measure, work: Callable[[], Any], idle: Callable[[float], Any]) -> None:
    """Compares `work` with the same time spent idle. A call that blocks does so in every attempt."""
    for attempt in range(1, ATTEMPTS + 1):
        begin = time.perf_counter()
        busy = await measure(work)
        took = time.perf_counter() - begin
        idle_delay = await measure(lambda: idle(max(took, 0.05)))
        if busy <= idle_delay + MAX_DELAY:
            break
    result = {"call": name, "blocked": busy > idle_delay + MAX_DELAY, "busy": busy, "idle": idle_delay, "took": took}
    print(json.dumps({**result, "attempts": attempt}), flush=True)


def ignoring_errors(call: Callable[[], Any]) -> Callable[[], None]:
    """Returns `call` without its error: the store is dead, and errors are not measured."""

    def run() -> None:
        try:
            call()
        except libdiscover.DiscoverError:
            pass

    return run


def in_background(call: Callable[[], Any]) -> Callable[[], None]:
    """Returns the first part of a call that may take long."""

    def run() -> None:
        thread = threading.Thread(target=ignoring_errors(call), daemon=True)
        thread.start()
        thread.join(CALL_TIMEOUT)

    return run


def ignoring_errors_aio(call: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await asyncio.wait_for(call(), 2 * CALL_TIMEOUT)
        except (libdiscover.DiscoverError, asyncio.TimeoutError):
            pass

    return run


def read(web: Any) -> None:
    """Makes all calls that do not wait."""
    (web.online(), web.offline(), web.leader(), web.pick(), web.status(), web.snapshot(), len(web))
    web.filter(zone="eu")
    web.subscribe(lambda event: None).cancel()
    web.watch().cancel()


async def wait_for_input() -> None:
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def sync() -> None:
    clients = [libdiscover.connect(f"{URL}?{OPTIONS}") for _ in range(2 * ATTEMPTS)]
    client, web = clients[0], clients[0].services("web")
    leases = []
    if STATE == "dying":
        leases = [one.register("web", address=f"h:{n + 1}") for n, one in enumerate(clients)]
    await wait_for_input()

    def watch() -> None:
        watch = client.services("web").watch()
        threading.Timer(CALL_TIMEOUT, watch.cancel).start()
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
        # First, while its leases have not lapsed.
        "close": lambda: clients.pop().close(timeout=CALL_TIMEOUT),
        "connect": lambda: libdiscover.connect(f"{URL}?connect_timeout=300ms"),
        "register": lambda: client.register("web", address="h:999", timeout=CALL_TIMEOUT),
        "services and wait": lambda: client.services("other").wait(9, timeout=CALL_TIMEOUT),
        "reads": reads,
        "watch": watch,
        "drop a client": drop,
    }
    lease_calls: dict[str, Callable[[], Any]] = {
        "heartbeat": in_background(lambda: leases[0].heartbeat()),
        "update": in_background(lambda: leases[0].update({"n": "1"})),
        "unregister": in_background(lambda: leases.pop(1).unregister()),
        "drop a lease": lambda: leases.pop(1).__dict__.clear(),
    }
    if leases:
        calls.update(lease_calls)
    for name, call in calls.items():
        await compare(name, in_a_thread, ignoring_errors(call), time.sleep)


async def asynchronous() -> None:
    clients = [await aio.connect(f"{URL}?{OPTIONS}") for _ in range(2 * ATTEMPTS)]
    client, web = clients[0], clients[0].services("web")
    leases = []
    if STATE == "dying":
        leases = [await one.register("web", address=f"h:{n + 1}") for n, one in enumerate(clients)]
    await wait_for_input()

    async def watch() -> None:
        watch = client.services("web").watch()
        asyncio.get_running_loop().call_later(CALL_TIMEOUT, watch.cancel)
        async for _ in watch:
            pass

    async def reads() -> None:
        for _ in range(100):
            read(web)
            await asyncio.sleep(0)

    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "close": lambda: clients.pop().close(timeout=CALL_TIMEOUT),
        "connect": lambda: aio.connect(f"{URL}?connect_timeout=300ms"),
        "register": lambda: client.register("web", address="h:999", timeout=CALL_TIMEOUT),
        "services and wait": lambda: client.services("other").wait(9, timeout=CALL_TIMEOUT),
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
        await compare(name, in_the_loop, ignoring_errors_aio(call), asyncio.sleep)


asyncio.run(sync() if MODE == "sync" else asynchronous())
