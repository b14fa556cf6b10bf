"""Service discovery: register instances, look up and watch services, in the store you already run.

    import libdiscover

    with libdiscover.connect() as client:
        with client.register("web", port=8080, attributes={"zone": "eu"}):
            for event in client.services("web").watch():
                print(event.kind, event.instance)

URL: `connect` takes the URL of the registry: `local://` (this machine, no server), `etcd://host:2379`,
`discoverd://host:port`, or `memory://name` (this process, for tests). Without an argument it uses `DISCOVER_URL`,
and without that variable `local://`.

asyncio: `libdiscover.aio` has the same names as coroutines.

Threads: every object may be used from any thread. No call holds the GIL while it waits, and Ctrl-C ends every wait.
Callbacks run on one thread of their client, one at a time. A callback may make every call except two, which would
wait for the callback itself and raise `Busy`: closing the client, and waiting for a watch of the same client.

Times: a timeout is a number of seconds or a `timedelta`; a point in time is a `datetime` in UTC.

Errors: every error is a `DiscoverError` with `code` and `retriable`. It also derives from the builtin exception with
the same meaning, so that `except TimeoutError` and `except ConnectionError` catch it. `Timeout` reports a deadline
that has passed, `Closed` a closed client, and `Forked` a client that a child process inherited from its parent; open
a client in the child instead.

Logs: the library logs to the logger `libdiscover` and never prints.

Exit: when the process exits, the library closes its clients.
"""

from typing import TYPE_CHECKING

from libdiscover._client import Client, Lease, connect
from libdiscover._native import (
    VERSION as __version__,
    Busy,
    Closed,
    ConnectionStatus,
    Descriptor,
    DiscoverError,
    Event,
    Forked,
    Instance,
    Internal,
    InvalidArgument,
    LeaseLost,
    LeaseStatus,
    NotFound,
    OfflineInstance,
    PermissionDenied,
    Replaced,
    Resource,
    ServiceSet,
    Snapshot,
    Status,
    Subscription,
    Timeout,
    Unavailable,
    Unsupported,
    Watch,
)
from libdiscover._process import install_process_hooks

if TYPE_CHECKING:
    from libdiscover._metrics import Metrics

__all__ = [
    "Busy",
    "Client",
    "Closed",
    "ConnectionStatus",
    "Descriptor",
    "DiscoverError",
    "Event",
    "Forked",
    "Instance",
    "Internal",
    "InvalidArgument",
    "Lease",
    "LeaseLost",
    "LeaseStatus",
    "Metrics",
    "NotFound",
    "OfflineInstance",
    "PermissionDenied",
    "Replaced",
    "Resource",
    "ServiceSet",
    "Snapshot",
    "Status",
    "Subscription",
    "Timeout",
    "Unavailable",
    "Unsupported",
    "Watch",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> object:
    """Loads `Metrics` on first use: few programs need it, and a dataclass takes longer to load than all the rest."""
    if name != "Metrics":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from libdiscover._metrics import Metrics

    return globals().setdefault(name, Metrics)


install_process_hooks()
