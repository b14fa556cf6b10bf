"""asyncio interface of libdiscover: the same names, with coroutines in place of calls that block.

    from libdiscover import aio

    async with await aio.connect() as client:
        async with await client.register("web", port=8080):
            async for event in client.services("web").watch():
                print(event.kind, event.instance)

Loops: clients, leases and sets may be used from any event loop. The result of a coroutine is delivered on the loop
that awaits it, and callbacks run on the loop that subscribed. A client may outlive its loop.

Cancellation: a cancelled call leaves nothing registered or open.

Errors: the classes of `libdiscover`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Any, Callable, Deque, Generic, Iterable, List, Mapping, Optional, Protocol, Tuple, Type, TypeVar

from libdiscover import _native
from libdiscover._client import ClientBase, LeaseBase
from libdiscover._native import CLOSE_TIMEOUT, Closed, ConnectionStatus, Event, Forked, Instance, LeaseStatus
from libdiscover._process import close_at_exit_of_child
from libdiscover._types import Heartbeat, Seconds

__all__ = ["Client", "Lease", "ServiceSet", "Subscription", "Watch", "connect"]

T = TypeVar("T")
Wake = Callable[[], None]


async def connect(url: Optional[str] = None) -> Client:
    """Opens a client of the registry at `url`. See `libdiscover.connect`.

    Args:
        url: The URL of the registry. By default the value of `DISCOVER_URL`, else `local://`.

    Raises:
        InvalidArgument: The URL is malformed.
        Unsupported: This build has no support for the scheme.
        Unavailable: The registry refused the connection.
        Timeout: The registry did not respond.
        PermissionDenied: The registry refused the credentials.
    """
    close_at_exit_of_child()
    return Client(await _await_call(_native.connect(url)))


class Client(ClientBase):
    """A client of a registry. Close it, or use it in an `async with` block. See `libdiscover.Client`.

    Threads: any number at once, each with its own event loop.
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
        """Registers an instance of `service` and keeps the registration alive. See `libdiscover.Client.register`.

        Keep the lease: if it is dropped, the instance is unregistered. Give either `port`, or `port` and `host`, or
        `address`.

        Args:
            service: The name of the service.
            port: The port, 1 to 65535.
            host: The host. By default this machine's own address.
            address: Host and port as `host:port`.
            id: The id, unique within the service. By default the address.
            attributes: Attributes. `weight` (0 to 65535) affects `ServiceSet.pick`; `zone` does not.
            tags: Tags.
            ttl: The time (1 s to 24 h) after which the entry expires if the process dies and the store cannot see
                that. By default the URL's `ttl`.
            heartbeat: `automatic`, or `manual`: call `Lease.heartbeat` at least once per `ttl`.
            timeout: Maximum time to retry: seconds, or a `timedelta`. By default the URL's `connect_timeout`.

        Raises:
            InvalidArgument: An argument has an invalid value.
            TypeError: An argument has the wrong type.
            Replaced: Another owner has registered the id.
            Unavailable: The registry cannot be reached.
            Timeout: The registry did not respond within `timeout`.
            PermissionDenied: The registry refused the write.
            Closed: The client is closed.
        """
        return Lease(
            await _await_call(
                self._native.register(
                    service, port, host, address, id, attributes, tags, ttl, heartbeat, timeout
                )
            )
        )

    def services(self, service: str) -> ServiceSet:
        """Returns the live set of a service, without waiting. See `libdiscover.Client.services`.

        Args:
            service: The name of the service.

        Raises:
            InvalidArgument: The name is malformed.
            Closed: The client is closed.
        """
        return ServiceSet(self._native.services(service))

    def on_connection(self, callback: Callable[[ConnectionStatus], object]) -> Subscription:
        """Calls `callback` with the status of the connection: once now, then on each change.

        See `libdiscover.Client.on_connection`. The callback runs on this event loop, as one of
        `ServiceSet.subscribe` does.

        Args:
            callback: Receives a ConnectionStatus.

        Raises:
            TypeError: `callback` is not callable.
            RuntimeError: No event loop is running.
            Closed: The client is closed.
        """
        return Subscription(lambda wake: _StatusFeed(self._native.on_connection, wake), callback)

    def watch_connection(self) -> Watch[ConnectionStatus]:
        """Returns an iterator of the statuses that `on_connection` delivers; it ends when the client is closed.

        See `libdiscover.Client.on_connection`.

        Raises:
            RuntimeError: No event loop is running.
            Closed: The client is closed.
        """
        return Watch(lambda wake: _StatusFeed(self._native.on_connection, wake))

    async def close(self, timeout: Seconds = CLOSE_TIMEOUT) -> None:
        """Unregisters all leases, ends all waits, watches and callbacks, and stops the client's threads.

        See `libdiscover.Client.close`. The client closes even if this call is cancelled.

        Args:
            timeout: Maximum time of each of two steps, unregistration and the end of a running callback: seconds, or
                a `timedelta`.

        Raises:
            Timeout: The registry did not confirm, or a callback is still running. The client is closed.
        """
        await _await_call(self._native.close(timeout))

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


class Lease(LeaseBase):
    """A registration that is kept alive. See `libdiscover.Lease`.

    It is unregistered at the end of its `async with` block, when it is dropped, and when its client is closed.

    Threads: any number at once, each with its own event loop.
    """

    def on_standing(self, callback: Callable[[LeaseStatus], object]) -> Subscription:
        """Calls `callback` with the status of the registration: once now, then on each change.

        See `libdiscover.Lease.on_standing`. The callback runs on this event loop, as one of `ServiceSet.subscribe`
        does.

        Args:
            callback: Receives a LeaseStatus.

        Raises:
            TypeError: `callback` is not callable.
            RuntimeError: No event loop is running.
            Closed: The client is closed.
        """
        return Subscription(lambda wake: _StatusFeed(self._native.on_standing, wake), callback)

    async def heartbeat(self) -> None:
        """Sends a heartbeat now. A registration that has lapsed is registered again. See `libdiscover.Lease.heartbeat`.

        Raises:
            Unavailable: The registry cannot be reached.
            Timeout: The registry did not respond.
            Replaced: Another owner has registered the id.
            Closed: The client is closed.
        """
        await _await_call(self._native.heartbeat())

    async def update(self, attributes: Mapping[str, str]) -> None:
        """Replaces all attributes. If the call fails, the previous attributes remain. See `libdiscover.Lease.update`.

        Args:
            attributes: The new attributes. Attributes that are not given are removed.

        Raises:
            InvalidArgument: A name or a value is invalid.
            TypeError: A name or a value is not a string.
            Unavailable: The registry cannot be reached.
            Timeout: The registry did not respond.
            Replaced: Another owner has registered the id.
            Closed: The client is closed.
        """
        await _await_call(self._native.update(attributes))

    async def unregister(self) -> None:
        """Unregisters the instance. Other clients see it go offline at once. See `libdiscover.Lease.unregister`.

        Raises:
            Unavailable: The registry cannot be reached; the call is repeated in the background.
            Timeout: The registry did not respond; the call is repeated in the background.
        """
        await _await_call(self._native.unregister())

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


class ServiceSet(_native.ServiceSet):
    """The live set of the instances of one service, optionally filtered. See `libdiscover.ServiceSet`.

    Reads are those of `libdiscover.ServiceSet`. `wait`, `subscribe` and `watch` use the running event loop.

    Threads: any number at once; a thread that waits, subscribes or watches has its own event loop.
    """

    async def wait(self, count: int = 1, *, timeout: Seconds) -> Tuple[Instance, ...]:  # type: ignore[override]
        """Waits until at least `count` instances are online. See `libdiscover.ServiceSet.wait`.

        Args:
            count: Number of instances to wait for.
            timeout: Maximum time to wait: seconds, or a `timedelta`.

        Returns:
            The instances online, oldest first.

        Raises:
            Timeout: Fewer instances are online after `timeout`.
            Closed: The client is closed.
        """
        return await _await_call(self._wait_call(count, timeout))

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:  # type: ignore[override]
        """Calls `callback` with events: first the full state, then `current`, then every change.

        See `libdiscover.ServiceSet.subscribe`. The callback is a plain function and runs on this event loop. It may
        make any call and start tasks. Exceptions are passed to the loop's exception handler.

        Args:
            callback: Receives an Event.

        Raises:
            TypeError: `callback` is not callable.
            RuntimeError: No event loop is running.
            Closed: The client is closed.
        """
        return Subscription(self._event_feed, callback)

    def watch(self) -> Watch[Event]:  # type: ignore[override]
        """Returns an asynchronous iterator of the events that `subscribe` delivers. See `libdiscover.ServiceSet.watch`.

        Raises:
            RuntimeError: No event loop is running.
            Closed: The client is closed.
        """
        return Watch(self._event_feed)


class _Feed(Protocol[T]):
    """A queue that calls a function when there are items to drain."""

    @property
    def ended(self) -> bool: ...
    def drain(self) -> List[T]: ...
    def cancel(self) -> None: ...


class _StatusFeed(Generic[T]):
    """A feed of the statuses of a connection or registration. Cancelled when dropped."""

    def __init__(
        self, subscribe: Callable[[Callable[[Optional[T]], None], bool], _native.Subscription], wake: Wake
    ) -> None:
        # At most two items: the latest status, and None at the end.
        statuses: Deque[Optional[T]] = deque(maxlen=2)

        # Runs on the client's callback thread. It must not reference this object, which could then never be dropped.
        def on_status(status: Optional[T]) -> None:
            statuses.append(status)
            wake()

        self._statuses, self._wake = statuses, wake
        self._end_received = self.ended = False
        self._subscription = subscribe(on_status, True)

    def drain(self) -> List[T]:
        drained = []
        while self._statuses:
            status = self._statuses.popleft()
            if status is None:
                self._end_received = True
            else:
                drained.append(status)
        if self._end_received and drained:  # The consumer sees the end after these items, on another wake-up.
            self._wake()
        elif self._end_received:
            self.ended = True
        return drained

    def cancel(self) -> None:
        self.ended = True
        self._subscription.cancel()

    def __del__(self) -> None:
        # Without a subscription, `subscribe` has failed.
        if hasattr(self, "_subscription"):
            self._subscription.cancel()


class Subscription:
    """A callback that receives every change until it is cancelled or its client is closed.

    The callback stays subscribed even if this object is dropped. In a `with` block, the subscription is cancelled at
    the end of the block.

    Threads: that of its event loop.
    """

    def __init__(self, open_feed: Callable[[Wake], _Feed[T]], callback: Callable[[T], object]) -> None:
        if not callable(callback):
            raise TypeError(f"callback is {callback!r}; it must be callable")
        self._loop = asyncio.get_running_loop()
        self._callback: Callable[[Any], object] = callback
        # The feed references this method, and so keeps this object alive until the feed ends.
        self._feed: _Feed[Any] = open_feed(self._schedule_delivery)

    def cancel(self) -> None:
        """Cancels the subscription. The callback is not called again."""
        self._feed.cancel()

    def _schedule_delivery(self) -> None:
        """Schedules a delivery on the loop. Runs on the client's callback thread."""
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # The loop is closed.
            self._feed.cancel()

    def _deliver(self) -> None:
        for item in self._feed.drain():
            if self._feed.ended:
                return
            try:
                self._callback(item)
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": f"{self._callback!r} failed on {item!r}", "exception": error}
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
    """An asynchronous iterator of events or statuses. Ends when it is cancelled, dropped, or its client is closed.

    In a `with` block, the watch is cancelled at the end of the block.

    Threads: that of its event loop; one task at a time iterates.
    """

    def __init__(self, open_feed: Callable[[Wake], _Feed[T]]) -> None:
        loop, wake_event = asyncio.get_running_loop(), asyncio.Event()

        # It must not reference this object, so that the watch ends when the program drops it.
        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(wake_event.set)

        self._wake_event = wake_event
        self._feed = open_feed(wake)
        self._items: Deque[T] = deque()

    def __aiter__(self) -> Watch[T]:
        return self

    async def __anext__(self) -> T:
        while not self._feed.ended:
            if self._items:
                return self._items.popleft()
            await self._wake_event.wait()
            self._wake_event.clear()
            self._items.extend(self._feed.drain())
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Cancels the watch, which also ends the wait of a task for the next item."""
        self._feed.cancel()
        self._wake_event.set()

    def __enter__(self) -> Watch[T]:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.cancel()


async def _await_call(call: _native.Call[T]) -> T:
    """Starts a call and awaits its result on the running loop. Aborts the call if it is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def set_outcome(value: T, error: Optional[BaseException]) -> None:
        if future.done():  # Cancelled: the late result is dropped, which undoes it.
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def done(value: T, error: Optional[BaseException]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(set_outcome, value, error)

    call.then(done)
    try:
        return await future
    except asyncio.CancelledError:
        call.abort()
        raise
