"""G22: with a store that swallows everything, no call of ours holds the interpreter or stops a loop."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from languages import NODE_BUILT, PROGRAMS
from servers import Etcd, start_etcd

PIPE = subprocess.PIPE
OTHERS = {
    "a Python thread": [sys.executable, str(PROGRAMS / "ticks.py"), "sync"],
    "an asyncio loop": [sys.executable, str(PROGRAMS / "ticks.py"), "aio"],
    "a Node timer": ["node", str(PROGRAMS / "ticks.mjs"), str(NODE_BUILT / "index.mjs")],
}
CALLS = {"close", "connect", "register", "services and wait", "reads", "watch"}
LEASE_CALLS = {"heartbeat", "update", "unregister"}


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(1024)
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}"


@contextlib.contextmanager
def full() -> Iterator[str]:
    """Takes no more connections: the kernel drops who knocks, as a firewall does."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(10):
            knocking = stack.enter_context(socket.socket())
            knocking.settimeout(0.2)
            try:
                knocking.connect(hole.getsockname())
            except TimeoutError:
                break
        else:
            pytest.fail("the backlog is never full")
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}"


def measure(others: str, state: str, url: str, stopped: Etcd | None = None) -> set[str]:
    """Which calls were made, none of which delays the others."""
    command = [*OTHERS[others], state, url]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as program:
        try:
            assert program.stdin is not None and program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            if stopped is not None:
                stopped.process.send_signal(signal.SIGSTOP)
            out, err = program.communicate("go\n", timeout=150)
        finally:
            program.kill()
    assert (program.returncode, err) == (0, "")
    measured = [json.loads(line) for line in out.splitlines()]
    assert [call for call in measured if call["held"]] == []
    return {call["call"] for call in measured}


@pytest.mark.parametrize("hole", [silent, full], ids=lambda hole: hole.__name__)
@pytest.mark.parametrize("others", OTHERS)
def test_nobody_waits_while_a_call_waits_for_a_black_hole(
    others: str, hole: Callable[[], contextlib.AbstractContextManager[str]]
) -> None:
    with hole() as url:
        assert measure(others, "dead", url) >= CALLS


@pytest.mark.parametrize("others", OTHERS)
def test_nobody_waits_while_a_call_waits_for_a_store_that_was_stopped(others: str) -> None:
    server = start_etcd()
    try:
        url = f"etcd://{server.endpoint}/ticks"
        called = measure(others, "dying", url, server)
        assert called >= CALLS | LEASE_CALLS
    finally:
        server.stop()
