"""The same operations with other etcd clients for Python; see README.md of the benchmarks.

They do what the floor does, as their documentation shows, without a limit on the size of messages.

    peers.py aetcd|etcd3 follow|register URL COUNT
    peers.py etcetra follow URL COUNT
    peers.py nacos-sdk-rust load URL COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import AsyncIterator, Dict, List, Tuple, Union
from urllib.parse import urlsplit

from protocol import host, now_us, report, resident, wait_for_stop

ALL = "/discover/services/"
NO_LIMIT = {"grpc.max_receive_message_length": -1}
TTL, RENEWED = 15, 5.0

Address = Tuple[str, int]


def folder(number: int) -> str:
    return f"{ALL}bench-{number}/"


def key(number: int) -> str:
    return f"{folder(0)}{host(number)}:1000"


Text = Union[bytes, str]


class Known:
    """The known instances, and the delay of each change."""

    def __init__(self) -> None:
        self.instances: Dict[Text, object] = {}
        self.latencies: List[int] = []

    def listed(self, key: Text, value: Text) -> None:
        self.instances[key] = json.loads(value)

    def put(self, key: Text, value: Text) -> None:
        attributes = json.loads(value)
        written = attributes.get("t")
        if written is not None:
            self.latencies.append(now_us() - int(written))
        self.instances[key] = attributes

    def delete(self, key: Text) -> None:
        self.instances.pop(key, None)

    def report(self) -> None:
        report(latencies=self.latencies, online=len(self.instances))


async def aetcd_follow(address: Address, count: int) -> None:
    import aetcd

    started, known = now_us(), Known()
    client = aetcd.Client(*address, options=NO_LIMIT)
    listed = await client.get_prefix(ALL.encode())
    for kv in listed:
        known.listed(kv.key, kv.value)
    after = listed.header.revision + 1

    async def listen(watch: aetcd.rtypes.Watch) -> None:
        async for event in watch:
            if event.kind == aetcd.rtypes.EventKind.PUT:
                known.put(event.kv.key, event.kv.value)
            else:
                known.delete(event.kv.key)

    tasks = []
    for number in range(count):
        watch = await client.watch_prefix(folder(number).encode(), start_revision=after)
        tasks.append(asyncio.create_task(listen(watch)))
    report(started=started, ready=now_us())
    await asyncio.get_running_loop().run_in_executor(None, wait_for_stop)
    known.report()
    for task in tasks:
        task.cancel()


async def aetcd_register(address: Address, count: int) -> None:
    import aetcd

    started = now_us()
    client = aetcd.Client(*address)
    numbers = iter(range(count))
    kept: List[asyncio.Task[None]] = []

    async def keep(lease: aetcd.leases.Lease) -> None:
        while True:
            await asyncio.sleep(RENEWED)
            await lease.refresh()

    async def work() -> None:
        for number in numbers:
            lease = await client.lease(TTL)
            await client.put(key(number).encode(), b"null", lease=lease)
            kept.append(asyncio.create_task(keep(lease)))

    await asyncio.gather(*(work() for _ in range(64)))
    report(started=started, ready=now_us())
    await asyncio.get_running_loop().run_in_executor(None, wait_for_stop)
    report(registered=len(kept))
    for task in kept:
        task.cancel()


def etcd3_follow(address: Address, count: int) -> None:
    import etcd3

    started, known = now_us(), Known()
    client = etcd3.client(*address, grpc_options=NO_LIMIT.items())
    listed = client.get_prefix_response(ALL)
    for kv in listed.kvs:
        known.listed(kv.key, kv.value)
    after = listed.header.revision + 1

    def on_response(response: etcd3.watch.WatchResponse) -> None:
        for event in response.events:
            if isinstance(event, etcd3.events.PutEvent):
                known.put(event.key, event.value)
            else:
                known.delete(event.key)

    for number in range(count):
        client.add_watch_prefix_callback(folder(number), on_response, start_revision=after)
    report(started=started, ready=now_us())
    wait_for_stop()
    known.report()


def etcd3_register(address: Address, count: int) -> None:
    import etcd3

    started = now_us()
    client = etcd3.client(*address)

    def register(number: int) -> etcd3.Lease:
        lease = client.lease(TTL)
        client.put(key(number), b"null", lease=lease)
        return lease

    with ThreadPoolExecutor(64) as workers:
        leases = list(workers.map(register, range(count)))

    def keep() -> None:
        while True:
            time.sleep(RENEWED)  # tidy: sleep, the interval of renewals
            for lease in leases:
                lease.refresh()

    threading.Thread(target=keep, daemon=True).start()
    report(started=started, ready=now_us())
    wait_for_stop()
    report(registered=len(leases))


async def etcetra_follow(address: Address, count: int) -> None:
    import etcetra

    started, known = now_us(), Known()
    client = etcetra.EtcdClient(etcetra.HostPortPair(*address))

    async def listen(watch: AsyncIterator[etcetra.types.WatchEvent]) -> None:
        async for event in watch:
            if event.event == etcetra.WatchEventType.PUT:
                known.put(event.key, event.value)
            else:
                known.delete(event.key)

    async with client.connect() as connection:
        for at, value in (await connection.get_prefix(ALL)).items():
            known.listed(at, value)
        tasks = []
        for number in range(count):
            # The client cannot watch from a revision, so it may miss changes between the list and the watch.
            ready = asyncio.Event()
            watch = connection.watch_prefix(folder(number), ready_event=ready)
            tasks.append(asyncio.create_task(listen(watch)))
            await ready.wait()
        report(started=started, ready=now_us())
        await asyncio.get_running_loop().run_in_executor(None, wait_for_stop)
        known.report()
        for task in tasks:
            task.cancel()


async def nacos_load(address: Address, count: int) -> None:
    bare, started = resident(), now_us()
    from nacos_sdk_rust_binding_py import nacos_sdk_rust_binding_py as native

    loaded = now_us()
    size = Path(native.__file__).stat().st_size
    report(started=started, ready=loaded, load=loaded - started, bare=bare, loaded=resident(), size=size)
    wait_for_stop()
    report()


TASKS = {
    ("aetcd", "follow"): aetcd_follow,
    ("aetcd", "register"): aetcd_register,
    ("etcetra", "follow"): etcetra_follow,
    ("nacos-sdk-rust", "load"): nacos_load,
}


def main() -> None:
    peer, task, url, count = sys.argv[1:]
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 2379)
    if peer == "etcd3":
        (etcd3_follow if task == "follow" else etcd3_register)(address, int(count))
    else:
        asyncio.run(TASKS[peer, task](address, int(count)))


main()
