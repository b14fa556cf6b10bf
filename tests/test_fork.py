"""G21: a forked child is told at once that what it holds is its parent's, and opens its own; it keeps
nothing of its parent's alive, and takes nothing from it, however it was made and however it leaves."""

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
    sys.stdin.read()          # outlives its parent
    sys.exit(0)
os.write(1, b"%d\\n" % child)  # at once, for the child writes there too
sys.stdin.read()
"""

# The ways to fork, and how often each is gone.
TIMES = {
    "fork": rounds(500),
    "double fork": rounds(200),
    "multiprocessing": rounds(200),
    "preexec_fn": rounds(200),
}
SECONDS = 60.0


class Observer:
    """Somebody in another process, who hears of each departure of the parent's instance."""

    def __init__(self, client: libdiscover.Client) -> None:
        self.departures: list[libdiscover.Event] = []
        self.web = client.services("web")
        self.web.subscribe(self.hear)

    def hear(self, event: libdiscover.Event) -> None:
        if event.kind == "down" and event.instance and event.instance.address == "127.0.0.1:1":
            self.departures.append(event)

    @property
    def sees_the_parent(self) -> bool:
        return "127.0.0.1:1" in [one.address for one in self.web]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("way", "scheme"),
    # What is in memory is not shared, but must not be locked in a child by a thread that is not there.
    [("fork", "memory"), *((way, scheme) for way in TIMES for scheme in ("local", "etcd"))],
)
def test_children_are_told_and_their_parent_lives_on(
    way: str, scheme: str, place: Callable[[str], str]
) -> None:
    url = place(scheme)
    with libdiscover.connect(url) as client:
        observer = Observer(client)
        command = [sys.executable, "-X", "faulthandler", FORKS, url, way, str(TIMES[way])]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as parent:
            try:
                assert parent.stdout is not None
                said = parent.stdout.readline()
                seen, departures = observer.sees_the_parent, list(observer.departures)
                out, err = parent.communicate(timeout=SECONDS)
            finally:
                parent.kill()
    assert (parent.returncode, said, out, err) == (0, "well\n", "", "")
    assert seen == (scheme != "memory") and departures == []


@pytest.mark.parametrize("scheme", ["local", "etcd"])
def test_workers_of_a_preloaded_server_are_told_and_its_master_lives_on(
    scheme: str, place: Callable[[str], str], tmp_path: Path
) -> None:
    url, door = place(scheme), tmp_path / "gunicorn.sock"
    # A worker ends after each request, and another one is forked.
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--max-requests", "1"]
    command += ["--bind", f"unix:{door}", "--log-level", "error", "--no-control-socket"]
    command += ["--chdir", str(PROGRAMS), "preloaded:application"]
    environment = {**os.environ, "DISCOVER_URL": url}
    times = rounds(100)
    with libdiscover.connect(url) as client:
        observer = Observer(client)
        with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as master:
            try:
                observer.web.wait(1, timeout=SECONDS)
                workers = {ask(door) for _ in range(times)}
                seen, departures = observer.sees_the_parent, list(observer.departures)
                master.terminate()
                out, err = master.communicate(timeout=SECONDS)
            finally:
                # Its workers, should there be any, end when they find it gone.
                master.kill()
    assert (master.returncode, out, err) == (0, "", "")
    assert len(workers) == times
    assert seen and departures == []


def ask(door: Path) -> int:
    """Which worker answers, waiting for the first one to be there."""
    deadline = time.monotonic() + SECONDS
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(str(door))
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
            said = sorted(parent.stdout.readline() for _ in range(2))
            assert said[1] == "forked\n"
            child = int(said[0])
            web.wait(1, timeout=30)
            events = web.watch()
            # What goes before it was told of is not told of.
            assert "current" in (event.kind for event in events)
            parent.kill()
            assert "down" in (event.kind for event in events)
            os.kill(child, 0)  # It lives still.
            os.kill(child, signal.SIGKILL)


# Newer Pythons warn of forks beside threads, which is what this is about.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_exits_takes_nothing_from_its_parent(place: Callable[[str], str]) -> None:
    with libdiscover.connect(place("local")) as client:
        lease = client.register("web", host="127.0.0.1", port=1)
        for _ in range(20):
            child = os.fork()
            if child == 0:
                del lease, client  # Destructors run in the child too, and must do nothing.
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0
        lease.heartbeat()
        assert lease.standing == "live"
        assert len(client.services("web").wait(1, timeout=30)) == 1
