"""The statuses of connections and registrations, and the counters."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import queue
import threading
import weakref
from typing import List, Union

import pytest

import libdiscover
from conftest import SECONDS
from libdiscover import Client, ConnectionStatus, LeaseStatus, aio

UNREACHABLE = "etcd://127.0.0.1:1?lazy=true&ttl=1s"
"""The URL of a registry that does not exist."""


Status = Union[ConnectionStatus, LeaseStatus]


def name_of(status: Status) -> str:
    return status.state if isinstance(status, ConnectionStatus) else status.standing


class StatusRecorder:
    """A callback that records the state or standing of each status."""

    def __init__(self) -> None:
        self._statuses: queue.Queue[Status] = queue.Queue()

    def __call__(self, status: Status) -> None:
        self._statuses.put(status)

    def next(self) -> Status:
        return self._statuses.get(timeout=SECONDS)

    def take(self, count: int) -> List[str]:
        """Returns the states or standings of the next statuses."""
        return [name_of(self.next()) for _ in range(count)]

    def is_empty(self) -> bool:
        return self._statuses.empty()


def test_a_new_subscriber_receives_the_current_connection_status(client: Client) -> None:
    statuses = StatusRecorder()
    now = client.connection()
    assert (now.state, now.error, repr(now)) == ("connected", None, "<ConnectionStatus connected>")
    with client.on_connection(statuses):
        first = statuses.next()
    assert (first.state, first.error) == ("connected", None)
    with pytest.raises(AttributeError):
        setattr(first, "state", "lost")


def test_the_status_of_an_unreachable_registry_has_the_reason() -> None:
    statuses, released = StatusRecorder(), threading.Event()
    with libdiscover.connect(UNREACHABLE) as client:
        client.on_connection(statuses)
        weakref.finalize(statuses, released.set)
        web = client.services("web")
        status = statuses.next()
        if status.state == "connected":  # The first request had not been sent yet.
            status = statuses.next()
        assert status.state == "suspended"
        assert isinstance(status.error, libdiscover.Unavailable)
        assert statuses.take(1) == ["lost"]
        now = client.connection()
        assert now.state == "lost" and isinstance(now.error, ConnectionError)
        assert repr(now).startswith("<ConnectionStatus lost: ")
        assert web.online() == ()
    assert statuses.is_empty()
    del statuses
    gc.collect()
    assert released.wait(SECONDS)


def test_a_subscriber_receives_released_last(client: Client) -> None:
    statuses, released = StatusRecorder(), threading.Event()
    with client.register("web", address="h:1") as lease:
        lease.on_standing(statuses)
        assert statuses.take(1) == ["live"]
    assert statuses.take(1) == ["released"]
    # No status can follow, so the library releases the callback.
    weakref.finalize(statuses, released.set)
    del statuses
    assert released.wait(SECONDS)


def test_the_status_of_a_lapsed_registration_has_the_reason(client: Client) -> None:
    statuses = StatusRecorder()
    with client.register("web", address="h:1", heartbeat="manual", ttl=1) as lease:
        lease.on_standing(statuses)
        status = statuses.next()
        if name_of(status) == "live":  # A slow subscriber receives only the last status.
            status = statuses.next()
        assert name_of(status) == "lapsed" and isinstance(status.error, libdiscover.LeaseLost)
        lease.heartbeat()
        assert client.metrics().restored >= 1


def test_a_cancelled_subscriber_receives_no_more_statuses(client: Client) -> None:
    statuses, other = StatusRecorder(), StatusRecorder()
    lease = client.register("web", address="h:1")
    subscription = lease.on_standing(statuses)
    assert statuses.take(1) == ["live"]
    subscription.cancel()
    lease.on_standing(other)
    lease.unregister()
    while name_of(other.next()) != "released":
        pass
    assert statuses.is_empty()


def test_subscribing_is_refused_without_a_callable_and_on_a_closed_client(client: Client) -> None:
    lease = client.register("web", address="h:1")
    with pytest.raises(TypeError, match="callback is 7; it must be callable"):
        client.on_connection(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback is 7; it must be callable"):
        lease.on_standing(7)  # type: ignore[arg-type]
    client.close()
    with pytest.raises(libdiscover.Closed):
        client.on_connection(print)
    with pytest.raises(libdiscover.Closed):
        lease.on_standing(print)
    with pytest.raises(libdiscover.Closed):
        client.connection()


def test_counters_are_whole_numbers_that_stay_readable(client: Client) -> None:
    before = client.metrics()
    assert dataclasses.asdict(before) == {
        "reconnects": 0,
        "relists": 0,
        "resyncs": 0,
        "duplicates": 0,
        "mismatches": 0,
        "invalid": 0,
        "restored": 0,
        "lag_ms": 0,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.relists = 1  # type: ignore[misc]
    client.close()
    assert client.metrics().resyncs == 0


def test_shared_attributes_are_adopted_and_reported(memory: str) -> None:
    """With layout=scalingo the last registration sets the credentials of all public hosts."""
    with libdiscover.connect(f"{memory}?layout=scalingo,native") as client:
        statuses = StatusRecorder()
        first = {"public": "true", "user": "old", "zone": "eu"}
        with client.register("api", address="h:1", attributes=first) as lease:
            assert lease.attributes == first
            subscription = lease.on_standing(statuses)
            assert statuses.take(1) == ["live"]
            with client.register("api", address="h:2", attributes={**first, "user": "new"}):
                assert statuses.take(1) == ["live"]
                assert lease.attributes == {**first, "user": "new"}
                for instance in client.services("api").wait(2, timeout=SECONDS):
                    assert instance.layouts == ("scalingo", "native")
            subscription.cancel()


def test_an_instance_is_not_suspect_and_a_set_has_an_epoch(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1"):
        (instance,) = web.wait(timeout=SECONDS)
    assert instance.is_suspect is False and "suspect" not in repr(instance)
    assert web.status().epoch == web.snapshot().epoch == 0


async def test_a_watch_returns_statuses_until_the_client_is_closed() -> None:
    states: List[str] = []

    async def follow(client: aio.Client) -> None:
        async for status in client.watch_connection():
            states.append(status.state)

    async with await aio.connect(UNREACHABLE) as client:
        following = asyncio.create_task(follow(client))
        web = client.services("web")
        while "lost" not in states:
            await asyncio.sleep(0.01)  # tidy: sleep, between two reads
    await asyncio.wait_for(following, SECONDS)
    assert web.online() == ()
    assert [state for state in states if state != "connected"] == ["suspended", "lost"]


async def test_a_dropped_or_cancelled_iterator_ends(memory: str) -> None:
    async with await aio.connect(memory) as client:
        watch = client.watch_connection()
        assert (await watch.__anext__()).state == "connected"
        feed = weakref.ref(watch._feed)
        del watch
        gc.collect()
        assert feed() is None
        with client.watch_connection() as watch:
            assert (await watch.__anext__()).state == "connected"
        assert [status async for status in watch] == []


async def test_callbacks_run_on_the_loop(memory: str) -> None:
    statuses: asyncio.Queue[str] = asyncio.Queue()

    def callback(status: Status) -> None:
        asyncio.get_running_loop()
        statuses.put_nowait(name_of(status))

    async def next_name() -> str:
        return await asyncio.wait_for(statuses.get(), SECONDS)

    async with await aio.connect(memory) as client:
        assert client.connection().state == "connected"
        assert client.metrics().resyncs == 0
        client.on_connection(callback)
        assert await next_name() == "connected"
        async with await client.register("web", address="h:1") as lease:
            lease.on_standing(callback)
            assert await next_name() == "live"
        assert await next_name() == "released"
    assert statuses.empty()
