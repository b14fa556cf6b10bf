"""The agent replaced by its next run, or ended by force: nobody who comes meanwhile is refused, and nobody who
is registered goes."""

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
from test_agent import DISCOVERD, end, hear, start
from test_agent_api import WEB, ask, told

PATIENCE = 60
REQUEST = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def boot(agent: Agent) -> str:
    found: str = ask(agent, "GET", "/v1/status")[1]["boot"]
    return found


def replace(agent: Agent) -> None:
    """Returns once the next run answers, in the same process."""
    before = boot(agent)
    agent.process.send_signal(signal.SIGUSR2)
    eventually(lambda: boot(agent) != before)
    assert agent.process.poll() is None


def connect(agent: Agent, over_socket: bool) -> socket.socket:
    if over_socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(agent.socket)
        return connection
    host, port = agent.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), PATIENCE)


def answered(connection: socket.socket) -> bool:
    read = b""
    while more := connection.recv(65536):
        read += more
    return read.startswith(b"HTTP/1.1 200") and read.endswith(b"}")


@pytest.mark.parametrize("over_socket", [False, True], ids=["address", "socket"])
def test_whoever_comes_while_the_agent_is_replaced_is_answered(
    agents: Callable[..., Agent], over_socket: bool
) -> None:
    agent = agents()
    done, failures, count = threading.Event(), list[str](), [0] * 4

    def come(n: int) -> None:
        while not done.is_set():
            try:
                with connect(agent, over_socket) as connection:
                    connection.sendall(REQUEST)
                    assert answered(connection), "no answer"
                    count[n] += 1
            except (AssertionError, OSError) as error:
                failures.append(repr(error))

    visitors = [threading.Thread(target=come, args=(n,)) for n in range(4)]
    for visitor in visitors:
        visitor.start()
    for _ in range(5):
        before = sum(count)
        # One who has come, and asks only once the agent is about to be another.
        with connect(agent, over_socket) as early:
            eventually(lambda before=before: sum(count) > before + 20)
            old = boot(agent)
            agent.process.send_signal(signal.SIGUSR2)
            eventually(lambda: "SIGUSR2" in Path(agent.log).read_text())
            early.sendall(REQUEST)
            assert answered(early)
            eventually(lambda old=old: boot(agent) != old)
    done.set()
    for visitor in visitors:
        visitor.join(PATIENCE)
    assert not failures and min(count) > 0, failures[:5]
    assert agent.stop() == 0
    assert not Path(agent.socket).exists(), "the last run clears away what the first opened"


@pytest.mark.parametrize("store", ["own", "etcd"])
def test_nobody_goes_when_the_agent_is_replaced_and_streams_go_on(
    agents: Callable[..., Agent], request: pytest.FixtureRequest, store: str
) -> None:
    url = None
    if store == "etcd":
        etcd: Etcd = request.getfixturevalue("etcd")
        url = f"etcd://{etcd.endpoint}/{uuid.uuid4().hex}?ttl=2s"
    agent = agents(url)
    # One that speaks to the agent through the library, one that only knows HTTP.
    member = start("register", "--url", agent.url, "web", "127.0.0.1:7", "--ttl", "2s")
    assert member.stdout and member.stdout.readline()
    status, granted, _ = ask(agent, "PUT", WEB, {"ttl_ms": 600_000, "attributes": {"zone": "eu"}})
    assert status == 200
    watch = start("watch", "web", "--json", "--url", agent.url)
    beside = start("watch", "web", "--json", "--url", url) if url else watch
    watches = {watch, beside}
    for each in watches:
        while hear(each)["event"] != "current":
            pass
    for _ in range(2):
        replace(agent)
        eventually(lambda: ask(agent, "GET", "/v1/status")[1]["registrations"] == 2)
        assert ask(agent, "POST", f"{WEB}/heartbeat", {"grant": granted["grant"]})[0] == 204
    # The store's own time would be over by now for whoever had been forgotten.
    eventually(lambda: ask(agent, "GET", "/v1/status")[1]["uptime_ms"] > 4_000)
    assert ask(agent, "PUT", "/v1/services/web/instances/127.0.0.1:9", {"ttl_ms": 600_000})[0] == 200
    for each in watches:
        events = []
        while not events or events[-1]["event"] != "up":
            events.append(hear(each))
        assert events[-1]["instance"]["id"] == "127.0.0.1:9"
        told = {event["event"] for event in events[:-1]}
        assert told <= {"stale", "fresh", "current"}, events
        end(each)
    end(member)


def test_what_the_agent_knew_it_knows_again(agents: Callable[..., Agent], tmp_path: Path) -> None:
    config = tmp_path / "jobs.toml"
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
        visited = threading.Thread(target=let_in, args=(place,))
        visited.start()
        check = f"{{ tcp = ':{port}', interval = '200ms', timeout = '5s' }}"
        config.write_text(f"[[service]]\nname = 'job'\nport = {port}\ncheck = {check}\n")
        agent = agents(None, "--config", str(config), "--check-interval", "200ms")
        # Well from the beginning, and not looked at before the next run, for which it is not starting any more.
        looked = {"tcp": f":{port}", "interval": "200ms", "timeout": "5s", "start": "1h", "down": 1}
        checked = {"check": looked | {"initial": "passing"}}
        assert ask(agent, "PUT", f"/v1/services/app/instances/:{port}", checked)[0] == 200
        ask(agent, "PUT", WEB, {"ttl_ms": 600_000})
        ask(agent, "PUT", "/v1/maintenance", {"mode": "draining", "service": "web"})
        known = {"app": "passing", "job": "passing", "web": "draining"}
        eventually(lambda: states(agent) == known)
        replace(agent)
        # Nobody was asked again meanwhile, and nobody had to be.
        assert states(agent) == known
        assert ask(agent, "GET", "/v1/maintenance")[1]["held"][0]["mode"] == "draining"
        # Only so does whoever waits for the next visitor let go of the place.
        place.shutdown(socket.SHUT_RDWR)
        visited.join(PATIENCE)
    # And the checks go on: the one from the API, and the one of the file.
    eventually(lambda: states(agent) == known | {"app": "critical", "job": "critical"})
    config.write_text("")
    replace(agent)
    # What the file does not name any more is gone, as after SIGHUP.
    eventually(lambda: states(agent) == {"app": "critical", "web": "draining"})
    assert ask(agent, "PUT", "/v1/maintenance", {"mode": "off"})[0] == 200
    eventually(lambda: states(agent)["web"] == "passing")


def test_a_service_of_the_file_moves_with_the_address_of_its_host(
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
    return [one["address"] for one in ask(agent, "GET", f"/v1/services/{service}")[1]["instances"]]


def let_in(place: socket.socket) -> None:
    """All who come, until the place is shut."""
    with contextlib.suppress(OSError):
        while True:
            place.accept()[0].close()


def states(agent: Agent) -> dict[str, str]:
    registrations = ask(agent, "GET", "/v1/registrations")[1]["registrations"]
    return {one["service"]: one["state"] for one in registrations}


def test_a_wait_is_answered_and_a_stream_ends_so_that_both_are_asked_again(agents: Callable[..., Agent]) -> None:
    agent = agents()
    ask(agent, "PUT", WEB, {"ttl_ms": 600_000})
    index = ask(agent, "GET", "/v1/services/web")[1]["status"]["index"]
    waited: list[Any] = []
    path = f"/v1/services/web?index={index}&wait=60s"
    waiter = threading.Thread(target=lambda: waited.append(ask(agent, "GET", path)))
    events = told(agent, "/v1/services/web/events")
    while next(events)[1] != "status":
        pass
    waiter.start()
    eventually(lambda: connections(agent) >= 2)
    replace(agent)
    waiter.join(PATIENCE)
    status, problem, _ = waited[0]
    assert (status, problem["kind"], problem["retriable"]) == (503, "unavailable", True)
    assert "down" not in [name for _, name, _ in events]


def connections(agent: Agent) -> int:
    metrics = subprocess.run(["curl", "-sS", f"http://{agent.address}/metrics"], capture_output=True, text=True)
    (line,) = [line for line in metrics.stdout.splitlines() if line.startswith("discoverd_connections ")]
    return int(line.split()[1]) - 1


def test_a_next_run_that_could_not_begin_does_not(agents: Callable[..., Agent], tmp_path: Path) -> None:
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


def test_whoever_comes_after_a_crash_waits_for_the_next_run_that_systemd_starts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(PATIENCE)
        settings = ["--bind", "127.0.0.1:0", "--socket", str(tmp_path / "agent")]
        agent = service(settings, tmp_path, [])
        kept = {}
        while (message := socket.recv_fds(notified, 4096, 8))[0] != b"READY=1\n":
            text, descriptors, _, _ = message
            lines = dict(line.split("=", 1) for line in text.decode().splitlines())
            assert lines["FDSTORE"] == "1"
            kept[lines["FDNAME"]] = descriptors[0]
        assert sorted(name.split("=")[0] for name in kept) == ["discoverd", "discoverd"]
        agent.kill()
        finish(agent)
        waiting = []
        for descriptor in kept.values():
            with socket.socket(fileno=os.dup(descriptor)) as listener:
                # The first name of the socket was another.
                place = str(tmp_path / "agent") if listener.family == socket.AF_UNIX else listener.getsockname()
                visitor = socket.socket(listener.family)
            visitor.settimeout(PATIENCE)
            visitor.connect(place)
            visitor.sendall(REQUEST)
            waiting.append(visitor)
        agent = service(settings, tmp_path, list(kept.items()))
        for visitor in waiting:
            assert answered(visitor)
            visitor.close()
        agent.terminate()
        assert finish(agent) == 0
        # One that is to listen elsewhere has systemd let go of the place where it did.
        elsewhere = service(["--bind", "127.0.0.1:0", "--socket", "none"], tmp_path, list(kept.items()))
        while not (said := notified.recv(4096)).startswith(b"FDSTOREREMOVE=1\nFDNAME=discoverd=%2F"):
            assert not said.startswith(b"FDSTOREREMOVE"), said
        assert elsewhere.stdout and "unix" not in elsewhere.stdout.readline()
        elsewhere.terminate()
        assert finish(elsewhere) == 0
        for descriptor in kept.values():
            os.close(descriptor)


def test_systemd_may_open_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        place = str(tmp_path / "agent")
        listener.bind(place)
        listener.listen()
        agent = service(["--bind", "none", "--socket", place], tmp_path, [("discoverd.socket", listener.fileno())])
        assert agent.stdout and agent.stdout.readline() == f"listening on discoverd+unix://{place}\n"
        asked = ["curl", "-sS", "--unix-socket", place, "http://localhost/v1/services"]
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == '{"services":[]}'
        agent.terminate()
        assert finish(agent) == 0
        assert Path(place).exists(), "it is systemd's to remove"
        # What is open to the network needs its protection, whoever opened it.
        with socket.create_server(("0.0.0.0", 0)) as network:
            refused = service(["--socket", "none"], tmp_path, [("x", network.fileno())], subprocess.PIPE)
            assert finish(refused) == 1
            assert refused.stderr and "open to the network" in refused.stderr.read()
            refused.stderr.close()


def service(
    settings: list[str], folder: Path, kept: list[tuple[str, int]], errors: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """The agent as systemd starts it, with descriptors that it keeps."""
    inherit = " ".join(f"{3 + n}<&{descriptor}" for n, (_, descriptor) in enumerate(kept))
    close = " ".join(f"{descriptor}<&-" for _, descriptor in kept if descriptor >= 3 + len(kept))
    run = f"LISTEN_PID=$$ exec {BUILT / 'discoverd'} run \"$@\" {inherit} {close}"
    names = ":".join(name for name, _ in kept)
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "LISTEN_FDNAMES": names}
    environment["LISTEN_FDS"] = str(len(kept))
    command = ["setpriv", "--pdeathsig", "KILL", "bash", "-c", run, "run", *settings]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True,
        pass_fds=[descriptor for _, descriptor in kept],
    )  # fmt: skip


def finish(agent: subprocess.Popen[str]) -> int:
    status = agent.wait(PATIENCE)
    if agent.stdout:
        agent.stdout.close()
    return status


def test_check_only_looks(tmp_path: Path) -> None:
    socket_path = tmp_path / "agent"
    fine = [DISCOVERD, "run", "--check", "--socket", str(socket_path)]
    assert subprocess.run(fine, capture_output=True, timeout=PATIENCE).returncode == 0
    assert not socket_path.exists()
    wrong = subprocess.run([*fine, "--token-file", "/no/such"], capture_output=True, text=True, timeout=PATIENCE)
    assert wrong.returncode == 1 and "/no/such" in wrong.stderr
