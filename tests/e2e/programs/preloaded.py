"""A web application for `gunicorn --preload`, which opens a client in the master process.

A forked worker serves each request. It checks that the master's objects are refused, uses its own client, and responds
with its process id.
"""

from __future__ import annotations

import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterable

import libdiscover

# Python 3.12 and newer warn about a fork in a process with threads, which this program tests.
warnings.simplefilter("ignore", DeprecationWarning)

preloaded = libdiscover.connect()
web = preloaded.services("web")
lease = preloaded.register("web", address="127.0.0.1:1")
subscription = web.subscribe(repr)
own: libdiscover.Client | None = None


def change() -> None:
    """Keeps the master busy while it forks. The thread does not exist in a worker."""
    for number in itertools.count():
        try:
            lease.update({"n": str(number)})
        except libdiscover.Closed:
            return


threading.Thread(target=change, daemon=True).start()


def check_refused() -> None:
    for call in (lease.heartbeat, lease.unregister, preloaded.close, web.online, web.pick, web.leader, lambda: len(web), lambda: web.wait(timeout=60)):
        try:
            call()
        except libdiscover.Forked:
            continue
        raise AssertionError("a call on an object of the master was not refused")


def application(environ: object, start: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    global own
    check_refused()
    if own is None:
        own = libdiscover.connect()
    with own.register("web", address=f"127.0.0.1:{os.getpid() % 60000 + 2}") as own_lease:
        seen = {instance.address for instance in own.services("web").wait(2, timeout=60)}
        assert {lease.address, own_lease.address} <= seen, seen
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
