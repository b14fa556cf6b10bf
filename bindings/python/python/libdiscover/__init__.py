"""Services find each other: register, heartbeat, look up and watch, against the store you already run.

    import libdiscover

    with libdiscover.connect() as client:
        with client.register("web", port=8080, attributes={"zone": "eu"}):
            for event in client.services("web").watch():
                print(event.kind, event.instance)

`connect` takes a URL (`local://`, `etcd://host:2379`, `memory://name` for tests); without one,
`DISCOVER_URL` counts, and then `local://`, which needs no server. `libdiscover.aio` offers the same
names for asyncio.

Threads: everything here may be used from any thread. No call holds the GIL while it waits, and every
wait heeds Ctrl-C. Callbacks run on one thread of their client, one at a time, and may call everything
but what would wait for them, which raises `Busy`: closing, and waiting for a watch of the same client.

Times: a timeout is a number of seconds or a `timedelta`; a moment is a `datetime` in UTC.

Errors: all are a `DiscoverError`, with `code` and `retriable`, and also the builtin they mean, so that
`except TimeoutError` and `except ConnectionError` catch what they say. A timeout is `Timeout`, a closed
client is `Closed`, and a client inherited from a parent process is `Forked`: open one of your own.

The library logs to the logger `libdiscover`, and never prints. A process that exits closes its clients.
"""

from typing import TYPE_CHECKING

from libdiscover._client import Client, Lease, connect
from libdiscover._native import (
    VERSION as __version__,
    Busy,
    Closed,
    Condition,
    OfflineInstance,
    Descriptor,
    DiscoverError,
    Event,
    Forked,
    Host,
    Instance,
    Internal,
    InvalidArgument,
    LeaseLost,
    NotFound,
    PermissionDenied,
    Replaced,
    Resource,
    Service,
    Snapshot,
    Status,
    Subscription,
    Timeout,
    Unavailable,
    Unsupported,
)
from libdiscover._process import prepare
from libdiscover._set import ServiceSet, Watch

if TYPE_CHECKING:
    from libdiscover._metrics import Metrics

__all__ = [
    "Busy",
    "Client",
    "Closed",
    "Condition",
    "OfflineInstance",
    "Descriptor",
    "DiscoverError",
    "Event",
    "Forked",
    "Host",
    "Instance",
    "Internal",
    "InvalidArgument",
    "Lease",
    "LeaseLost",
    "Metrics",
    "NotFound",
    "PermissionDenied",
    "Replaced",
    "Resource",
    "Service",
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
    """Few programs look at Metrics, and a dataclass takes longer to load than all the rest."""
    if name != "Metrics":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from libdiscover._metrics import Metrics

    return globals().setdefault(name, Metrics)


prepare()
