"""How connections and registrations fare, asked for and told; and the counters."""

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

NOBODY = "etcd://127.0.0.1:1?lazy=true&ttl=1s"
"""Where no registry answers."""


class Told:
    """A callback that keeps what it is told."""

    def __init__(self) -> None:
        self._told: queue.Queue[Union[ConnectionStatus, LeaseStatus]] = queue.Queue()

    def __call__(self, condition: Union[ConnectionStatus, LeaseStatus]) -> None:
        self._told.put(condition)

    def next(self) -> Union[ConnectionStatus, LeaseStatus]:
        return self._told.get(timeout=SECONDS)

    def states(self, count: int) -> List[str]:
        return [self.next().state for _ in range(count)]

    def is_empty(self) -> bool:
        return self._told.empty()


def test_a_connection_is_told_as_it_is_now(client: Client) -> None:
    told = Told()
    now = client.connection()
    assert (now.state, now.error, repr(now)) == ("connected", None, "<ConnectionStatus connected>")
    with client.on_connection(told):
        first = told.next()
    assert (first.state, first.error) == ("connected", None)
    with pytest.raises(AttributeError):
        setattr(first, "state", "lost")


def test_a_registry_that_does_not_answer_is_told_with_the_reason() -> None:
    told, kept = Told(), threading.Event()
    with libdiscover.connect(NOBODY) as client:
        client.on_connection(told)
        weakref.finalize(told, kept.set)
        web = client.services("web")
        condition = told.next()
        if condition.state == "connected":  # It had not been asked yet.
            condition = told.next()
        assert condition.state == "suspended"
        assert isinstance(condition.error, libdiscover.Unavailable)
        assert told.states(1) == ["lost"]
        now = client.connection()
        assert now.state == "lost" and isinstance(now.error, ConnectionError)
        assert repr(now).startswith("<ConnectionStatus lost: ")
        assert web.online() == ()
    assert told.is_empty()
    del told
    gc.collect()
    assert kept.wait(SECONDS)


def test_a_registration_is_told_to_its_end(client: Client) -> None:
    told, gone = Told(), threading.Event()
    with client.register("web", address="h:1") as lease:
        lease.on_standing(told)
        assert told.states(1) == ["live"]
    assert told.states(1) == ["released"]
    # Nothing can follow, so the callback is let go of by itself.
    weakref.finalize(told, gone.set)
    del told
    assert gone.wait(SECONDS)


def test_a_registration_that_lapses_is_told_with_the_reason(client: Client) -> None:
    told = Told()
    with client.register("web", address="h:1", heartbeat="manual", ttl=1) as lease:
        lease.on_standing(told)
        condition = told.next()
        if condition.state == "live":  # Whoever is slow hears only the last.
            condition = told.next()
        assert condition.state == "lapsed" and isinstance(condition.error, libdiscover.LeaseLost)
        lease.heartbeat()
        assert client.metrics().restored >= 1


def test_a_cancelled_listener_is_told_nothing_more(client: Client) -> None:
    told, other = Told(), Told()
    lease = client.register("web", address="h:1")
    subscription = lease.on_standing(told)
    assert told.states(1) == ["live"]
    subscription.cancel()
    lease.on_standing(other)
    lease.unregister()
    while other.next().state != "released":
        pass
    assert told.is_empty()


def test_listeners_are_refused_when_they_cannot_be_called_or_the_client_is_closed(client: Client) -> None:
    lease = client.register("web", address="h:1")
    with pytest.raises(TypeError, match="callback is 7, which cannot be called"):
        client.on_connection(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callback is 7, which cannot be called"):
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


def test_what_a_service_says_to_all_is_taken_over_and_told(memory: str) -> None:
    """With layout=scalingo the last to register says the credentials of all public hosts."""
    with libdiscover.connect(f"{memory}?layout=scalingo,native") as client:
        told = Told()
        first = {"public": "true", "user": "old", "zone": "eu"}
        with client.register("api", address="h:1", attributes=first) as lease:
            assert lease.attributes == first
            subscription = lease.on_standing(told)
            assert told.states(1) == ["live"]
            with client.register("api", address="h:2", attributes={**first, "user": "new"}):
                assert told.states(1) == ["live"]
                assert lease.attributes == {**first, "user": "new"}
                for one in client.services("api").wait(2, timeout=SECONDS):
                    assert one.layouts == ("scalingo", "native")
            subscription.cancel()


def test_an_instance_is_no_suspect_and_a_set_has_an_epoch(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1"):
        (one,) = web.wait(timeout=SECONDS)
    assert one.is_suspect is False and "suspect" not in repr(one)
    assert web.status().epoch == web.snapshot().epoch == 0


async def test_conditions_are_iterated_over_until_the_client_is_closed() -> None:
    states: List[str] = []

    async def follow(client: aio.Client) -> None:
        async for condition in client.watch_connection():
            states.append(condition.state)

    async with await aio.connect(NOBODY) as client:
        following = asyncio.create_task(follow(client))
        web = client.services("web")
        while "lost" not in states:
            await asyncio.sleep(0.01)  # tidy: sleep, between two looks
    await asyncio.wait_for(following, SECONDS)
    assert web.online() == ()
    assert [state for state in states if state != "connected"] == ["suspended", "lost"]


async def test_an_iterator_that_is_let_go_of_or_cancelled_ends(memory: str) -> None:
    async with await aio.connect(memory) as client:
        watch = client.watch_connection()
        assert (await watch.__anext__()).state == "connected"
        feed = weakref.ref(watch._feed)
        del watch
        gc.collect()
        assert feed() is None
        with client.watch_connection() as watch:
            assert (await watch.__anext__()).state == "connected"
        assert [condition async for condition in watch] == []


async def test_callbacks_are_told_on_the_loop(memory: str) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    def callback(condition: Union[ConnectionStatus, LeaseStatus]) -> None:
        asyncio.get_running_loop()
        told.put_nowait(condition.state)

    async def next_of() -> str:
        return await asyncio.wait_for(told.get(), SECONDS)

    async with await aio.connect(memory) as client:
        assert client.connection().state == "connected"
        assert client.metrics().resyncs == 0
        client.on_connection(callback)
        assert await next_of() == "connected"
        async with await client.register("web", address="h:1") as lease:
            lease.on_standing(callback)
            assert await next_of() == "live"
        assert await next_of() == "released"
    assert told.empty()
