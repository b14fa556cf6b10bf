"""The live view of one service: reads of memory, and news."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Callable, Deque, Iterable, Iterator, Mapping, Optional, Tuple, Type, TypeVar

from libdiscover import _native
from libdiscover._native import Departed, Event, Instance, Service, Snapshot, Status, Subscription
from libdiscover._types import Policy, Seconds

Self = TypeVar("Self", bound="Reads")


def listed(tags: Iterable[str]) -> list[str]:
    """Tags as a list. One string is a sequence of strings too, and never meant as one."""
    if isinstance(tags, str):
        raise TypeError(f"tags is the string {tags!r}; it must be a list of strings")
    return list(tags)


class Reads:
    """What a set says without waiting. Shared by ServiceSet and its counterpart in `libdiscover.aio`.

    Nothing here asks the network or releases the GIL, and all of it goes on, unchanged, after the
    client is closed.
    """

    def __init__(self, native: _native.ServiceSet) -> None:
        self._native = native

    @property
    def service(self) -> str:
        """The service."""
        return self._native.service

    def online(self) -> Tuple[Instance, ...]:
        """Those online, oldest first; the same tuple until the set changes."""
        return self._native.online()

    def __iter__(self) -> Iterator[Instance]:
        """Those online as of now, oldest first."""
        return iter(self._native.online())

    def __len__(self) -> int:
        """How many are online."""
        return len(self._native)

    def __bool__(self) -> bool:
        """Always true: an empty set is a set. Ask `len(set)`, or `set.online()`."""
        return True

    def offline(self) -> Tuple[Departed, ...]:
        """Those recently gone, with when and how, in the order in which they went; at most 64."""
        return self._native.snapshot().offline

    def leader(self) -> Optional[Instance]:
        """The oldest instance online, or None."""
        return self._native.leader()

    def hosts(self) -> Service:
        """Those online as the hosts of a service: with URLs, ports by scheme, and shards."""
        return self._native.hosts()

    def snapshot(self) -> Snapshot:
        """What the set is now, for as long as it is held; the same object until the set changes."""
        return self._native.snapshot()

    def status(self) -> Status:
        """How fresh the set is."""
        return self._native.status()

    def pick(self, policy: Policy = "round_robin", key: Optional[str] = None) -> Optional[Instance]:
        """One of those online, or None if there is none.

        `round_robin`: one after the other. `random`. `weighted`: by the attribute `weight`. `p2c`: the
        less busy of two at random; say `done` when the call is over. `hash`: the same one for the same
        `key`, in every process and language.

        Raises InvalidArgument.
        """
        return self._native.pick(policy, key)

    def done(self, instance: Instance) -> None:
        """Says that a call to an instance picked by `p2c` is over."""
        self._native.done(instance)

    def filter(
        self: Self,
        attributes: Optional[Mapping[str, str]] = None,
        tags: Iterable[str] = (),
        **named: str,
    ) -> Self:
        """The live set of those that have all these attributes, with these values, and all these tags.

            web.filter(zone="eu")
            web.filter({"app.kubernetes.io/name": "web"}, tags=["canary"])

        Raises TypeError, Closed.
        """
        wanted = {**(attributes or {}), **named}
        return type(self)(self._native.filter(wanted, listed(tags)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service}: {len(self)} online>"


class ServiceSet(Reads):
    """The live set of the instances of one service, or of those that match a filter.

    Threads: any number at once.
    """

    def wait(self, count: int = 1, *, timeout: Seconds) -> Tuple[Instance, ...]:
        """Waits until at least `count` are online, and gives them, oldest first; for `timeout` at most.

        Raises Timeout, Closed.
        """
        return self._native.wait(count, timeout).wait()

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """Has `callback` called with the whole state as events, then with each change.

        It runs on the client's callback thread, one call at a time, until the subscription is cancelled
        or the client closed, whether or not the subscription is kept. A slow callback may miss
        intermediate states, never the last, and delays no heartbeat. What it raises goes to
        `sys.unraisablehook`. In it every call may be made but two: closing the client, and waiting for a
        watch of it, would wait for this very callback, and raise Busy.

        Raises TypeError, Closed.
        """
        return self._native.subscribe(callback)

    def watch(self) -> Watch:
        """The same events as an iterator, which waits for the next one and ends when the client is closed.

        Raises Closed.
        """
        return Watch(self._native.feed())


class Watch:
    """An iterator of events. Ends when cancelled, dropped, or its client is closed.

    Threads: one at a time iterates; any may cancel.
    """

    def __init__(self, feed: _native.Feed) -> None:
        self._feed = feed
        self._events: Deque[Event] = deque()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        while not self._feed.ended:
            if self._events:
                return self._events.popleft()
            self._feed.wait()
            self._events.extend(self._feed.drain())
        raise StopIteration

    def cancel(self) -> None:
        """Ends it, for whoever waits for the next event too. Never waits."""
        self._feed.cancel()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.cancel()
