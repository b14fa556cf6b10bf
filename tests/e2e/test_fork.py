"""G21: in a forked child process, calls on the parent's objects fail at once, and the child may open its own client.

A child neither keeps its parent's registrations alive nor removes them, in whichever way it was forked and exits.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import libdiscover
import pytest

from languages import PROGRAMS, rounds

FORKS = str(PROGRAMS / "forks.py")
PIPE = subprocess.PIPE
PARENT = """
import os, sys, libdiscover
client = libdiscover.connect(sys.argv[1])
lease = client.register("web", host="127.0.0.1", port=1)
child = os.fork()
if child == 0:
    try:
        client.services("web")
    except libdiscover.Forked:
        os.write(1, b"forked\\n")
    sys.stdin.read()          # lives longer than its parent
    sys.exit(0)
os.write(1, b"%d\\n" % child)  # in one write, because the child writes there too
sys.stdin.read()
"""

# The ways to fork, and the number of forks of each.
TIMES = {
    "fork": rounds(500),
    "double fork": rounds(200),
    "multiprocessing": rounds(200),
    "preexec_fn": rounds(200),
}
SECONDS = 60.0


class Observer:
    """A client in another process that records when the parent's instance goes offline."""

    def __init__(self, client: libdiscover.Client) -> None:
        self.down_events: list[libdiscover.Event] = []
        self.web = client.services("web")
        self.web.subscribe(self.on_event)

    def on_event(self, event: libdiscover.Event) -> None:
        if event.kind == "down" and event.instance and event.instance.address == "127.0.0.1:1":
            self.down_events.append(event)

    @property
    def sees_the_parent(self) -> bool:
        return "127.0.0.1:1" in [instance.address for instance in self.web]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("way", "scheme"),
    # A memory registry is not shared, but a child must not find it locked by a thread of its parent.
    [("fork", "memory"), *((way, scheme) for way in TIMES for scheme in ("local", "etcd"))],
)
def test_children_are_refused_and_their_parent_stays_registered(
    way: str, scheme: str, place: Callable[[str], str]
) -> None:
    url = place(scheme)
    with libdiscover.connect(url) as client:
        observer = Observer(client)
        command = [sys.executable, "-X", "faulthandler", FORKS, url, way, str(TIMES[way])]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as parent:
            try:
                assert parent.stdout is not None
                printed = parent.stdout.readline()
                seen, down_events = observer.sees_the_parent, list(observer.down_events)
                out, err = parent.communicate(timeout=SECONDS)
            finally:
                parent.kill()
    assert (parent.returncode, printed, out, err) == (0, "done\n", "", "")
    assert seen == (scheme != "memory") and down_events == []


@pytest.mark.parametrize("scheme", ["local", "etcd"])
def test_workers_of_a_preloaded_server_are_refused_and_its_master_stays_registered(
    scheme: str, place: Callable[[str], str], tmp_path: Path
) -> None:
    url, socket_path = place(scheme), tmp_path / "gunicorn.sock"
    # A worker exits after each request, and another one is forked.
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--max-requests", "1"]
    command += ["--bind", f"unix:{socket_path}", "--log-level", "error", "--no-control-socket"]
    command += ["--chdir", str(PROGRAMS), "preloaded:application"]
    environment = {**os.environ, "DISCOVER_URL": url}
    times = rounds(100)
    with libdiscover.connect(url) as client:
        observer = Observer(client)
        with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as master:
            try:
                observer.web.wait(1, timeout=SECONDS)
                workers = {request(socket_path) for _ in range(times)}
                seen, down_events = observer.sees_the_parent, list(observer.down_events)
                master.terminate()
                out, err = master.communicate(timeout=SECONDS)
            finally:
                # Its workers exit when they notice that it has exited.
                master.kill()
    assert (master.returncode, out, err) == (0, "", "")
    assert len(workers) == times
    assert seen and down_events == []


def request(socket_path: Path) -> int:
    """Returns the process id of the worker that responds. Waits until the server accepts connections."""
    deadline = time.monotonic() + SECONDS
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(str(socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline
                time.sleep(0.05)  # tidy: sleep, between two attempts to reach a server that starts
                continue
            connection.settimeout(SECONDS)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with connection.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK"), (head, body)
        return int(body)


def test_a_child_does_not_keep_its_parent_alive(place: Callable[[str], str]) -> None:
    url = place("local")
    with libdiscover.connect(url) as client:
        web = client.services("web")
        arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PARENT, url]
        pipe = subprocess.PIPE
        with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as parent:
            assert parent.stdout is not None
            printed = sorted(parent.stdout.readline() for _ in range(2))
            assert printed[1] == "forked\n"
            child = int(printed[0])
            web.wait(1, timeout=30)
            events = web.watch()
            # An instance that goes offline before it was reported is not reported at all.
            assert "current" in (event.kind for event in events)
            parent.kill()
            assert "down" in (event.kind for event in events)
            os.kill(child, 0)  # The child is still alive.
            os.kill(child, signal.SIGKILL)


# Python 3.12 and newer warn about a fork in a process with threads, which this test needs.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_exits_does_not_affect_its_parent(place: Callable[[str], str]) -> None:
    with libdiscover.connect(place("local")) as client:
        lease = client.register("web", host="127.0.0.1", port=1)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                del lease, client  # Destructors run in the child too, and must have no effect.
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0
        lease.heartbeat()
        assert lease.standing == "live"
        assert len(client.services("web").wait(1, timeout=30)) == 1
