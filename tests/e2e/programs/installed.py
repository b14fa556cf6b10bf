"""Tests an installed package with the standard library only: `python installed.py URL`."""

from __future__ import annotations

import asyncio
import sys
import threading

import libdiscover
from libdiscover import aio

SECONDS = 30.0


def check_blocking(url: str) -> None:
    with libdiscover.connect(url) as client:
        web, up = client.services("web"), threading.Event()
        web.subscribe(lambda event: up.set() if event.kind == "up" else None)
        with client.register("web", host="h", port=1, attributes={"zone": "eu"}, tags=["a"]) as lease:
            (instance,) = web.wait(1, timeout=SECONDS)
            assert (instance.address, instance.zone, instance.tags) == ("h:1", "eu", ("a",))
            assert web.pick("hash", "key") == instance and lease.standing == "live"
            assert up.wait(SECONDS)


async def check_asyncio(url: str) -> None:
    async with await aio.connect(url) as client:
        async with await client.register("web", address="h:2"):
            async for event in client.services("web").watch():
                if event.kind == "current":
                    break


def check_etcd_is_built_in() -> None:
    try:
        libdiscover.connect("etcd://127.0.0.1:1?connect_timeout=1s")
    except (libdiscover.Unavailable, libdiscover.Timeout):
        return
    raise AssertionError("connected to a port where no server listens")


check_blocking(sys.argv[1])
asyncio.run(check_asyncio(sys.argv[1]))
check_etcd_is_built_in()
print(libdiscover.__version__, libdiscover.__file__)
