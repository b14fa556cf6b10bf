"""Forks with everything open: the child may use nothing of it, and all of its own."""

import os
import sys
import threading
import warnings
from typing import Callable, List

import libdiscover

(URL,) = sys.argv[1:]

parent = libdiscover.connect(URL)
web = parent.services("web")
lease = parent.register("web", address="127.0.0.1:1")
watch = web.watch()
heard = threading.Event()
subscription = web.subscribe(lambda event: heard.set())
assert heard.wait(20) and len(web.wait(timeout=20)) == 1
threading.Thread(target=lambda: next(iter(parent.services("idle").watch())), daemon=True).start()


def in_child() -> None:
    refused: List[Callable[[], object]] = [
        lambda: parent.register("web", address="127.0.0.1:2"),
        lambda: parent.services("web"),
        lambda: web.wait(timeout=1),
        lambda: web.filter(zone="eu"),
        lambda: web.subscribe(print),
        lambda: lease.heartbeat(),
        lambda: lease.standing,
        lambda: next(watch),
        lambda: parent.close(),
    ]
    for number, call in enumerate(refused):
        try:
            call()
        except libdiscover.Forked as error:
            assert str(os.getppid()) in str(error), error
        else:
            raise AssertionError(f"call {number} was not refused")
    subscription.cancel()
    with libdiscover.connect(URL) as own:
        # The parent's lease is untouched, and seen from here.
        with own.register("web", address="127.0.0.1:3"):
            assert [one.port for one in own.services("web").wait(2, timeout=20)] == [1, 3]
    # What is not closed is left to the exit, which must not touch the parent's.
    libdiscover.connect(URL).services("web").subscribe(lambda event: None)


# From 3.12 on, Python warns of forking with threads about, which is what this is for.
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    with parent, lease, watch:
        in_child()
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
lease.heartbeat()
assert (lease.standing, [one.port for one in web]) == ("live", [1])
print("parent and child are well", flush=True)
