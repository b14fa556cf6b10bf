"""G22: with a store that never responds, no call holds the GIL or blocks an event loop."""

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
TICKERS = {
    "a Python thread": [sys.executable, str(PROGRAMS / "ticks.py"), "sync"],
    "an asyncio loop": [sys.executable, str(PROGRAMS / "ticks.py"), "aio"],
    "a Node timer": ["node", str(PROGRAMS / "ticks.mjs"), str(NODE_BUILT / "index.mjs")],
}
CALLS = {"close", "connect", "register", "services and wait", "reads", "watch"}
LEASE_CALLS = {"heartbeat", "update", "unregister"}


@contextlib.contextmanager
def silent_store() -> Iterator[str]:
    """Yields the URL of a store that accepts connections and never responds."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(1024)
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}"


@contextlib.contextmanager
def unreachable_store() -> Iterator[str]:
    """Yields the URL of a store whose backlog is full: the kernel drops new connections, as a firewall does."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(10):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(0.2)
            try:
                connection.connect(hole.getsockname())
            except TimeoutError:
                break
        else:
            pytest.fail("the backlog does not fill")
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}"


def measure(ticker: str, state: str, url: str, stopped: Etcd | None = None) -> set[str]:
    """Runs the program and returns the names of its calls. Fails if a call delays the ticker."""
    command = [*TICKERS[ticker], state, url]
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
    assert [call for call in measured if call["blocked"]] == []
    return {call["call"] for call in measured}


@pytest.mark.parametrize("hole", [silent_store, unreachable_store], ids=lambda hole: hole.__name__)
@pytest.mark.parametrize("ticker", TICKERS)
def test_no_call_blocks_others_while_it_waits_for_a_black_hole(
    ticker: str, hole: Callable[[], contextlib.AbstractContextManager[str]]
) -> None:
    with hole() as url:
        assert measure(ticker, "dead", url) >= CALLS


@pytest.mark.parametrize("ticker", TICKERS)
def test_no_call_blocks_others_while_it_waits_for_a_store_that_was_stopped(ticker: str) -> None:
    server = start_etcd()
    try:
        url = f"etcd://{server.endpoint}/ticks"
        called = measure(ticker, "dying", url, server)
        assert called >= CALLS | LEASE_CALLS
    finally:
        server.stop()
