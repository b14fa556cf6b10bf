"""libdiscover for asyncio: the same names, and what waits is awaited.

    from libdiscover import aio

    async with await aio.connect() as client:
        async with await client.register("web", port=8080):
            async for event in client.services("web").watch():
                print(event.kind, event.instance)

Each client, set and subscription may be used from any loop; what is awaited is answered on the loop
that awaits, and callbacks run on the loop that subscribed. A call that is cancelled leaves nothing
registered or open behind it. A client may outlive its loop. Errors are those of `libdiscover`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Callable, Deque, Iterable, Mapping, Optional, Tuple, Type, TypeVar

from libdiscover import _native
from libdiscover._client import LeaseFacts
from libdiscover._native import CLOSE_TIMEOUT, Closed, Event, Forked, Instance
from libdiscover._set import Reads, listed
from libdiscover._types import Heartbeat, Seconds

__all__ = ["Client", "Lease", "ServiceSet", "Subscription", "Watch", "connect"]

T = TypeVar("T")


async def connect(url: Optional[str] = None) -> Client:
    """See `libdiscover.connect`."""
    return Client(await _result(_native.connect(url)))


class Client:
    """See `libdiscover.Client`. Use it in `async with`, or close it.

    Threads: any number at once, each with a loop of its own.
    """

    def __init__(self, native: _native.Client) -> None:
        self._native = native

    @property
    def url(self) -> str:
        """Where the registry is, secrets hidden."""
        return self._native.url

    async def register(
        self,
        service: str,
        port: Optional[int] = None,
        *,
        host: Optional[str] = None,
        address: Optional[str] = None,
        id: Optional[str] = None,
        attributes: Optional[Mapping[str, str]] = None,
        tags: Iterable[str] = (),
        ttl: Optional[Seconds] = None,
        heartbeat: Heartbeat = "automatic",
        timeout: Optional[Seconds] = None,
    ) -> Lease:
        """See `libdiscover.Client.register`."""
        call = self._native.register(
            service, port, host, address, id, dict(attributes or {}), listed(tags), ttl, heartbeat, timeout
        )
        return Lease(await _result(call))

    def services(self, service: str) -> ServiceSet:
        """See `libdiscover.Client.services`. Does not wait."""
        return ServiceSet(self._native.services(service))

    async def close(self, timeout: Seconds = CLOSE_TIMEOUT) -> None:
        """See `libdiscover.Client.close`. Once begun it goes on, even if it is not awaited to the end."""
        await _result(self._native.close(timeout))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        with contextlib.suppress(Forked):
            await self.close()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"


class Lease(LeaseFacts):
    """See `libdiscover.Lease`. Unregisters when left (`async with`), dropped, or its client closed.

    Threads: any number at once, each with a loop of its own.
    """

    async def heartbeat(self) -> None:
        """See `libdiscover.Lease.heartbeat`."""
        await _result(self._native.heartbeat())

    async def update(self, attributes: Mapping[str, str]) -> None:
        """See `libdiscover.Lease.update`."""
        await _result(self._native.update(dict(attributes)))

    async def unregister(self) -> None:
        """See `libdiscover.Lease.unregister`."""
        await _result(self._native.unregister())

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        with contextlib.suppress(Closed, Forked):
            await self.unregister()


class ServiceSet(Reads):
    """See `libdiscover.ServiceSet`.

    Threads: any number at once; those that wait, subscribe or watch have a loop of their own.
    """

    async def wait(self, count: int = 1, *, timeout: Seconds) -> Tuple[Instance, ...]:
        """See `libdiscover.ServiceSet.wait`."""
        return await _result(self._native.wait(count, timeout))

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """Has `callback`, a plain function, called on this loop: see `libdiscover.ServiceSet.subscribe`.

        What it raises goes to the loop's exception handler. In it everything may be called, and a task
        started. Needs a running loop.
        """
        return Subscription(self._native, callback)

    def watch(self) -> Watch:
        """See `libdiscover.ServiceSet.watch`. Needs a running loop."""
        return Watch(self._native)


class Subscription:
    """A callback that hears of each change, until cancelled or its client is closed; not only while
    somebody holds this. Threads: that of its loop."""

    def __init__(self, native: _native.ServiceSet, callback: Callable[[Event], object]) -> None:
        if not callable(callback):
            raise TypeError(f"callback is {callback!r}, which cannot be called")
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        # The bell holds this method, and so this subscription, for as long as it may ring.
        self._feed = native.feed(self._ring)

    def cancel(self) -> None:
        """Ends it: from here on the callback is not called any more."""
        self._feed.cancel()

    def _ring(self) -> None:
        """On the client's callback thread."""
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # The loop is closed, so nobody listens any more.
            self._feed.cancel()

    def _deliver(self) -> None:
        for event in self._feed.drain():
            if self._feed.ended:
                return
            try:
                self._callback(event)
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": f"{self._callback!r} failed on {event!r}", "exception": error}
                )

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.cancel()


class Watch:
    """An asynchronous iterator of events. Ends when cancelled, dropped, or its client is closed.

    Threads: that of its loop; one task at a time iterates.
    """

    def __init__(self, native: _native.ServiceSet) -> None:
        loop, rung = asyncio.get_running_loop(), asyncio.Event()

        # Holds nothing of this watch, so that a loop that is left ends it.
        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(rung.set)

        self._rung = rung
        self._feed = native.feed(ring)
        self._events: Deque[Event] = deque()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        while not self._feed.ended:
            if self._events:
                return self._events.popleft()
            await self._rung.wait()
            self._rung.clear()
            self._events.extend(self._feed.drain())
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Ends it, for whoever awaits the next event too."""
        self._feed.cancel()
        self._rung.set()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.cancel()


async def _result(call: _native.Call[T]) -> T:
    """Makes the call, and has its result brought to this loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: T, error: Optional[BaseException]) -> None:
        if future.done():  # Cancelled; what came too late is dropped, and so undone.
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def done(value: T, error: Optional[BaseException]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed, so nobody awaits it any more.
            loop.call_soon_threadsafe(settle, value, error)

    call.then(done)
    try:
        return await future
    except asyncio.CancelledError:
        call.abort()
        raise
