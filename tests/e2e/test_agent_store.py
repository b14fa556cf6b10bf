"""The agent and the store behind it: a single connection, and the reports of an outage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from servers import Agent, Etcd, eventually, start_etcd
from test_agent_api import WEB, call, stream_events


def connections(agent: Agent, etcd: Etcd) -> int:
    """Returns the number of connections of the agent to the store."""
    port = int(etcd.endpoint.rsplit(":", 1)[1])
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].split(":")[1], 16) == port and fields[3] == "01":
            sockets.add(f"socket:[{fields[9]}]")
    descriptors = Path(f"/proc/{agent.process.pid}/fd")
    return sum(os.readlink(fd) in sockets for fd in descriptors.iterdir())


def test_many_clients_cause_one_connection_to_the_store(etcd: Etcd, agents: Callable[..., Agent]) -> None:
    agent = agents(f"etcd://{etcd.endpoint}/one?ttl=5s")
    for n in range(30):
        path = f"/v1/services/s{n}/instances/127.0.0.1:{n + 1}"
        assert call(agent, "PUT", path, {"ttl_ms": 60_000})[0] == 200
    streams = [stream_events(agent, f"/v1/services/s{n}/events") for n in range(30)]
    assert all(next(stream)[1] == "reset" for stream in streams)
    assert len(call(agent, "GET", "/v1/services")[1]["services"]) == 30
    assert connections(agent, etcd) == 1
    assert call(agent, "GET", "/v1/status")[1]["streams"] == 30


def test_a_lost_store_is_reported_and_nothing_is_lost(agents: Callable[..., Agent]) -> None:
    etcd = start_etcd()
    try:
        agent = agents(f"etcd://{etcd.endpoint}/two?ttl=2s")
        assert call(agent, "PUT", WEB, {"ttl_ms": 600_000})[0] == 200
        events = stream_events(agent, "/v1/services/web/events")
        while next(events)[1] != "status":
            pass
        etcd.kill()
        while (event := next(events))[1] != "stale":
            pass
        assert json.loads(event[2])["kind"] == "unavailable"
        eventually(lambda: call(agent, "GET", "/v1/health")[0] == 503)
        web = call(agent, "GET", "/v1/services/web")[1]
        assert (web["status"]["state"], len(web["instances"])) == ("stale", 1)
        etcd.start()
        while next(events)[1] != "fresh":
            pass
        eventually(lambda: call(agent, "GET", "/v1/health")[0] == 200)
        eventually(lambda: call(agent, "GET", "/v1/services/web")[1]["status"]["state"] == "current")
        eventually(lambda: call(agent, "POST", f"{WEB}/heartbeat", {})[0] == 204)
    finally:
        etcd.stop()


def test_the_agent_starts_while_its_store_is_down(agents: Callable[..., Agent]) -> None:
    agent = agents("etcd://127.0.0.1:1/x?ttl=2s&connect_timeout=100ms")
    assert call(agent, "GET", "/v1/status")[0] == 200
    status, problem, _ = call(agent, "PUT", WEB, {})
    assert (status, problem["kind"], problem["retriable"]) == (503, "unavailable", True)
