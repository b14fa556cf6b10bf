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
from typing import Any, Callable, Deque, Generic, Iterable, List, Mapping, Optional, Protocol, Tuple, Type, TypeVar

from libdiscover import _native
from libdiscover._client import ClientFacts, LeaseFacts
from libdiscover._native import CLOSE_TIMEOUT, Closed, Condition, Event, Forked, Instance
from libdiscover._set import Reads, listed
from libdiscover._types import ConnectionState, Heartbeat, Seconds, Standing

__all__ = ["Client", "Lease", "ServiceSet", "Subscription", "Watch", "connect"]

T = TypeVar("T")
S = TypeVar("S", bound=str)
Ring = Callable[[], None]


async def connect(url: Optional[str] = None) -> Client:
    """See `libdiscover.connect`."""
    return Client(await _result(_native.connect(url)))


class Client(ClientFacts):
    """See `libdiscover.Client`. Use it in `async with`, or close it.

    Threads: any number at once, each with a loop of its own.
    """

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

    def on_connection(self, callback: Callable[[Condition[ConnectionState]], object]) -> Subscription:
        """Has `callback` called on this loop: see `libdiscover.Client.on_connection`, and for what it may
        do `ServiceSet.subscribe`. Needs a running loop."""
        return Subscription(lambda ring: _States(self._native.on_connection, ring), callback)

    def watch_connection(self) -> Watch[Condition[ConnectionState]]:
        """The same to iterate over, see `libdiscover.Client.on_connection`; ends when the client is closed.
        Needs a running loop."""
        return Watch(lambda ring: _States(self._native.on_connection, ring))

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


class Lease(LeaseFacts):
    """See `libdiscover.Lease`. Unregisters when left (`async with`), dropped, or its client closed.

    Threads: any number at once, each with a loop of its own.
    """

    def on_standing(self, callback: Callable[[Condition[Standing]], object]) -> Subscription:
        """Has `callback` called on this loop: see `libdiscover.Lease.on_standing`, and for what it may do
        `ServiceSet.subscribe`. Needs a running loop."""
        return Subscription(lambda ring: _States(self._native.on_standing, ring), callback)

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
        return await _result(self._wait(count, timeout))

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """Has `callback`, a plain function, called on this loop: see `libdiscover.ServiceSet.subscribe`.

        What it raises goes to the loop's exception handler. In it everything may be called, and a task
        started. Needs a running loop.
        """
        return Subscription(self._feed, callback)

    def watch(self) -> Watch[Event]:
        """See `libdiscover.ServiceSet.watch`. Needs a running loop."""
        return Watch(self._feed)


class _Feed(Protocol[T]):
    """What rings when there is something to drain."""

    @property
    def ended(self) -> bool: ...
    def drain(self) -> List[T]: ...
    def cancel(self) -> None: ...


class _States(Generic[S]):
    """What is told of a connection or a registration, to be drained like a feed. Ends when let go of."""

    def __init__(
        self, begin: Callable[[Callable[[Optional[Condition[S]]], None], bool], _native.Subscription], ring: Ring
    ) -> None:
        # The last two: the latest, and None for the end.
        news: Deque[Optional[Condition[S]]] = deque(maxlen=2)

        def hear(condition: Optional[Condition[S]]) -> None:
            """On the client's callback thread. Holds nothing of this."""
            news.append(condition)
            ring()

        self._news, self._ring = news, ring
        self._over = self.ended = False
        self._subscription = begin(hear, True)

    def drain(self) -> List[Condition[S]]:
        told = []
        while self._news:
            condition = self._news.popleft()
            if condition is None:
                self._over = True
            else:
                told.append(condition)
        if self._over and told:  # The end comes after what is told now.
            self._ring()
        elif self._over:
            self.ended = True
        return told

    def cancel(self) -> None:
        self.ended = True
        self._subscription.cancel()

    def __del__(self) -> None:
        # Without one, it was refused.
        if hasattr(self, "_subscription"):
            self._subscription.cancel()


class Subscription:
    """A callback that hears of each change, until cancelled or its client is closed; not only while
    somebody holds this. Threads: that of its loop."""

    def __init__(self, feed: Callable[[Ring], _Feed[T]], callback: Callable[[T], object]) -> None:
        if not callable(callback):
            raise TypeError(f"callback is {callback!r}, which cannot be called")
        self._loop = asyncio.get_running_loop()
        self._callback: Callable[[Any], object] = callback
        # The bell holds this method, and so this subscription, for as long as it may ring.
        self._feed: _Feed[Any] = feed(self._ring)

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


class Watch(Generic[T]):
    """An asynchronous iterator of events, or of how a connection fares. Ends when cancelled, dropped, or its client is closed.

    Threads: that of its loop; one task at a time iterates.
    """

    def __init__(self, feed: Callable[[Ring], _Feed[T]]) -> None:
        loop, rung = asyncio.get_running_loop(), asyncio.Event()

        # Holds nothing of this watch, so that a loop that is left ends it.
        def ring() -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(rung.set)

        self._rung = rung
        self._feed = feed(ring)
        self._events: Deque[T] = deque()

    def __aiter__(self) -> Watch[T]:
        return self

    async def __anext__(self) -> T:
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

    def __enter__(self) -> Watch[T]:
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
