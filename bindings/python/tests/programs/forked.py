"""Forks with every kind of object open. The child process is refused all of them and opens its own."""

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
begun = web.watch()
delivered = threading.Event()
subscription = web.subscribe(lambda event: delivered.set())
assert delivered.wait(20) and len(web.wait(timeout=20)) == 1
begun.__next__()
(instance,) = web.online()
threading.Thread(target=lambda: next(iter(parent.services("idle").watch())), daemon=True).start()


def in_child() -> None:
    calls: List[Callable[[], object]] = [
        lambda: parent.register("web", address="127.0.0.1:2"),
        lambda: parent.services("web"),
        lambda: web.wait(timeout=1),
        lambda: web.filter(zone="eu"),
        lambda: web.subscribe(print),
        lambda: lease.heartbeat(),
        lambda: lease.standing,
        lambda: next(watch),
        # The first event was fetched before the fork, with more that were not returned yet.
        lambda: next(begun),
        lambda: web.online(),
        lambda: web.offline(),
        lambda: web.leader(),
        lambda: web.pick(),
        lambda: web.pick("p2c"),
        lambda: web.snapshot(),
        lambda: web.status(),
        lambda: web.done(instance),
        lambda: len(web),
        lambda: list(web),
        lambda: parent.close(),
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except libdiscover.Forked as error:
            assert str(os.getppid()) in str(error), error
        else:
            raise AssertionError(f"call {number} was not refused")
    assert (web.service, lease.id, repr(web)) == ("web", "127.0.0.1:1", "<ServiceSet web: forked>")
    subscription.cancel()
    with libdiscover.connect(URL) as own:
        # The parent's lease is not affected, and the child sees its instance.
        with own.register("web", address="127.0.0.1:3"):
            assert [instance.port for instance in own.services("web").wait(2, timeout=20)] == [1, 3]
    # The exit handler closes the clients that are open, and must not close the parent's.
    libdiscover.connect(URL).services("web").subscribe(lambda event: None)


# Python 3.12 and newer warn about a fork in a process with threads, which this program tests.
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    with parent, lease, watch:
        in_child()
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
lease.heartbeat()
assert (lease.standing, [instance.port for instance in web]) == ("live", [1])
print("parent and child succeeded", flush=True)
