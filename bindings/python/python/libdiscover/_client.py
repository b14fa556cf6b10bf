"""Opening, registering, closing: the calls that wait."""

from __future__ import annotations

import contextlib
import warnings
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Callable, Iterable, Mapping, Optional, Type

from libdiscover import _native
from libdiscover._native import CLOSE_TIMEOUT, Closed, Condition, DiscoverError, Forked, Subscription
from libdiscover._set import ServiceSet, listed
from libdiscover._types import ConnectionState, Heartbeat, Seconds, Standing

if TYPE_CHECKING:
    from libdiscover._metrics import Metrics


def connect(url: Optional[str] = None) -> Client:
    """Opens the registry at `url`, else at `DISCOVER_URL`, else `local://`.

    Fails within the URL's `connect_timeout` (5 s) if the registry does not answer; with `lazy=true` in
    the URL it does not ask.

    Raises InvalidArgument, Unavailable, Timeout, PermissionDenied, Unsupported.
    """
    return Client(_native.connect(url).wait())


class ClientFacts:
    """What a client says without waiting. Shared by Client and its counterpart in `libdiscover.aio`."""

    def __init__(self, native: _native.Client) -> None:
        self._native = native

    @property
    def url(self) -> str:
        """Where the registry is, secrets hidden."""
        return self._native.url

    def metrics(self) -> Metrics:
        """What the client has been through, in numbers; still to be read when it is closed."""
        from libdiscover._metrics import Metrics

        return Metrics(**self._native.metrics())

    def connection(self) -> Condition[ConnectionState]:
        """How the connection to the registry fares, and why if it is a bad state.

        `connected`: the registry answers, or has not been asked yet. `suspended`: it does not; sets are
        kept as they were, registrations live on in the registry for their ttl. `lost`: it has not for the
        ttl that the URL says, so registrations may be gone; they are put back as soon as it does.

        Raises Closed.
        """
        return self._native.connection()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"


class Client(ClientFacts):
    """A connection to a registry. Use it in `with`, or close it; at exit it is closed for you.

    Threads: any number at once.
    """

    def register(
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
        """Registers an instance of `service` and keeps it alive. Once it returns, others see it.

        Say where it is with `port` (1 to 65535; the host is then this machine's own address, or
        `host`), or with `address`, "host:port". `id` is unique within the service, by default the
        address. `attributes` are strings by name; `weight` (0 to 65535) and `zone` have a meaning to
        `pick`. `ttl` (1 s to 24 h) says how long it outlives the process where the store cannot see it
        die. With `heartbeat="manual"`, call `Lease.heartbeat` at least once in each `ttl`. `timeout` says
        how long to go on trying; by default it is the URL's `connect_timeout`.

        Keep the lease: dropping it unregisters.

        Raises InvalidArgument, Replaced, Unavailable, Timeout, PermissionDenied, Closed.
        """
        call = self._native.register(
            service, port, host, address, id, dict(attributes or {}), listed(tags), ttl, heartbeat, timeout
        )
        return Lease(call.wait())

    def services(self, service: str) -> ServiceSet:
        """The live set of a service. Does not wait: the set says whether it is current yet.

        Raises InvalidArgument, Closed.
        """
        return ServiceSet(self._native.services(service))

    def on_connection(self, callback: Callable[[Condition[ConnectionState]], object]) -> Subscription:
        """Has `callback` called with how the connection fares: first now, then at each change.

        It runs as one of `ServiceSet.subscribe` does: on the client's callback thread, latest wins.

        Raises TypeError, Closed.
        """
        return self._native.on_connection(callback)

    def close(self, timeout: Seconds = CLOSE_TIMEOUT) -> None:
        """Unregisters all leases, ends all waits, watches and callbacks, and both threads.

        Each step takes at most `timeout` (5 s). What is closed stays readable. Closing again is no error.

        Raises Timeout; Busy, and stays open, inside a callback.
        """
        self._native.close(timeout).wait()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        # In a forked child there is nothing to close.
        with contextlib.suppress(Forked):
            self.close()


class LeaseFacts:
    """What a lease says without waiting. Shared by Lease and its counterpart in `libdiscover.aio`."""

    def __init__(self, native: _native.Lease) -> None:
        self._native = native

    @property
    def id(self) -> str:
        """The id under which others see it."""
        return self._native.id

    @property
    def address(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return self._native.address

    @property
    def service(self) -> str:
        """The service."""
        return self._native.service

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that others see: those registered or updated, with what was taken over since from
        what the service says to all of its registrations, as with `layout=scalingo` the credentials.

        Raises Forked.
        """
        return MappingProxyType(self._native.attributes)

    @property
    def standing(self) -> Standing:
        """`live`, `lapsed` (gone, or not confirmed for a TTL; being put back), `replaced` (another owner
        has taken over the id) or `released`."""
        return self._native.standing

    @property
    def error(self) -> Optional[DiscoverError]:
        """Why it is lapsed or replaced, else None."""
        return self._native.error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service} {self.address}>"

    def __del__(self) -> None:
        with contextlib.suppress(Forked):
            if self.standing in ("live", "lapsed"):
                text = f"{self!r} was dropped, which unregisters it; keep it, or use `with`"
                warnings.warn(text, ResourceWarning, stacklevel=2, source=self)


class Lease(LeaseFacts):
    """A registration that is kept alive. Unregisters when left (`with`), dropped, or its client closed.

    Threads: any number at once.
    """

    def on_standing(self, callback: Callable[[Condition[Standing]], object]) -> Subscription:
        """Has `callback` called with how the registration stands: first now, then at each change, and
        again when other attributes were taken over.

        It runs as one of `ServiceSet.subscribe` does. `released` is the last, unless the client is closed
        before.

        Raises TypeError, Closed.
        """
        return self._native.on_standing(callback)

    def heartbeat(self) -> None:
        """Says "I am alive" now. One that has lapsed is registered again.

        Raises Unavailable, Timeout, Replaced, Closed.
        """
        self._native.heartbeat().wait()

    def update(self, attributes: Mapping[str, str]) -> None:
        """Replaces all attributes: those that are not given are gone. When it fails, the old ones hold.

        Raises InvalidArgument, Unavailable, Timeout, Replaced, Closed.
        """
        self._native.update(dict(attributes)).wait()

    def unregister(self) -> None:
        """Takes the instance away; others see it go at once. Doing it again is no error.

        Raises Unavailable, and Timeout: the instance then goes with its TTL.
        """
        self._native.unregister().wait()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        # A closed client has unregistered it, and in a forked child it is the parent's.
        with contextlib.suppress(Closed, Forked):
            self.unregister()
