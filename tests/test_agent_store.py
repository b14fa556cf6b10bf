"""The agent and the store behind it: one connection, and what is told when it goes and comes back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from servers import Agent, Etcd, eventually, start_etcd
from test_agent_api import WEB, ask, told


def connections(agent: Agent, etcd: Etcd) -> int:
    """How many the agent has to the store."""
    port = int(etcd.endpoint.rsplit(":", 1)[1])
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].split(":")[1], 16) == port and fields[3] == "01":
            sockets.add(f"socket:[{fields[9]}]")
    descriptors = Path(f"/proc/{agent.process.pid}/fd")
    return sum(os.readlink(fd) in sockets for fd in descriptors.iterdir())


def test_however_many_come_the_store_sees_one_connection(etcd: Etcd, agents: Callable[..., Agent]) -> None:
    agent = agents(f"etcd://{etcd.endpoint}/one?ttl=5s")
    for n in range(30):
        place = f"/v1/services/s{n}/instances/127.0.0.1:{n + 1}"
        assert ask(agent, "PUT", place, {"ttl_ms": 60_000})[0] == 200
    streams = [told(agent, f"/v1/services/s{n}/events") for n in range(30)]
    assert all(next(stream)[1] == "reset" for stream in streams)
    assert len(ask(agent, "GET", "/v1/services")[1]["services"]) == 30
    assert connections(agent, etcd) == 1
    assert ask(agent, "GET", "/v1/status")[1]["streams"] == 30


def test_a_lost_store_is_told_and_loses_nothing(agents: Callable[..., Agent]) -> None:
    etcd = start_etcd()
    try:
        agent = agents(f"etcd://{etcd.endpoint}/two?ttl=2s")
        assert ask(agent, "PUT", WEB, {"ttl_ms": 600_000})[0] == 200
        events = told(agent, "/v1/services/web/events")
        while next(events)[1] != "status":
            pass
        etcd.kill()
        while (event := next(events))[1] != "stale":
            pass
        assert json.loads(event[2])["kind"] == "unavailable"
        eventually(lambda: ask(agent, "GET", "/v1/health")[0] == 503)
        web = ask(agent, "GET", "/v1/services/web")[1]
        assert (web["status"]["state"], len(web["instances"])) == ("stale", 1)
        etcd.start()
        while next(events)[1] != "fresh":
            pass
        eventually(lambda: ask(agent, "GET", "/v1/health")[0] == 200)
        eventually(lambda: ask(agent, "GET", "/v1/services/web")[1]["status"]["state"] == "current")
        eventually(lambda: ask(agent, "POST", f"{WEB}/heartbeat", {})[0] == 204)
    finally:
        etcd.stop()


def test_the_agent_starts_though_its_store_is_down(agents: Callable[..., Agent]) -> None:
    agent = agents("etcd://127.0.0.1:1/x?ttl=2s&connect_timeout=100ms")
    assert ask(agent, "GET", "/v1/status")[0] == 200
    status, problem, _ = ask(agent, "PUT", WEB, {})
    assert (status, problem["kind"], problem["retriable"]) == (503, "unavailable", True)
