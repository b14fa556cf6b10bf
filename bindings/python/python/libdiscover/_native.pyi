"""Types of the native module. Its sources are in `src/`; a test compares these docstrings with the module's."""

from datetime import datetime
from typing import Any, Callable, Final, Generic, Iterable, Iterator, Mapping, Optional, Tuple, TypeVar, final

from typing_extensions import Self, disjoint_base

from libdiscover._types import (
    ConnectionState,
    EventKind,
    OfflineReason,
    Policy,
    Protocol,
    Seconds,
    SetState,
    Standing,
)

_T = TypeVar("_T")

VERSION: Final[str]
CLOSE_TIMEOUT: Final[float]
ERROR_KINDS: Final[Tuple[Tuple[str, int, bool, str], ...]]

def connect(url: Optional[str] = None) -> Call[Client]:
    """Returns the call that opens a client: at `url`, else at `DISCOVER_URL`, else at `local://`."""

def at_exit(timeout: float) -> None:
    """Closes all clients and waits for native calls to return. For `atexit`.

    Calls made from now on raise Closed.

    Args:
        timeout: Maximum time to close all clients, in seconds.
    """

def restore_instance(
    stored: tuple[str, str, str, int, dict[str, str], list[str], int, list[str], bool],
) -> Instance:
    """Restores an instance. For `pickle`."""

def before_fork() -> None:
    """Waits until no thread is attaching. For `os.register_at_fork`, before the fork."""

def after_fork_in_parent() -> None:
    """Lets threads attach again. For `os.register_at_fork`, in the parent."""

def after_fork_in_child() -> None:
    """Forgets the clients of the parent process. For `os.register_at_fork`, in the child."""

@final
class Call(Generic[_T]):
    """A call that has not started. Start it once, with `wait` or with `then`."""

    def wait(self) -> _T:
        """Starts the call and waits for its result, with the GIL released.

        Ctrl-C ends the wait. If a signal handler raises, the call is aborted if it can be.
        """

    def then(self, done: Callable[[Any, Optional[BaseException]], None]) -> None:
        """Starts the call and returns without waiting.

        Args:
            done: Called once as `done(value, error)`, usually on the client's callback thread. One of the two
                arguments is None.
        """

    def abort(self) -> None:
        """Aborts the call if it is in progress and can be aborted."""

@final
class Client:
    """The native half of `libdiscover.Client` and `libdiscover.aio.Client`."""

    @property
    def url(self) -> str:
        """The URL of the registry, with secrets redacted."""

    def register(
        self,
        service: str,
        port: Optional[int],
        host: Optional[str],
        address: Optional[str],
        id: Optional[str],
        attributes: Optional[Mapping[str, str]],
        tags: Optional[Iterable[str]],
        ttl: Optional[Seconds],
        heartbeat: str,
        timeout: Optional[Seconds],
    ) -> Call[Lease]:
        """Returns the call that registers an instance and returns its lease."""

    def services(self, service: str) -> ServiceSet:
        """Returns the live set of a service, without waiting."""

    def metrics(self) -> dict[str, int]:
        """Returns the client's counters, by name."""

    def connection(self) -> ConnectionStatus:
        """Returns the current status of the connection to the registry."""

    def on_connection(self, callback: Callable[..., object], end: bool = False) -> Subscription:
        """Calls `callback` with the connection's status now and on each change, on the client's callback thread.

        Args:
            callback: Receives a ConnectionStatus.
            end: If true, `callback` also receives None once, when the subscription ends.
        """

    def close(self, timeout: Seconds) -> Call[None]:
        """Returns the call that closes the client and everything that came from it."""

@final
class Lease:
    """The native half of `libdiscover.Lease` and `libdiscover.aio.Lease`. Dropping it unregisters the instance."""

    @property
    def id(self) -> str:
        """The id of the instance, unique within the service."""

    @property
    def address(self) -> str:
        """The address of the instance as `host:port`, IPv6 in brackets."""

    @property
    def service(self) -> str:
        """The name of the service."""

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes that other clients see."""

    @property
    def standing(self) -> Standing:
        """The standing of the registration: `live`, `lapsed`, `replaced` or `released`."""

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the registration is `lapsed` or `replaced`, else None."""

    def on_standing(self, callback: Callable[..., object], end: bool = False) -> Subscription:
        """Calls `callback` with the registration's status now and on each change, on the client's callback thread.

        Args:
            callback: Receives a LeaseStatus.
            end: If true, `callback` also receives None once, when the subscription ends.
        """

    def heartbeat(self) -> Call[None]:
        """Returns the call that sends a heartbeat."""

    def update(self, attributes: Mapping[str, str]) -> Call[None]:
        """Returns the call that replaces all attributes."""

    def unregister(self) -> Call[None]:
        """Returns the call that unregisters the instance."""

@disjoint_base
class ServiceSet:
    """The live set of the instances of one service, optionally filtered.

    Reads (`online`, `offline`, `leader`, `pick`, `snapshot`, `status`, iteration, `len`) return what is in memory. They
    never wait and do not release the GIL. After the client is closed, they return the last contents. In a forked child
    process they raise `Forked`.

    A set is always true, even if it is empty; compare `len(set)` instead.

    Threads: any number at once.
    """

    def __new__(cls, set: ServiceSet) -> Self: ...
    @property
    def service(self) -> str:
        """The name of the service."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Instance]: ...
    def __bool__(self) -> bool: ...
    def online(self) -> Tuple[Instance, ...]:
        """Returns the instances online, oldest first.

        Returns:
            The same tuple until the set changes.
        """

    def offline(self) -> Tuple[OfflineInstance, ...]:
        """Returns the last instances that went offline, at most 64, in the order in which they went offline."""

    def leader(self) -> Optional[Instance]:
        """Returns the oldest instance online, or None."""

    def snapshot(self) -> Snapshot:
        """Returns the current state as an immutable snapshot.

        Returns:
            The same object until the set changes.
        """

    def status(self) -> Status:
        """Returns the freshness of the set."""

    def pick(self, policy: Policy = "round_robin", key: Optional[str] = None) -> Optional[Instance]:
        """Picks one of the instances online, or returns None if there is none.

        Candidates are the healthy instances that are not suspect; if there are none, suspect or `warning` ones.
        Instances of weight 0 are candidates only if all have weight 0; apart from that, `round_robin` and `random` do not
        regard weights.

        Args:
            policy: `round_robin`: each instance in turn. `random`: any. `weighted`: at random, in proportion to the
                attribute `weight`. `p2c`: the one of two random instances with fewer calls in progress; call `done` at
                the end of the call. `hash`: the same instance for the same `key`, in every process and language.
            key: The key for `hash`.

        Raises:
            InvalidArgument: `policy` is unknown, or `hash` has no `key`.
        """

    def done(self, instance: Instance) -> None:
        """Reports the end of a call to an instance that was picked with `p2c`.

        Args:
            instance: The instance that `pick` returned.
        """

    def filter(
        self, attributes: Optional[Mapping[str, str]] = None, tags: Iterable[str] = (), **named: str
    ) -> Self:
        """Returns the live set of the instances that have all given attributes and tags.

            web.filter(zone="eu")
            web.filter({"app.kubernetes.io/name": "web"}, tags=["canary"])

        Args:
            attributes: Required attributes, with their values.
            tags: Required tags.
            **named: More required attributes.

        Returns:
            A set of the same class.

        Raises:
            TypeError: A name, a value or a tag is not a string.
            Closed: The client is closed.
        """

    def wait(self, count: int = 1, *, timeout: Seconds) -> Tuple[Instance, ...]:
        """Waits until at least `count` instances are online.

        Args:
            count: Number of instances to wait for.
            timeout: Maximum time to wait: seconds, or a `timedelta`.

        Returns:
            The instances online, oldest first.

        Raises:
            Timeout: Fewer instances are online after `timeout`.
            Closed: The client is closed.
        """

    def subscribe(self, callback: Callable[[Event], object]) -> Subscription:
        """Calls `callback` with events: first the full state, then `current`, then every change.

        The callback runs on the client's callback thread, one call at a time, until the subscription is cancelled or
        the client is closed, even if the subscription is dropped. A slow callback may miss intermediate states, never
        the last one, and delays no heartbeat. Exceptions are reported to `sys.unraisablehook`. The callback may make
        every call except two, which would wait for the callback itself and raise Busy: to close the client, and to wait
        for a watch of the client.

        Args:
            callback: Receives an Event.

        Raises:
            TypeError: `callback` is not callable.
            Closed: The client is closed.
        """

    def watch(self) -> Watch:
        """Returns an iterator of the events that `subscribe` delivers. It waits for the next event and ends when the client
        is closed.

        Raises:
            Closed: The client is closed.
        """

    def _wait_call(self, count: int, timeout: Seconds) -> Call[Tuple[Instance, ...]]:
        """Returns the call that waits for instances, for `libdiscover.aio`."""

    def _event_feed(self, wake: Callable[[], object]) -> EventFeed:
        """Returns a queue of events, for `libdiscover.aio`.

        Args:
            wake: Called on the client's callback thread when there are events to drain, and once after the end.
        """

@final
class Watch:
    """An iterator of a set's events. Ends when it is cancelled, dropped, or its client is closed.

    The first events describe the current state: `up` for each instance, `leader`, then `current`. In a `with` block,
    the watch is cancelled at the end of the block.

    Threads: one thread at a time iterates; any thread may cancel.
    """

    def __iter__(self) -> Watch: ...
    def __next__(self) -> Event: ...
    def cancel(self) -> None:
        """Cancels the watch, which also ends the wait of a thread for the next event. Never waits."""

    def __enter__(self) -> Watch: ...
    def __exit__(self, *raised: object) -> None: ...

@final
class EventFeed:
    """A queue of a set's events for an event loop. Cancelled when dropped."""

    @property
    def ended(self) -> bool:
        """True if the feed was cancelled or its client is closed."""

    def drain(self) -> list[Event]:
        """Returns the events since the last call, possibly none. Never waits."""

    def cancel(self) -> None:
        """Ends the feed."""

@final
class Subscription:
    """A callback that receives every change until it is cancelled or its client is closed.

    The callback stays subscribed even if this object is dropped. In a `with` block, the subscription is cancelled at
    the end of the block.

    Threads: any number at once.
    """

    def cancel(self) -> None:
        """Cancels the subscription. Never waits.

        May be called from any thread and inside the callback. If it is called from another thread, one last call of the
        callback may still be running.
        """

    def __enter__(self) -> Subscription: ...
    def __exit__(self, *raised: object) -> None: ...

@final
class Instance:
    """One running copy of a service. Immutable: after a change, the set holds a new object.

    Instances are equal if all their fields are equal.

    Threads: any number at once.
    """

    @property
    def service(self) -> str:
        """The name of the service."""

    @property
    def id(self) -> str:
        """The id, unique within the service. By default the address."""

    @property
    def host(self) -> str:
        """The host name or IP address, without brackets."""

    @property
    def port(self) -> int:
        """The port, 1 to 65535."""

    @property
    def address(self) -> str:
        """The address as `host:port`, IPv6 in brackets."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes, a read-only mapping of strings to strings."""

    @property
    def tags(self) -> Tuple[str, ...]:
        """The tags, in the order in which they were registered."""

    @property
    def layouts(self) -> Tuple[str, ...]:
        """The names of the layouts in which the instance is stored, in the order of the URL."""

    @property
    def created(self) -> int:
        """The revision of the store at which the instance came online. The lowest one in a set is the leader's."""

    @property
    def weight(self) -> int:
        """The weight from the attribute `weight`, by default 1."""

    @property
    def zone(self) -> Optional[str]:
        """The zone from the attribute `zone`, or None."""

    @property
    def is_suspect(self) -> bool:
        """True if the instance disappeared from the store together with many others.

        The store may have lost it by mistake. A suspect instance is picked last and does not lead while another one
        can. It goes offline if it does not return in time.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

    def __copy__(self) -> Instance: ...
    def __deepcopy__(self, _memo: object, /) -> Instance:
        """An instance is immutable, with all that it contains."""

@final
class Event:
    """One change of a set. Immutable.

    Threads: any number at once.
    """

    @property
    def kind(self) -> EventKind:
        """The kind of the event: `up`, `update`, `down`, `leader`, `current`, `stale` or `fresh`.

        `up`: an instance came online. `update`: its attributes or tags changed. `down`: it went offline. `leader`: the
        oldest instance is another one. `current`: the full state has been delivered. `stale`: the store does not
        respond. `fresh`: it responds again.
        """

    @property
    def instance(self) -> Optional[Instance]:
        """The instance of the event.

        None for `current`, `stale` and `fresh`, and for `leader` if no instance is online.
        """

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the set is stale: a DiscoverError for `stale`, else None."""

@final
class Snapshot:
    """The state of a set at one moment, consistent with one revision of the store. Immutable.

    Threads: any number at once.
    """

    @property
    def online(self) -> Tuple[Instance, ...]:
        """The instances online, oldest first."""

    @property
    def offline(self) -> Tuple[OfflineInstance, ...]:
        """The last instances that went offline, at most 64, in the order in which they went offline."""

    @property
    def leader(self) -> Optional[Instance]:
        """The oldest instance online, or None."""

    @property
    def version(self) -> int:
        """A number that grows with each change of the set."""

    @property
    def revision(self) -> int:
        """The revision of the store; 0 before the first view, and if the store has no revisions."""

    @property
    def epoch(self) -> int:
        """The epoch of the store, to which the revision belongs.

        It grows when the history of the store changes: the store was wiped, or restored from a backup.
        """

    @property
    def invalid(self) -> int:
        """The number of the service's records that cannot be decoded."""

    @property
    def is_ready(self) -> bool:
        """True if a complete view has been received from the store."""

    @property
    def is_current(self) -> bool:
        """True if the store responded and has reported no later change."""

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the snapshot is not current: a DiscoverError, or None."""

    @property
    def since(self) -> Optional[datetime]:
        """The time since which the snapshot is not current, in UTC, or None."""

@final
class Status:
    """The freshness of a set. Immutable.

    Threads: any number at once.
    """

    @property
    def state(self) -> SetState:
        """The state of the set: `pending`, `current` or `stale`.

        `pending`: no view has been received yet. `current`: the set equals the store. `stale`: the store does not
        respond, and the set keeps its last contents.
        """

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the set is not current: a DiscoverError, or None."""

    @property
    def since(self) -> Optional[datetime]:
        """The time since which the set is not current, in UTC, or None."""

    @property
    def version(self) -> int:
        """A number that grows with each change of the set."""

    @property
    def revision(self) -> int:
        """The revision of the store; 0 before the first view, and if the store has no revisions."""

    @property
    def epoch(self) -> int:
        """The epoch of the store, to which the revision belongs.

        It grows when the history of the store changes: the store was wiped, or restored from a backup.
        """

    @property
    def invalid(self) -> int:
        """The number of the service's records that cannot be decoded."""

@final
class ConnectionStatus:
    """The status of the connection to the registry. Immutable.

    Threads: any number at once.
    """

    @property
    def state(self) -> ConnectionState:
        """The state of the connection: `connected`, `suspended` or `lost`.

        `connected`: the registry responds, or no request has been sent yet. `suspended`: it does not respond; sets keep
        their last contents, and registrations remain in the registry until their TTL expires. `lost`: it has not
        responded for the TTL of the URL, so registrations may have expired; they are restored when it responds again.
        """

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the connection is `suspended` or `lost`: a DiscoverError, or None."""

@final
class LeaseStatus:
    """The status of a registration. Immutable.

    Threads: any number at once.
    """

    @property
    def standing(self) -> Standing:
        """The standing of the registration: `live`, `lapsed`, `replaced` or `released`.

        `live`: other clients see it. `lapsed`: it is gone, or not confirmed for a TTL; the library is restoring it.
        `replaced`: another owner has registered the same id. `released`: it is unregistered.
        """

    @property
    def error(self) -> Optional[DiscoverError]:
        """The reason why the registration is `lapsed` or `replaced`: a DiscoverError, or None."""

@final
class OfflineInstance:
    """An instance that went offline. Immutable.

    Threads: any number at once.
    """

    @property
    def instance(self) -> Instance:
        """The instance as last seen."""

    @property
    def at(self) -> datetime:
        """The time at which the client noticed that the instance was offline, in UTC."""

    @property
    def reason(self) -> OfflineReason:
        """How the client noticed: `removed` or `missing`.

        `removed`: the store reported the removal when it happened. `missing`: the instance was no longer in the store
        when the store could be read again.
        """

@final
class Descriptor:
    """A service that a program needs, parsed from a line such as `redis.master[prod,stats];6379/tcp`. Immutable.

    `str` returns a text that parses to an equal descriptor.

        wanted = libdiscover.Descriptor.parse("redis.master[prod];6379")
        redis = client.services(wanted.service).filter(tags=wanted.tags)

    Threads: any number at once.
    """

    @staticmethod
    def parse(text: str) -> Descriptor:
        """Parses a descriptor.

        Args:
            text: `NAME[TAG,...];PORT/PROTOCOL`, or a path in place of the name. Tags and protocol are optional.

        Raises:
            InvalidArgument: The text is malformed. The message has the column, counted from 1, and what is expected.
        """

    @staticmethod
    def from_env(prefix: str) -> dict[str, Descriptor]:
        """Parses the descriptors in environment variables whose names start with `prefix`.

        With `BACKEND_`, the variable `BACKEND_REDIS=redis.master;6379` becomes the descriptor `REDIS`. A malformed
        descriptor is skipped; a log record names the variable and the error.

        Args:
            prefix: The start of the names, not empty.

        Returns:
            The descriptors by the rest of their names, sorted by name.

        Raises:
            InvalidArgument: The prefix is empty.
        """

    @staticmethod
    def from_pairs(prefix: str, pairs: dict[str, str]) -> dict[str, Descriptor]:
        """Parses descriptors as `from_env` does, but from given variables, for example those of a container.

        Args:
            prefix: The start of the names, not empty.
            pairs: The variables, by name.

        Returns:
            The descriptors by the rest of their names, sorted by name.

        Raises:
            InvalidArgument: The prefix is empty.
            TypeError: A name or a value is not a string.
        """

    @property
    def service(self) -> str:
        """The name of the service: the name in the text, or the last part of the path."""

    @property
    def path(self) -> Optional[str]:
        """The path, such as `/services/prod/redis.master`, or None if the text has only a name."""

    @property
    def tags(self) -> Tuple[str, ...]:
        """The tags that instances must have, in the order of the text."""

    @property
    def port(self) -> int:
        """The port, 1 to 65535, at which the program expects the service. Instances may listen on other ports."""

    @property
    def protocol(self) -> Protocol:
        """The protocol: `tcp` or `udp`."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Host:
    """An instance as a host of etcd-discovery: public and private addresses, ports by scheme, and credentials. Immutable.

    Fields without a value are empty or false.

        scalingo.Host.from_instance(instance).private_url("http", "/status")

    Threads: any number at once.
    """

    @staticmethod
    def from_instance(instance: Instance) -> Host:
        """Returns an instance as a host, in whichever layout it is stored.

        Args:
            instance: The instance.
        """

    @property
    def service_name(self) -> str:
        """The name of the service."""

    @property
    def uuid(self) -> str:
        """The id of the instance, unique within the service."""

    @property
    def hostname(self) -> str:
        """The public host name, or the private one if there is no public address."""

    @property
    def private_hostname(self) -> str:
        """The host name within the private network."""

    @property
    def ports(self) -> dict[str, int]:
        """The public ports, by scheme."""

    @property
    def private_ports(self) -> dict[str, int]:
        """The private ports, by scheme."""

    @property
    def user(self) -> str:
        """The user of the credentials that all public hosts of a service share."""

    @property
    def password(self) -> str:
        """The password of the credentials that all public hosts of a service share."""

    @property
    def shard(self) -> str:
        """The shard that the host serves, or an empty string."""

    @property
    def is_public(self) -> bool:
        """True if the host has a public address."""

    @property
    def is_critical(self) -> bool:
        """True if the host is marked as critical."""

    def url(self, scheme: str = "", path: str = "") -> str:
        """Returns the public URL: `scheme://user:password@host:port` and the path.

        Args:
            scheme: A scheme of `ports`. By default `http`, or `https` if there is no `http`.
            path: The path, appended as it is.

        Raises:
            InvalidArgument: The host has no port for the scheme.
        """

    def private_url(self, scheme: str = "", path: str = "") -> str:
        """Returns the URL within the private network, in the form that `url` has.

        Args:
            scheme: A scheme of `private_ports`. By default `http`, or `https` if there is no `http`.
            path: The path, appended as it is.

        Raises:
            InvalidArgument: The host has no port for the scheme.
        """

    def __eq__(self, other: object, /) -> bool: ...

@final
class Service:
    """The hosts of a service of etcd-discovery, taken from a set at one moment. Immutable.

        scalingo.Service.from_set(client.services("api")).url("https", "/status")

    Threads: any number at once.
    """

    @staticmethod
    def from_set(set: ServiceSet) -> Service:
        """Returns the instances online in a set as the hosts of a service.

        Args:
            set: A ServiceSet, also one of `libdiscover.aio`.

        Raises:
            Forked: The set belongs to the parent process.
        """

    @property
    def name(self) -> str:
        """The name of the service."""

    @property
    def is_public(self) -> bool:
        """True if any host is public."""

    @property
    def is_critical(self) -> bool:
        """True if any host is critical."""

    def all(self) -> Tuple[Host, ...]:
        """Returns all hosts, oldest first."""

    def first(self) -> Optional[Host]:
        """Returns the oldest host, which is the leader, or None."""

    def one(self) -> Optional[Host]:
        """Returns a random host among the healthy ones, or None."""

    def shard(self, shard: str) -> Service:
        """Returns the service with only the hosts of one shard.

        Args:
            shard: The name of the shard.
        """

    def url(self, scheme: str = "", path: str = "") -> str:
        """Returns the URL of the service.

        The address is the public one that the last public host registered. If there is none, or the service is limited
        to a shard, it is the address of a random host.

        Args:
            scheme: The scheme. By default `http`, or `https` if there is no `http`.
            path: The path, appended as it is.

        Raises:
            NotFound: No host is online.
            InvalidArgument: There is no port for the scheme.
        """

    def __eq__(self, other: object, /) -> bool: ...

# Made at import from the core's table of error kinds; a test compares the two.
class DiscoverError(Exception):
    """The base class of all errors of libdiscover.

    Attributes:
        code: The name of the error kind, the same in every language.
        retriable: True if the same call with the same arguments may succeed later.
    """

    code: str
    retriable: bool

class Internal(DiscoverError, RuntimeError):
    """A bug in libdiscover or in a backend."""

class InvalidArgument(DiscoverError, ValueError):
    """An argument, option or name is not acceptable."""

class Unsupported(DiscoverError, NotImplementedError):
    """This build, store or layout cannot do that."""

class Unavailable(DiscoverError, ConnectionError):
    """The store cannot be reached or cannot answer now."""

class Timeout(DiscoverError, TimeoutError):
    """The deadline passed before the call finished."""

class PermissionDenied(DiscoverError, PermissionError):
    """The store refused the credentials or denied access."""

class NotFound(DiscoverError, LookupError):
    """The named object does not exist."""

class LeaseLost(DiscoverError, RuntimeError):
    """The store no longer holds this registration."""

class Replaced(DiscoverError, RuntimeError):
    """Another owner registered this instance id."""

class Closed(DiscoverError, RuntimeError):
    """The client, lease or subscription was closed."""

class Busy(DiscoverError, RuntimeError):
    """The call is not allowed inside a callback."""

class Forked(DiscoverError, RuntimeError):
    """The client belongs to the parent process; open a new one in this process."""

class Resource(DiscoverError, OSError):
    """Out of memory, descriptors, threads or space."""
