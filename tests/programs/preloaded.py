"""A web application for gunicorn --preload: what it opens as it is loaded is the master's.

A request is answered by a worker, which is forked: by its process id, after it has been refused what is
the master's and used a client of its own.
"""

from __future__ import annotations

import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterable

import libdiscover

# Newer Pythons warn of forks beside threads, which is what this is about.
warnings.simplefilter("ignore", DeprecationWarning)

preloaded = libdiscover.connect()
web = preloaded.services("web")
lease = preloaded.register("web", address="127.0.0.1:1")
subscription = web.subscribe(repr)
own: libdiscover.Client | None = None


def change() -> None:
    """Keeps the master busy while it forks. No worker has this thread."""
    for number in itertools.count():
        try:
            lease.update({"n": str(number)})
        except libdiscover.Closed:
            return


threading.Thread(target=change, daemon=True).start()


def check_refused() -> None:
    for call in (lease.heartbeat, lease.unregister, preloaded.close, lambda: web.wait(timeout=60)):
        try:
            call()
        except libdiscover.Forked:
            continue
        raise AssertionError("the master's was not refused")


def application(environ: object, start: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    global own
    check_refused()
    if own is None:
        own = libdiscover.connect()
    with own.register("web", address=f"127.0.0.1:{os.getpid() % 60000 + 2}") as mine:
        seen = {one.address for one in own.services("web").wait(2, timeout=60)}
        assert {lease.address, mine.address} <= seen, seen
    start("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
