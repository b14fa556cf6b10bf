"""Life with other processes: a death, a fork, the log."""

from __future__ import annotations

import os
import signal

import pytest

import libdiscover
from conftest import Heard, Program


def test_a_killed_process_is_seen_to_go_without_a_heartbeat(local: str) -> None:
    heard = Heard()
    with libdiscover.connect(local) as client, Program("member.py", local, "web", "127.0.0.1:1") as member:
        client.services("web").subscribe(heard)
        assert member.line() == "ready"
        heard.until("up", "127.0.0.1:1")
        member.send_signal(signal.SIGKILL)
        # Far sooner than the TTL of 10 s in which a heartbeat would be missed.
        heard.until("down", "127.0.0.1:1", within=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_so_and_may_open_its_own(local: str) -> None:
    with Program("forked.py", local) as program:
        assert program.end() == (0, "parent and child are well\n")


def test_records_go_to_the_logger_if_anybody_listens() -> None:
    with Program("logged.py", "shown") as program:
        code, text = program.end()
    assert code == 0
    assert text.startswith("libdiscover WARNING watch lost, reconnecting service=web error="), text


def test_nothing_is_ever_printed() -> None:
    with Program("logged.py", "hidden") as program:
        assert program.end() == (0, "")
