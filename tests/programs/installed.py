"""What an installed package can do, told with the standard library alone: python installed.py URL."""

from __future__ import annotations

import asyncio
import sys
import threading

import libdiscover
from libdiscover import aio

SECONDS = 30.0


def waits(url: str) -> None:
    with libdiscover.connect(url) as client:
        web, up = client.services("web"), threading.Event()
        web.subscribe(lambda event: up.set() if event.kind == "up" else None)
        with client.register("web", host="h", port=1, attributes={"zone": "eu"}, tags=["a"]) as lease:
            (one,) = web.wait(1, timeout=SECONDS)
            assert (one.address, one.zone, one.tags) == ("h:1", "eu", ("a",))
            assert web.pick("hash", "key") == one and lease.standing == "live"
            assert up.wait(SECONDS)


async def awaits(url: str) -> None:
    async with await aio.connect(url) as client:
        async with await client.register("web", address="h:2"):
            async for event in client.services("web").watch():
                if event.kind == "current":
                    break


def knows_etcd() -> None:
    try:
        libdiscover.connect("etcd://127.0.0.1:1?connect_timeout=1s")
    except (libdiscover.Unavailable, libdiscover.Timeout):
        return
    raise AssertionError("nobody is there")


waits(sys.argv[1])
asyncio.run(awaits(sys.argv[1]))
knows_etcd()
print(libdiscover.__version__, libdiscover.__file__)
