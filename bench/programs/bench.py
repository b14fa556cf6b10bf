"""The measured program in Python; see README.md of the benchmarks."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Dict, List

from protocol import host, now_us, report, resident, wait_for_stop

BARE, BEFORE = resident(), time.monotonic_ns()
import libdiscover  # noqa: E402
import libdiscover.aio  # noqa: E402

CHANGES = 200
LOADED = {"load": (time.monotonic_ns() - BEFORE) // 1000, "bare": BARE, "loaded": resident()}


def follow(url: str, count: int) -> None:
    started = now_us()
    latencies: List[int] = []
    downs: List[int] = []
    current = threading.Semaphore(0)

    def on_event(event: libdiscover.Event) -> None:
        if event.kind in ("up", "update"):
            written = event.instance.attributes.get("t")
            if written is not None:
                latencies.append(time.monotonic_ns() // 1000 - int(written))
        elif event.kind == "down":
            downs.append(now_us())
        elif event.kind == "current":
            current.release()

    client = libdiscover.connect(url)
    sets = [client.services(f"bench-{number}") for number in range(count)]
    subscriptions = [each.subscribe(on_event) for each in sets]
    for _ in sets:
        current.acquire()
    report(started=started, ready=now_us(), **LOADED)
    wait_for_stop()
    report(latencies=latencies, downs=downs, online=sum(len(each.online()) for each in sets))
    del subscriptions
    client.close(5)


async def register(url: str, count: int) -> None:
    started = now_us()
    client = await libdiscover.aio.connect(url)
    leases: List[object] = []
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            leases.append(await client.register("bench-0", 1000, host=host(number)))

    await asyncio.gather(*(work() for _ in range(64)))
    report(started=started, ready=now_us(), **LOADED)
    await asyncio.get_running_loop().run_in_executor(None, wait_for_stop)
    report(registered=len(leases))


def cost(expression: str, **names: object) -> float:
    """Returns the nanoseconds of one call: the minimum of several rounds, without the loop around it."""
    import timeit

    rounds = 200_000
    empty = min(timeit.repeat("pass", number=rounds, repeat=7))
    full = min(timeit.repeat(expression, globals=names, number=rounds, repeat=7))
    return (full - empty) / rounds * 1e9


class Table:
    """Sets by name, as in a program that keeps no handles."""

    def __init__(self, by_name: Dict[str, object]) -> None:
        self.by_name = by_name

    def online(self, name: str) -> object:
        return self.by_name[name]


def read(url: str) -> None:
    client = libdiscover.connect(url)
    leases = [client.register("bench-0", 1000 + number, host="10.0.0.1") for number in range(10)]
    services = client.services("bench-0")
    services.wait(10, timeout=10)
    table = Table({f"bench-{number}": services.online() for number in range(1000)})
    # The cheapest call into a native module of this kind.
    nothing = services.subscribe(lambda event: None)
    alone = {
        "online": cost("services.online()", services=services),
        "pick": cost("services.pick()", services=services),
        "noop": cost("nothing.__enter__()", nothing=nothing),
        "by_name": cost("table.online('bench-0')", table=table),
    }
    still = True

    def keep_writing() -> None:
        turn = 0
        while still:
            turn += 1
            leases[0].update({"turn": str(turn)})
            time.sleep(200e-6)  # tidy: sleep, the interval of the writer

    writer = threading.Thread(target=keep_writing)
    writer.start()
    beside = {
        "online_written": cost("services.online()", services=services),
        "pick_written": cost("services.pick()", services=services),
    }
    still = False
    writer.join()
    report(**alone, **beside)
    client.close(5)


def scale(url: str, instances: int, listeners: int) -> None:
    """Measures the median time from the writer's call to the last subscriber."""
    client = libdiscover.connect(url)
    leases = [client.register("bench-0", 1000, host=host(number)) for number in range(instances)]
    services = client.services("bench-0")
    services.wait(instances, timeout=60)
    notified = threading.Semaphore(0)

    def on_event(event: libdiscover.Event) -> None:
        if event.kind in ("update", "current"):
            notified.release()

    def wait_for_all() -> None:
        for _ in range(listeners):
            notified.acquire()

    subscriptions = [services.subscribe(on_event) for _ in range(listeners)]
    wait_for_all()
    took: List[int] = []
    for turn in range(CHANGES):
        began = now_us()
        leases[turn * 7919 % instances].update({"turn": str(turn)})
        wait_for_all()
        took.append(now_us() - began)
    report(took=sorted(took)[CHANGES // 2])
    for subscription in subscriptions:
        subscription.cancel()
    client.close(60)


def main() -> None:
    task, url, *rest = sys.argv[1:]
    if task == "follow":
        follow(url, int(rest[0]))
    elif task == "register":
        asyncio.run(register(url, int(rest[0])))
    elif task == "read":
        read(url)
    elif task == "scale":
        scale(url, int(rest[0]), int(rest[1]))


main()
