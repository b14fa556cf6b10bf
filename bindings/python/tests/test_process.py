"""Processes: a killed process, a fork, the log."""

from __future__ import annotations

import os
import signal
import sys

import pytest

import libdiscover
from conftest import EventRecorder, Program


def test_a_killed_process_goes_offline_before_a_heartbeat_is_missed(local: str) -> None:
    events = EventRecorder()
    with libdiscover.connect(local) as client, Program("member.py", local, "web", "127.0.0.1:1") as member:
        client.services("web").subscribe(events)
        assert member.line() == "ready"
        events.until("up", "127.0.0.1:1")
        member.send_signal(signal.SIGKILL)
        # Well before the TTL of 10 s, after which a missed heartbeat would be noticed.
        events.until("down", "127.0.0.1:1", timeout=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_is_refused_and_may_open_its_own_client(local: str) -> None:
    with Program("forked.py", local) as program:
        assert program.wait_for_exit() == (0, "parent and child succeeded\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_closes_its_clients(local: str, method: str) -> None:
    with Program("multiprocessed.py", local, method) as program:
        code, text = program.wait_for_exit()
    assert (code, text.splitlines()[-2:]) == (0, ["closed", "parent connected"]), text


@pytest.mark.skipif(not (3, 8) <= sys.version_info < (3, 13), reason="_xxsubinterpreters is another module")
def test_a_subinterpreter_is_refused_and_harms_nothing() -> None:
    with Program("subinterpreter.py") as program:
        code, text = program.wait_for_exit()
    assert code == 0 and "subinterpreter" in text and text.endswith("the main interpreter works\n"), text


def test_records_are_passed_to_the_logger() -> None:
    with Program("logged.py", "shown") as program:
        code, text = program.wait_for_exit()
    assert code == 0
    assert text.startswith("libdiscover WARNING watch lost, reconnecting service=web error="), text


def test_the_library_never_prints() -> None:
    with Program("logged.py", "hidden") as program:
        assert program.wait_for_exit() == (0, "")
