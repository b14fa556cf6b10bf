"""The live view of one service: reads of memory, and news."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Callable, Deque, Iterable, Iterator, Mapping, Optional, Tuple, Type, TypeVar

from libdiscover import _native
from libdiscover._native import OfflineInstance, Event, Instance, Subscription
from libdiscover._types import Seconds

Self = TypeVar("Self", bound="Reads")


def listed(tags: Iterable[str]) -> list[str]:
    """Tags as a list. One string is a sequence of strings too, and never meant as one."""
    if isinstance(tags, str):
        raise TypeError(f"tags is the string {tags!r}; it must be a list of strings")
    return list(tags)


class Reads(_native.ServiceSet):
    """What a set says without waiting. Shared by ServiceSet and its counterpart in `libdiscover.aio`.

    Nothing here asks the network or releases the GIL, and all of it goes on, unchanged, after the
    client is closed. What is read in loops is the native class itself.
    """

    def __iter__(self) -> Iterator[Instance]:
        """Those online as of now, oldest first."""
        return iter(self.online())

    def __bool__(self) -> bool:
        """Always true: an empty set is a set. Ask `len(set)`, or `set.online()`."""
        return True

    def offline(self) -> Tuple[OfflineInstance, ...]:
        """Those recently gone, with when and how, in the order in which they went; at most 64."""
        return self.snapshot().offline

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
        return type(self)(self._filter(wanted, listed(tags)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service}: {len(self)} online>"


def native(made: Type[Self]) -> Type[Self]:
    """The native class beneath `made`, with all that is written for it here: CPython calls a native method by
    a shorter way where the object is of the very class that has it."""
    itself = _native.ServiceSet
    written = made.__mro__[: made.__mro__.index(itself)]
    for each in reversed(written):
        for name, value in vars(each).items():
            if name not in ("__dict__", "__weakref__"):
                setattr(itself, name, value)
    return itself  # type: ignore[return-value]  # It has become what `made` is.


@native
class ServiceSet(Reads):
    """The live set of the instances of one service, or of those that match a filter.

    Threads: any number at once.
    """

    def wait(self, count: int = 1, *, timeout: Seconds) -> Tuple[Instance, ...]:
        """Waits until at least `count` are online, and gives them, oldest first; for `timeout` at most.

        Raises Timeout, Closed.
        """
        return self._wait(count, timeout).wait()

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """Has `callback` called with the whole state as events, then with each change.

        It runs on the client's callback thread, one call at a time, until the subscription is cancelled
        or the client closed, whether or not the subscription is kept. A slow callback may miss
        intermediate states, never the last, and delays no heartbeat. What it raises goes to
        `sys.unraisablehook`. In it every call may be made but two: closing the client, and waiting for a
        watch of it, would wait for this very callback, and raise Busy.

        Raises TypeError, Closed.
        """
        return self._subscribe(callback)

    def watch(self) -> Watch:
        """The same events as an iterator, which waits for the next one and ends when the client is closed.

        Raises Closed.
        """
        return Watch(self._feed())


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
