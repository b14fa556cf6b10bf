"""Forks repeatedly in one way while all kinds of calls are in progress.

    forks.py URL WAY TIMES

Each child process is refused its parent's objects, opens its own client, and exits in one of several ways. At the
end the parent prints "done" and waits until its input ends.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import libdiscover
from libdiscover.scalingo import Service

URL, WAY, TIMES = sys.argv[1], sys.argv[2], int(sys.argv[3])
TIMEOUT = 60
ENDINGS = ("returns", "sys.exit", "os._exit", "raises")
CODES = {"returns": 0, "sys.exit": 3, "os._exit": 4, "raises": 1}

# Python 3.12 and newer warn about a fork in a process with threads, which this program tests.
warnings.simplefilter("ignore", DeprecationWarning)


class ExpectedError(Exception):
    """Raised in a child to exit with a traceback, which is not printed."""


def excepthook(kind: type[BaseException], error: BaseException, trace: object) -> None:
    if kind is not ExpectedError:
        sys.__excepthook__(kind, error, None)


sys.excepthook = excepthook

parent = libdiscover.connect(URL)
web = parent.services("web")
lease = parent.register("web", address="127.0.0.1:1")
watch = web.watch()
forking = True
received: dict[str, str] = {}
changed = threading.Condition()


def on_event(receiver: str, event: libdiscover.Event) -> None:
    if event.instance and event.instance.address == lease.address:
        with changed:
            received[receiver] = event.instance.attributes.get("n", "")
            changed.notify_all()


subscription = web.subscribe(lambda event: on_event("subscription", event))


def follow() -> None:
    for event in watch:
        on_event("watch", event)


def change() -> None:
    for number in itertools.count():
        if not forking:
            return
        lease.update({"n": str(number)})


def register_and_unregister() -> None:
    while forking:
        with parent.register("web", address="127.0.0.1:2"):
            web.filter(zone="eu").online()


def write_log_records() -> None:
    """Keeps the log busy; its thread does not exist in a child."""
    while forking:
        with libdiscover.connect("etcd://127.0.0.1:1?lazy=true") as unreachable:
            next(iter(unreachable.services("web").watch()))


def reads() -> list[Callable[[], object]]:
    """Returns the reads of a set, which use memory only."""
    return [
        web.online,
        web.offline,
        web.leader,
        web.pick,
        lambda: web.pick("random"),
        web.snapshot,
        web.status,
        lambda: len(web),
        lambda: list(web),
        lambda: Service.from_set(web),
    ]


def check_refused() -> None:
    """Checks that every call on an object of the parent fails at once with `Forked`."""
    calls: list[Callable[[], object]] = [
        lambda: lease.heartbeat(),
        lambda: lease.standing,
        lambda: lease.update({}),
        lambda: lease.unregister(),
        lambda: parent.register("web", address="127.0.0.1:3"),
        lambda: parent.services("web"),
        lambda: web.wait(timeout=TIMEOUT),
        lambda: web.filter(zone="eu"),
        *reads(),
        lambda: web.subscribe(print),
        lambda: next(web.watch()),
        lambda: parent.close(),
    ]
    begin = time.monotonic()
    for call in calls:
        try:
            call()
        except libdiscover.Forked as error:
            assert error.code == "forked"
        else:
            raise AssertionError("a call on an object of the parent was not refused")
    assert repr(web) == "<ServiceSet web: forked>" and web.service == "web"
    subscription.cancel()
    # The limit shows that no call waits; it is not a measure of cost.
    assert time.monotonic() - begin < TIMEOUT / 10


def check_no_lock_is_inherited() -> None:
    """Checks that the child holds no file lock: with `local://`, a lock means that its owner lives."""
    for descriptor in os.listdir("/proc/self/fdinfo"):
        try:
            info = Path("/proc/self/fdinfo", descriptor).read_text()
        except FileNotFoundError:
            continue  # The descriptor of the listing itself.
        assert "lock:" not in info, (os.readlink(f"/proc/self/fd/{descriptor}"), info)


def use_own(close: bool) -> None:
    """Opens a client, looks up the parent's instance and registers one. Leaves the client open if `close` is false."""
    own = libdiscover.connect(URL)
    lease_of_child = own.register("web", address=f"127.0.0.1:{os.getpid() % 60000 + 3}")
    # A memory registry of the parent is not visible in the child.
    expected = {lease_of_child.address} if URL.startswith("memory:") else {lease_of_child.address, lease.address}
    seen = {instance.address for instance in own.services("web").wait(len(expected), timeout=TIMEOUT)}
    assert expected <= seen, seen
    lease_of_child.unregister()
    if close:
        own.close()


def child(close: bool) -> None:
    # The signal kills a child that hangs, and the parent sees that as its exit status.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TIMEOUT)
    check_no_lock_is_inherited()
    check_refused()
    use_own(close)


def exit_child(ending: str) -> None:
    """Exits the child, unless `ending` is to return from `main`."""
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "os._exit":
        os._exit(4)
    if ending == "raises":
        raise ExpectedError


def by_fork(number: int) -> bool:
    """Returns true in a child that is to return from `main`."""
    ending = ENDINGS[number % len(ENDINGS)]
    pid = os.fork()
    if pid == 0:
        child(close=number % 2 == 0)
        exit_child(ending)
        return True
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == CODES[ending], (number, ending, status)
    return False


def by_two_forks(number: int) -> bool:
    """Forks twice, as a daemon does: the child exits first. Returns true in a grandchild that is to return from `main`."""
    ending = ENDINGS[number % len(ENDINGS)]
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(reading)
        if os.fork():
            os._exit(0)
        child(close=number % 2 == 0)
        os.write(writing, b"done")
        exit_child(ending)
        return True
    os.close(writing)
    assert os.waitpid(middle, 0)[1] == 0
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"done", (number, ending)  # The pipe ends when the grandchild exits.
    return False


def in_process(number: int, ending: str) -> None:
    child(close=number % 2 == 0)
    if ending == "raises":
        os.close(2)  # multiprocessing would print the traceback.
    exit_child(ending)


def by_multiprocessing(number: int) -> bool:
    ending = ENDINGS[number % len(ENDINGS)]
    process = multiprocessing.get_context("fork").Process(target=in_process, args=(number, ending))
    process.start()
    process.join()
    assert process.exitcode == CODES[ending], (number, ending, process.exitcode)
    return False


def by_preexec(number: int) -> bool:
    # When this returns, subprocess closes all descriptors, so that the client must be closed.
    subprocess.run(["true"], preexec_fn=lambda: child(close=True), check=True)
    return False


WAYS = {
    "fork": by_fork,
    "double fork": by_two_forks,
    "multiprocessing": by_multiprocessing,
    "preexec_fn": by_preexec,
}


def check_parent() -> None:
    """Checks that the parent has lost neither its lease nor a subscription nor a watch."""
    lease.heartbeat()
    assert lease.standing == "live", lease.error
    lease.update({"n": "last"})
    expected = {"subscription": "last", "watch": "last"}
    with changed:
        assert changed.wait_for(lambda: received == expected, TIMEOUT), received


def main() -> None:
    global forking
    bodies = [change, register_and_unregister, write_log_records]
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in [*threads, threading.Thread(target=follow, daemon=True)]:
        thread.start()
    try:
        for number in range(TIMES):
            if WAYS[WAY](number):
                return  # A child, which continues to the end of the program.
    finally:
        forking = False
    for thread in threads:
        thread.join()
    check_parent()
    print("done", flush=True)
    sys.stdin.read()


main()
