"""`libdiscover.aio`: on any event loop, cancelled or closed at any time."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import weakref
from typing import Any, AsyncIterator, Dict, List, Tuple

import pytest

import libdiscover
from conftest import SECONDS
from libdiscover import Event, aio


@pytest.fixture
async def client(url: str) -> AsyncIterator[aio.Client]:
    async with await aio.connect(url) as client:
        yield client


class EventRecorder:
    """A callback that records its events."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        self._events.put_nowait(event)

    async def until(self, kind: str) -> Event:
        while True:
            event = await asyncio.wait_for(self._events.get(), SECONDS)
            if event.kind == kind:
                return event

    def is_empty(self) -> bool:
        return self._events.empty()


async def test_a_registration_is_watched_from_beginning_to_end(client: aio.Client) -> None:
    web = client.services("web")
    watch = web.watch()
    assert (await watch.__anext__()).kind == "current"
    async with await client.register("web", address="h:1", attributes={"zone": "eu"}) as lease:
        assert [instance.address for instance in await web.wait(timeout=SECONDS)] == ["h:1"]
        assert [(await watch.__anext__()).kind for _ in range(2)] == ["up", "leader"]
        await lease.update({"version": "2"})
        assert (await watch.__anext__()).kind == "update"
        await lease.heartbeat()
        assert lease.standing == "live"
    assert [(await watch.__anext__()).kind for _ in range(2)] == ["down", "leader"]
    assert web.online() == () and len(web.offline()) == 1
    await lease.unregister()


async def test_callbacks_run_on_the_loop_and_may_await_in_a_task(client: aio.Client) -> None:
    threads: List[int] = []
    registered: asyncio.Future[aio.Lease] = asyncio.get_running_loop().create_future()
    tasks = []

    async def answer() -> None:
        registered.set_result(await client.register("web", address="h:1"))

    def callback(event: Event) -> None:
        threads.append(threading.get_ident())
        if event.kind == "current":
            tasks.append(asyncio.ensure_future(answer()))

    client.services("web").subscribe(callback)
    lease = await asyncio.wait_for(registered, SECONDS)
    await lease.unregister()
    assert set(threads) == {threading.get_ident()}


async def test_no_event_is_delivered_after_cancelling_or_closing(memory: str) -> None:
    client = await aio.connect(memory)
    web, cancelled, closed = client.services("web"), EventRecorder(), EventRecorder()
    subscription = web.subscribe(cancelled)
    web.subscribe(closed)
    await cancelled.until("current")
    await closed.until("current")
    subscription.cancel()
    lease = await client.register("web", address="h:1")
    await closed.until("leader")
    await client.close()
    assert lease.standing == "released"
    await asyncio.sleep(0)
    assert cancelled.is_empty() and closed.is_empty()
    with pytest.raises(libdiscover.Closed):
        web.subscribe(closed)


async def test_an_exception_of_a_callback_is_passed_to_the_loops_handler(client: aio.Client) -> None:
    contexts: asyncio.Queue[Dict[str, Any]] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.put_nowait(context))

    def callback(event: Event) -> None:
        raise ValueError(event.kind)

    client.services("web").subscribe(callback)
    first = await asyncio.wait_for(contexts.get(), SECONDS)
    assert str(first["exception"]) == "current" and "callback" in first["message"]
    async with await client.register("web", address="h:1"):
        assert str((await asyncio.wait_for(contexts.get(), SECONDS))["exception"]) == "up"


async def test_the_loop_runs_on_while_calls_wait() -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        url = f"etcd://127.0.0.1:{hole.getsockname()[1]}?connect_timeout=1s"
        connecting = asyncio.ensure_future(aio.connect(url))
        ticks = 0
        while not connecting.done():
            await asyncio.wait([connecting], timeout=0.005)
            ticks += 1
    assert isinstance(connecting.exception(), libdiscover.DiscoverError)
    assert ticks > 20


async def test_a_cancelled_call_leaves_no_registration(client: aio.Client) -> None:
    web = client.services("web")
    assert await web.wait(0, timeout=SECONDS) == ()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(web.wait(9, timeout=60), 0.05)
    for _ in range(20):
        task = asyncio.ensure_future(client.register("web", address="h:1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    events = EventRecorder()
    async with await client.register("web", address="h:2"):
        web.subscribe(events)
        await events.until("up")
    while len(web) > 0:
        await events.until("down")


async def test_a_cancelled_iteration_misses_nothing(client: aio.Client) -> None:
    watch = client.services("web").watch()
    assert (await watch.__anext__()).kind == "current"
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(watch.__anext__(), 0.05)
    async with await client.register("web", address="h:1"):
        assert [(await watch.__anext__()).kind for _ in range(2)] == ["up", "leader"]
    with watch:
        pass
    with pytest.raises(StopAsyncIteration):
        await watch.__anext__()


async def test_a_watch_ends_with_its_client(memory: str) -> None:
    client = await aio.connect(memory)
    kinds: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async for event in client.services("web").watch():
            kinds.put_nowait(event.kind)

    following = asyncio.ensure_future(follow())
    assert await asyncio.wait_for(kinds.get(), SECONDS) == "current"
    await client.close()
    await asyncio.wait_for(following, SECONDS)
    assert kinds.empty()


async def test_a_dropped_watch_is_collected(client: aio.Client) -> None:
    watch = client.services("web").watch()
    async for _ in watch:
        break
    reference = weakref.ref(watch)
    del watch
    gc.collect()
    assert reference() is None


def test_one_client_serves_several_loops_and_outlives_them(memory: str) -> None:
    client = asyncio.run(aio.connect(memory))
    kinds: List[str] = []

    async def follow(port: int) -> None:
        client.services("web").subscribe(lambda event: kinds.append(event.kind))
        async with await client.register("web", address=f"h:{port}"):
            assert len(await client.services("web").wait(timeout=SECONDS)) == 1

    for port in range(1, 4):
        asyncio.run(follow(port))
    # The loops that subscribed are closed, so that later events are not delivered to them.
    with libdiscover.connect(memory) as other, other.register("web", address="h:9"):
        assert len(asyncio.run(wait(client))) == 1
    asyncio.run(client.close())


async def wait(client: aio.Client) -> Tuple[libdiscover.Instance, ...]:
    return await client.services("web").wait(timeout=SECONDS)


def test_a_loop_may_close_with_calls_in_progress(memory: str) -> None:
    async def begin() -> aio.Client:
        client = await aio.connect(memory)
        web = client.services("web")
        pending = [asyncio.ensure_future(web.wait(9, timeout=60)) for _ in range(10)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in pending)
        return client

    client = asyncio.run(begin())
    asyncio.run(client.close())


def test_several_loops_run_at_once(memory: str) -> None:
    errors: List[BaseException] = []

    async def run_one(port: int) -> None:
        async with await aio.connect(memory) as client:
            async with await client.register("web", address=f"h:{port}"):
                await client.services("web").wait(4, timeout=SECONDS)
                barrier.wait(SECONDS)

    def run(port: int) -> None:
        try:
            asyncio.run(run_one(port))
        except BaseException as error:
            errors.append(error)

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=run, args=[port]) for port in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert errors == []


async def test_a_missing_loop_or_a_wrong_callback_is_refused(memory: str) -> None:
    async with await aio.connect(memory) as client:
        web = client.services("web")
        with pytest.raises(TypeError, match="callback is 7; it must be callable"):
            web.subscribe(7)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="no running event loop"):
            await asyncio.get_running_loop().run_in_executor(None, web.watch)


async def test_an_error_is_raised_by_the_awaited_call() -> None:
    with pytest.raises(libdiscover.InvalidArgument, match="nowhere"):
        await aio.connect("nowhere://")
