"""Clients and leases, with calls that block."""

from __future__ import annotations

import contextlib
import warnings
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Callable, Iterable, Mapping, Optional, Type

from libdiscover import _native
from libdiscover._native import (
    CLOSE_TIMEOUT,
    Closed,
    ConnectionStatus,
    DiscoverError,
    Forked,
    LeaseStatus,
    ServiceSet,
    Subscription,
)
from libdiscover._process import close_at_exit_of_child
from libdiscover._types import Heartbeat, Seconds, Standing

if TYPE_CHECKING:
    from libdiscover._metrics import Metrics


def connect(url: Optional[str] = None) -> Client:
    """Opens a client of the registry at `url`.

    Args:
        url: The URL of the registry. By default the value of `DISCOVER_URL`, else `local://`. The call fails if the
            registry does not respond within the URL's `connect_timeout` (5 s). With `lazy=true` in the URL, it
            returns without contacting the registry.

    Raises:
        InvalidArgument: The URL is malformed.
        Unsupported: This build has no support for the scheme.
        Unavailable: The registry refused the connection.
        Timeout: The registry did not respond.
        PermissionDenied: The registry refused the credentials.
    """
    close_at_exit_of_child()
    return Client(_native.connect(url).wait())


class ClientBase:
    """The calls of a client that never wait. Base of `Client` here and in `libdiscover.aio`."""

    def __init__(self, native: _native.Client) -> None:
        self._native = native

    @property
    def url(self) -> str:
        """The URL of the registry, with secrets redacted."""
        return self._native.url

    def metrics(self) -> Metrics:
        """Returns the client's counters. They remain readable after the client is closed.

        Raises:
            Forked: The client belongs to the parent process.
        """
        from libdiscover._metrics import Metrics

        return Metrics(**self._native.metrics())

    def connection(self) -> ConnectionStatus:
        """Returns the current status of the connection to the registry.

        Raises:
            Closed: The client is closed.
        """
        return self._native.connection()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"


class Client(ClientBase):
    """A client of a registry. Close it, or use it in a `with` block; at exit it is closed automatically.

    It has two threads: one for I/O and timers, one that runs callbacks.

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
        """Registers an instance of `service` and keeps the registration alive.

        When the call returns, other clients see the instance. Keep the lease: if it is dropped, the instance is
        unregistered. Give either `port`, or `port` and `host`, or `address`.

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
            self._native.register(
                service, port, host, address, id, attributes, tags, ttl, heartbeat, timeout
            ).wait()
        )

    def services(self, service: str) -> ServiceSet:
        """Returns the live set of a service, without waiting. `ServiceSet.status` tells if it is current yet.

        Args:
            service: The name of the service.

        Raises:
            InvalidArgument: The name is malformed.
            Closed: The client is closed.
        """
        return self._native.services(service)

    def on_connection(self, callback: Callable[[ConnectionStatus], object]) -> Subscription:
        """Calls `callback` with the status of the connection: once now, then on each change.

        The callback runs on the client's callback thread, as one of `ServiceSet.subscribe` does. A slow callback may
        miss intermediate states, never the last one.

        Args:
            callback: Receives a ConnectionStatus.

        Raises:
            TypeError: `callback` is not callable.
            Closed: The client is closed.
        """
        return self._native.on_connection(callback)

    def close(self, timeout: Seconds = CLOSE_TIMEOUT) -> None:
        """Unregisters all leases, ends all waits, watches and callbacks, and stops the client's threads.

        Sets keep their last contents. Closing a closed client has no effect.

        Args:
            timeout: Maximum time of each of two steps, unregistration and the end of a running callback: seconds, or
                a `timedelta`.

        Raises:
            Timeout: The registry did not confirm, or a callback is still running. The client is closed.
            Busy: The call was made inside a callback. The client stays open.
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
        # In a forked child process there is nothing to close.
        with contextlib.suppress(Forked):
            self.close()


class LeaseBase:
    """The calls of a lease that never wait. Base of `Lease` here and in `libdiscover.aio`."""

    def __init__(self, native: _native.Lease) -> None:
        self._native = native

    @property
    def id(self) -> str:
        """The id of the instance, unique within the service."""
        return self._native.id

    @property
    def address(self) -> str:
        """The address of the instance as `host:port`, IPv6 in brackets."""
        return self._native.address

    @property
    def service(self) -> str:
        """The name of the service."""
        return self._native.service

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes that other clients see.

        They are the attributes of `register` or the last `update`. If the service shares attributes among its instances,
        such as credentials with `layout=scalingo`, they include the shared values.

        Raises:
            Forked: The lease belongs to the parent process.
        """
        return MappingProxyType(self._native.attributes)

    @property
    def standing(self) -> Standing:
        """The standing of the registration: `live`, `lapsed`, `replaced` or `released`.

        `live`: other clients see it. `lapsed`: it is gone, or not confirmed for a TTL; the library is restoring it.
        `replaced`: another owner has registered the same id. `released`: it is unregistered.
        """
        return self._native.standing

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the registration is `lapsed` or `replaced`, else None."""
        return self._native.error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service} {self.address}>"

    def __del__(self) -> None:
        with contextlib.suppress(Forked):
            if self.standing in ("live", "lapsed"):
                text = f"{self!r} was dropped, which unregisters it; keep it, or use `with`"
                warnings.warn(text, ResourceWarning, stacklevel=2, source=self)


class Lease(LeaseBase):
    """A registration that is kept alive.

    It is unregistered at the end of its `with` block, when it is dropped, and when its client is closed.

    Threads: any number at once.
    """

    def on_standing(self, callback: Callable[[LeaseStatus], object]) -> Subscription:
        """Calls `callback` with the status of the registration: once now, then on each change.

        It is also called when shared attributes change. The callback runs on the client's callback thread, as one of
        `ServiceSet.subscribe` does. `released` is the last status, unless the client is closed before.

        Args:
            callback: Receives a LeaseStatus.

        Raises:
            TypeError: `callback` is not callable.
            Closed: The client is closed.
        """
        return self._native.on_standing(callback)

    def heartbeat(self) -> None:
        """Sends a heartbeat now. A registration that has lapsed is registered again.

        Raises:
            Unavailable: The registry cannot be reached.
            Timeout: The registry did not respond.
            Replaced: Another owner has registered the id.
            Closed: The client is closed.
        """
        self._native.heartbeat().wait()

    def update(self, attributes: Mapping[str, str]) -> None:
        """Replaces all attributes. If the call fails, the previous attributes remain.

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
        self._native.update(attributes).wait()

    def unregister(self) -> None:
        """Unregisters the instance. Other clients see it go offline at once.

        A further call tries again at once, and succeeds if the instance is not registered any more.

        Raises:
            Unavailable: The registry cannot be reached; the call is repeated in the background.
            Timeout: The registry did not respond; the call is repeated in the background.
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
        # A closed client has unregistered the instance. In a forked child process, the lease is the parent's.
        with contextlib.suppress(Closed, Forked):
            self.unregister()
