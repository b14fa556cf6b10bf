"""G21 on local://: a forked child keeps nothing of its parent's alive, and takes nothing from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import libdiscover
import pytest

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
print(child, flush=True)
sys.stdin.read()
"""


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
