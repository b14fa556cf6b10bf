"""A restart of the agent, by hand-over or after a crash: no connection is refused and no instance goes offline."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from languages import BUILT
from servers import Agent, Etcd, eventually
from test_agent import DISCOVERD, interrupt, read_event, start
from test_agent_api import WEB, call, stream_events

TIMEOUT = 60
REQUEST = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def boot(agent: Agent) -> str:
    found: str = call(agent, "GET", "/v1/status")[1]["boot"]
    return found


def replace(agent: Agent) -> None:
    """Hands over, and returns once the next process responds under the same process id."""
    before = boot(agent)
    agent.process.send_signal(signal.SIGUSR2)
    eventually(lambda: boot(agent) != before)
    assert agent.process.poll() is None


def connect(agent: Agent, over_socket: bool) -> socket.socket:
    if over_socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        connection.connect(agent.socket)
        return connection
    host, port = agent.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), TIMEOUT)


def reads_response(connection: socket.socket) -> bool:
    read = b""
    while more := connection.recv(65536):
        read += more
    return read.startswith(b"HTTP/1.1 200") and read.endswith(b"}")


@pytest.mark.parametrize("over_socket", [False, True], ids=["address", "socket"])
def test_requests_during_a_hand_over_get_responses(
    agents: Callable[..., Agent], over_socket: bool
) -> None:
    agent = agents()
    done, failures, count = threading.Event(), list[str](), [0] * 4

    def send_requests(n: int) -> None:
        while not done.is_set():
            try:
                with connect(agent, over_socket) as connection:
                    connection.sendall(REQUEST)
                    assert reads_response(connection), "no response"
                    count[n] += 1
            except (AssertionError, OSError) as error:
                failures.append(repr(error))

    clients = [threading.Thread(target=send_requests, args=(n,)) for n in range(4)]
    for client in clients:
        client.start()
    for _ in range(5):
        before = sum(count)
        # This client connects before the hand-over and sends its request during it.
        with connect(agent, over_socket) as early:
            eventually(lambda before=before: sum(count) > before + 20)
            old = boot(agent)
            agent.process.send_signal(signal.SIGUSR2)
            eventually(lambda: "SIGUSR2" in Path(agent.log).read_text())
            early.sendall(REQUEST)
            assert reads_response(early)
            eventually(lambda old=old: boot(agent) != old)
    done.set()
    for client in clients:
        client.join(TIMEOUT)
    assert not failures and min(count) > 0, failures[:5]
    assert agent.stop() == 0
    assert not Path(agent.socket).exists(), "the last process removes the socket that the first opened"


@pytest.mark.parametrize("store", ["own", "etcd"])
def test_a_hand_over_keeps_instances_online_and_streams_current(
    agents: Callable[..., Agent], request: pytest.FixtureRequest, store: str
) -> None:
    url = None
    if store == "etcd":
        etcd: Etcd = request.getfixturevalue("etcd")
        url = f"etcd://{etcd.endpoint}/{uuid.uuid4().hex}?ttl=2s"
    agent = agents(url)
    # One instance is registered through the library, one over plain HTTP.
    registered = start("register", "--url", agent.url, "web", "127.0.0.1:7", "--ttl", "2s")
    assert registered.stdout and registered.stdout.readline()
    status, granted, _ = call(agent, "PUT", WEB, {"ttl_ms": 600_000, "attributes": {"zone": "eu"}})
    assert status == 200
    watch = start("watch", "web", "--json", "--url", agent.url)
    direct = start("watch", "web", "--json", "--url", url) if url else watch
    watches = {watch, direct}
    for watcher in watches:
        while read_event(watcher)["event"] != "current":
            pass
    for _ in range(2):
        replace(agent)
        eventually(lambda: call(agent, "GET", "/v1/status")[1]["registrations"] == 2)
        assert call(agent, "POST", f"{WEB}/heartbeat", {"grant": granted["grant"]})[0] == 204
    # Wait for longer than the TTL in the store, so that a lost registration would have expired.
    eventually(lambda: call(agent, "GET", "/v1/status")[1]["uptime_ms"] > 4_000)
    assert call(agent, "PUT", "/v1/services/web/instances/127.0.0.1:9", {"ttl_ms": 600_000})[0] == 200
    for watcher in watches:
        events = []
        while not events or events[-1]["event"] != "up":
            events.append(read_event(watcher))
        assert events[-1]["instance"]["id"] == "127.0.0.1:9"
        earlier = {event["event"] for event in events[:-1]}
        assert earlier <= {"stale", "fresh", "current"}, events
        interrupt(watcher)
    interrupt(registered)


def test_a_hand_over_preserves_health_and_maintenance(agents: Callable[..., Agent], tmp_path: Path) -> None:
    config = tmp_path / "jobs.toml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        accepting = threading.Thread(target=accept_all, args=(server,))
        accepting.start()
        check = f"{{ tcp = ':{port}', interval = '200ms', timeout = '5s' }}"
        config.write_text(f"[[service]]\nname = 'job'\nport = {port}\ncheck = {check}\n")
        agent = agents(None, "--config", str(config), "--check-interval", "200ms")
        # Initially passing, and not probed before the hand-over, after which its start period no longer applies.
        check_options = {"tcp": f":{port}", "interval": "200ms", "timeout": "5s", "start": "1h", "down": 1}
        checked = {"check": check_options | {"initial": "passing"}}
        assert call(agent, "PUT", f"/v1/services/app/instances/:{port}", checked)[0] == 200
        call(agent, "PUT", WEB, {"ttl_ms": 600_000})
        call(agent, "PUT", "/v1/maintenance", {"mode": "draining", "service": "web"})
        known = {"app": "passing", "job": "passing", "web": "draining"}
        eventually(lambda: states(agent) == known)
        replace(agent)
        # The next process has the results without probing again.
        assert states(agent) == known
        assert call(agent, "GET", "/v1/maintenance")[1]["held"][0]["mode"] == "draining"
        # Ends the blocking accept, which would keep the port open.
        server.shutdown(socket.SHUT_RDWR)
        accepting.join(TIMEOUT)
    # Both checks continue: the one from the API and the one from the file.
    eventually(lambda: states(agent) == known | {"app": "critical", "job": "critical"})
    config.write_text("")
    replace(agent)
    # A service that was removed from the file is unregistered, as after SIGHUP.
    eventually(lambda: states(agent) == {"app": "critical", "web": "draining"})
    assert call(agent, "PUT", "/v1/maintenance", {"mode": "off"})[0] == 200
    eventually(lambda: states(agent)["web"] == "passing")


def test_a_service_of_the_file_follows_the_address_of_its_host(
    agents: Callable[..., Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Agent, "host", "")
    config = tmp_path / "jobs.toml"
    service = "[[service]]\nname = 'job'\nport = 8\n"
    config.write_text(f"advertise = '10.0.0.7'\n{service}")
    agent = agents(None, "--config", str(config))
    eventually(lambda: addresses(agent, "job") == ["10.0.0.7:8"])
    config.write_text(f"advertise = '10.0.0.8'\n{service}")
    replace(agent)
    eventually(lambda: addresses(agent, "job") == ["10.0.0.8:8"])


def addresses(agent: Agent, service: str) -> list[str]:
    return [instance["address"] for instance in call(agent, "GET", f"/v1/services/{service}")[1]["instances"]]


def accept_all(server: socket.socket) -> None:
    """Accepts and closes connections until the listener is shut down."""
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


def states(agent: Agent) -> dict[str, str]:
    registrations = call(agent, "GET", "/v1/registrations")[1]["registrations"]
    return {entry["service"]: entry["state"] for entry in registrations}


def test_a_hand_over_ends_long_polls_and_streams_so_that_clients_repeat_them(agents: Callable[..., Agent]) -> None:
    agent = agents()
    call(agent, "PUT", WEB, {"ttl_ms": 600_000})
    index = call(agent, "GET", "/v1/services/web")[1]["status"]["index"]
    waited: list[Any] = []
    path = f"/v1/services/web?index={index}&wait=60s"
    waiter = threading.Thread(target=lambda: waited.append(call(agent, "GET", path)))
    events = stream_events(agent, "/v1/services/web/events")
    while next(events)[1] != "status":
        pass
    waiter.start()
    eventually(lambda: connections(agent) >= 2)
    replace(agent)
    waiter.join(TIMEOUT)
    status, problem, _ = waited[0]
    assert (status, problem["kind"], problem["retriable"]) == (503, "unavailable", True)
    assert "down" not in [name for _, name, _ in events]


def connections(agent: Agent) -> int:
    metrics = subprocess.run(["curl", "-sS", f"http://{agent.address}/metrics"], capture_output=True, text=True)
    (line,) = [line for line in metrics.stdout.splitlines() if line.startswith("discoverd_connections ")]
    return int(line.split()[1]) - 1


def test_the_agent_continues_if_the_next_process_cannot_start(agents: Callable[..., Agent], tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text("")
    agent = agents(None, "--config", str(config))
    before = boot(agent)
    config.write_text("streams = 'many'")
    agent.process.send_signal(signal.SIGUSR2)
    eventually(lambda: "the next process could not start" in Path(agent.log).read_text())
    assert str(config) in Path(agent.log).read_text()
    assert boot(agent) == before
    config.write_text("")
    replace(agent)


def test_connections_after_a_crash_wait_for_the_process_that_systemd_starts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(TIMEOUT)
        settings = ["--bind", "127.0.0.1:0", "--socket", str(tmp_path / "agent")]
        agent = service(settings, tmp_path, [])
        stored = {}
        while (message := socket.recv_fds(notified, 4096, 8))[0] != b"READY=1\n":
            text, descriptors, _, _ = message
            lines = dict(line.split("=", 1) for line in text.decode().splitlines())
            assert lines["FDSTORE"] == "1"
            stored[lines["FDNAME"]] = descriptors[0]
        assert sorted(name.split("=")[0] for name in stored) == ["discoverd", "discoverd"]
        agent.kill()
        finish(agent)
        waiting = []
        for descriptor in stored.values():
            with socket.socket(fileno=os.dup(descriptor)) as listener:
                # The kernel reports the temporary name of the Unix socket, so the path is given.
                address = str(tmp_path / "agent") if listener.family == socket.AF_UNIX else listener.getsockname()
                client = socket.socket(listener.family)
            client.settimeout(TIMEOUT)
            client.connect(address)
            client.sendall(REQUEST)
            waiting.append(client)
        agent = service(settings, tmp_path, list(stored.items()))
        for client in waiting:
            assert reads_response(client)
            client.close()
        agent.terminate()
        assert finish(agent) == 0
        # An agent that listens moved removes the previous socket from the descriptor store of systemd.
        moved = service(["--bind", "127.0.0.1:0", "--socket", "none"], tmp_path, list(stored.items()))
        while not (message := notified.recv(4096)).startswith(b"FDSTOREREMOVE=1\nFDNAME=discoverd=%2F"):
            assert not message.startswith(b"FDSTOREREMOVE"), message
        assert moved.stdout and "unix" not in moved.stdout.readline()
        moved.terminate()
        assert finish(moved) == 0
        for descriptor in stored.values():
            os.close(descriptor)


def test_systemd_may_open_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "agent")
        listener.bind(path)
        listener.listen()
        agent = service(["--bind", "none", "--socket", path], tmp_path, [("discoverd.socket", listener.fileno())])
        assert agent.stdout and agent.stdout.readline() == f"listening on discoverd+unix://{path}\n"
        command = ["curl", "-sS", "--unix-socket", path, "http://localhost/v1/services"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == '{"services":[]}'
        agent.terminate()
        assert finish(agent) == 0
        assert Path(path).exists(), "systemd owns the file"
        # An inherited socket on a network address needs TLS and a token, too.
        with socket.create_server(("0.0.0.0", 0)) as network:
            refused = service(["--socket", "none"], tmp_path, [("x", network.fileno())], subprocess.PIPE)
            assert finish(refused) == 1
            assert refused.stderr and "open to the network" in refused.stderr.read()
            refused.stderr.close()


def service(
    settings: list[str], directory: Path, stored: list[tuple[str, int]], errors: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Starts the agent as systemd does, with stored descriptors."""
    inherit = " ".join(f"{3 + n}<&{descriptor}" for n, (_, descriptor) in enumerate(stored))
    close = " ".join(f"{descriptor}<&-" for _, descriptor in stored if descriptor >= 3 + len(stored))
    run = f"LISTEN_PID=$$ exec {BUILT / 'discoverd'} run \"$@\" {inherit} {close}"
    names = ":".join(name for name, _ in stored)
    environment = {**os.environ, "NOTIFY_SOCKET": str(directory / "notify"), "LISTEN_FDNAMES": names}
    environment["LISTEN_FDS"] = str(len(stored))
    command = ["setpriv", "--pdeathsig", "KILL", "bash", "-c", run, "run", *settings]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
        pass_fds=[descriptor for _, descriptor in stored],
    )  # fmt: skip


def finish(agent: subprocess.Popen[str]) -> int:
    status = agent.wait(TIMEOUT)
    if agent.stdout:
        agent.stdout.close()
    return status


def test_check_validates_and_exits(tmp_path: Path) -> None:
    socket_path = tmp_path / "agent"
    command = [DISCOVERD, "run", "--check", "--bind", "127.0.0.1:0", "--socket", str(socket_path)]
    valid = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert valid.returncode == 0, valid.stderr
    assert valid.stdout.endswith("\nthe configuration is valid\n") and not socket_path.exists()
    invalid = subprocess.run([*command, "--token-file", "/no/such"], capture_output=True, text=True, timeout=TIMEOUT)
    assert invalid.returncode == 1 and "/no/such" in invalid.stderr
