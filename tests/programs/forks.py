"""Forks again and again with everything hot, in one of the ways there are, and says how it went.

    forks.py URL WAY TIMES

Each child is refused what is its parent's and opens its own. Then it leaves in one of the ways there
are. It says "well", and stays until its input ends.
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

URL, WAY, TIMES = sys.argv[1], sys.argv[2], int(sys.argv[3])
PATIENCE = 60
ENDINGS = ("falls through", "sys.exit", "os._exit", "raises")
CODES = {"falls through": 0, "sys.exit": 3, "os._exit": 4, "raises": 1}

# Newer Pythons warn of forks beside threads, which is what this is about.
warnings.simplefilter("ignore", DeprecationWarning)


class OnPurpose(Exception):
    """What a child raises to end with a traceback, which is not shown."""


def quietly(kind: type[BaseException], error: BaseException, trace: object) -> None:
    if kind is not OnPurpose:
        sys.__excepthook__(kind, error, None)


sys.excepthook = quietly

parent = libdiscover.connect(URL)
web = parent.services("web")
lease = parent.register("web", address="127.0.0.1:1")
watch = web.watch()
forking = True
heard: dict[str, str] = {}
changed = threading.Condition()


def hear(who: str, event: libdiscover.Event) -> None:
    if event.instance and event.instance.address == lease.address:
        with changed:
            heard[who] = event.instance.attributes.get("n", "")
            changed.notify_all()


subscription = web.subscribe(lambda event: hear("subscription", event))


def follow() -> None:
    for event in watch:
        hear("watch", event)


def change() -> None:
    for number in itertools.count():
        if not forking:
            return
        lease.update({"n": str(number)})


def come_and_go() -> None:
    while forking:
        with parent.register("web", address="127.0.0.1:2"):
            web.filter(zone="eu").online()


def complain() -> None:
    """Keeps the log busy, which has a thread that no child has."""
    while forking:
        with libdiscover.connect("etcd://127.0.0.1:1?lazy=true") as nobody:
            next(iter(nobody.services("web").watch()))


def check_refused() -> None:
    """Everything of the parent's answers, at once, that it is the parent's."""
    refused: list[Callable[[], object]] = [
        lambda: lease.heartbeat(),
        lambda: lease.standing,
        lambda: lease.update({}),
        lambda: lease.unregister(),
        lambda: parent.register("web", address="127.0.0.1:3"),
        lambda: parent.services("web"),
        lambda: web.wait(timeout=PATIENCE),
        lambda: web.filter(zone="eu"),
        lambda: web.subscribe(print),
        lambda: next(web.watch()),
        lambda: parent.close(),
    ]
    begin = time.monotonic()
    for call in refused:
        try:
            call()
        except libdiscover.Forked as error:
            assert error.code == "forked"
        else:
            raise AssertionError("the parent's was not refused")
    assert web.online() == () and web.pick() is None and web.status().state == "pending"
    subscription.cancel()
    # Not what it costs, but that nothing is waited for.
    assert time.monotonic() - begin < PATIENCE / 10


def check_no_lock_is_kept() -> None:
    """On local:// who holds the lock of a file says that its owner lives."""
    for descriptor in os.listdir("/proc/self/fdinfo"):
        try:
            facts = Path("/proc/self/fdinfo", descriptor).read_text()
        except FileNotFoundError:
            continue  # What listed them.
        assert "lock:" not in facts, (os.readlink(f"/proc/self/fd/{descriptor}"), facts)


def use_own(close: bool) -> None:
    """Opens a client, sees the parent's instance, registers; closes or leaves that to the end."""
    own = libdiscover.connect(URL)
    mine = own.register("web", address=f"127.0.0.1:{os.getpid() % 60000 + 3}")
    # What is in the parent's memory is not in the child's.
    expected = {mine.address} if URL.startswith("memory:") else {mine.address, lease.address}
    seen = {one.address for one in own.services("web").wait(len(expected), timeout=PATIENCE)}
    assert expected <= seen, seen
    mine.unregister()
    if close:
        own.close()


def child(close: bool) -> None:
    # What hangs is ended by this, which is then seen as its end.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    check_no_lock_is_kept()
    check_refused()
    use_own(close)


def leave(ending: str) -> None:
    """The end of a child, but for falling through."""
    if ending == "sys.exit":
        sys.exit(3)
    if ending == "os._exit":
        os._exit(4)
    if ending == "raises":
        raise OnPurpose


def by_fork(number: int) -> bool:
    """True in a child that falls through."""
    ending = ENDINGS[number % len(ENDINGS)]
    pid = os.fork()
    if pid == 0:
        child(close=number % 2 == 0)
        leave(ending)
        return True
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == CODES[ending], (number, ending, status)
    return False


def by_two_forks(number: int) -> bool:
    """As a daemon is made: its maker leaves first. True in a grandchild that falls through."""
    ending = ENDINGS[number % len(ENDINGS)]
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(reading)
        if os.fork():
            os._exit(0)
        child(close=number % 2 == 0)
        os.write(writing, b"well")
        leave(ending)
        return True
    os.close(writing)
    assert os.waitpid(middle, 0)[1] == 0
    with open(reading, "rb") as told:
        assert told.read() == b"well", (number, ending)  # To its end: the grandchild's.
    return False


def in_process(number: int, ending: str) -> None:
    child(close=number % 2 == 0)
    if ending == "raises":
        os.close(2)  # multiprocessing would show the traceback.
    leave(ending)


def by_multiprocessing(number: int) -> bool:
    ending = ENDINGS[number % len(ENDINGS)]
    process = multiprocessing.get_context("fork").Process(target=in_process, args=(number, ending))
    process.start()
    process.join()
    assert process.exitcode == CODES[ending], (number, ending, process.exitcode)
    return False


def by_preexec(number: int) -> bool:
    # What is open when this returns, subprocess closes, whoever uses it.
    subprocess.run(["true"], preexec_fn=lambda: child(close=True), check=True)
    return False


WAYS = {
    "fork": by_fork,
    "double fork": by_two_forks,
    "multiprocessing": by_multiprocessing,
    "preexec_fn": by_preexec,
}


def check_parent() -> None:
    """It has lost nothing: neither its lease nor one of its listeners."""
    lease.heartbeat()
    assert lease.standing == "live", lease.error
    lease.update({"n": "last"})
    whole = {"subscription": "last", "watch": "last"}
    with changed:
        assert changed.wait_for(lambda: heard == whole, PATIENCE), heard


def main() -> None:
    global forking
    bodies = [change, come_and_go, complain]
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in [*threads, threading.Thread(target=follow, daemon=True)]:
        thread.start()
    try:
        for number in range(TIMES):
            if WAYS[WAY](number):
                return  # A child, which falls through to the end of the program.
    finally:
        forking = False
    for thread in threads:
        thread.join()
    check_parent()
    print("well", flush=True)
    sys.stdin.read()


main()
