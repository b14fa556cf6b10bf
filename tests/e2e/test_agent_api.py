"""The HTTP API of the agent: its OpenAPI description, its behaviour, and its resistance to hostile clients."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from languages import BUILT, ROOT
from servers import Agent, eventually
from test_agent_tls import TOKEN, certificate

TIMEOUT = 30
WEB = "/v1/services/web/instances/127.0.0.1:8080"


def call(
    agent: Agent, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Returns the status, the JSON and the headers of a response."""
    connection = http.client.HTTPConnection(agent.address, timeout=TIMEOUT)
    try:
        text = None if body is None else body if isinstance(body, str) else json.dumps(body)
        sent = {} if body is None else {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, text, sent)
        response = connection.getresponse()
        read = response.read()
        return response.status, json.loads(read) if read else None, response.headers
    finally:
        connection.close()


def stream_events(agent: Agent, path: str, **headers: str) -> Iterator[tuple[str, str, str]]:
    """Yields the events of a stream: id, name and data."""
    connection = http.client.HTTPConnection(agent.address, timeout=TIMEOUT)
    connection.request("GET", path, headers={name.replace("_", "-"): v for name, v in headers.items()})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    event: dict[str, str] = {}
    try:
        for line in response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field:
                event[field] = value
            elif event.get("event"):
                yield event.get("id", ""), event["event"], event["data"]
                event = {}
            else:
                event = {}
    finally:
        connection.close()


def test_the_api_conforms_to_its_openapi_description(agents: Callable[..., Agent]) -> None:
    agent = agents()
    program = [str(Path(sys.executable).parent / "schemathesis"), "run"]
    # Event streams do not end, so schemathesis cannot read them.
    options = ["--url", f"http://{agent.address}", "--max-examples", "15"]
    options += ["--exclude-operation-id", "watchService", "--exclude-operation-id", "watchEverything"]
    options += ["--exclude-operation-id", "watchLosses"]
    options += ["--seed", "1", "--phases", "examples,coverage,fuzzing", "--generation-deterministic"]
    options += ["--exclude-checks", "unsupported_method,ignored_auth,positive_data_acceptance"]
    options += ["--no-color"]
    found = subprocess.run(
        [*program, str(ROOT / "agent/openapi.json"), *options], capture_output=True, text=True, timeout=170
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    status, described, _ = call(agent, "GET", "/v1/openapi.json")
    assert status == 200
    assert described == json.loads((ROOT / "agent/openapi.json").read_text())


def test_an_instance_is_registered_updated_and_unregistered(agents: Callable[..., Agent]) -> None:
    agent = agents()
    body = {"attributes": {"zone": "eu"}, "tags": ["fast"], "ttl_ms": 60_000}
    status, granted, _ = call(agent, "PUT", WEB, body)
    assert (status, granted["address"], granted["ttl_ms"]) == (200, "127.0.0.1:8080", 60_000)
    assert call(agent, "GET", "/v1/services")[1] == {"services": ["web"]}
    _, web, headers = call(agent, "GET", "/v1/services/web?tag=fast&attribute=zone%3Deu")
    (instance,) = web["instances"]
    assert (instance["attributes"], instance["tags"], instance["zone"]) == ({"zone": "eu"}, ["fast"], "eu")
    assert web["leader"] == instance == call(agent, "GET", "/v1/services/web/leader")[1]
    assert headers["discoverd-index"] == web["status"]["index"]
    assert call(agent, "GET", "/v1/services/web?tag=slow")[1]["instances"] == []
    grant = granted["grant"]
    assert call(agent, "POST", f"{WEB}/heartbeat", {"grant": grant})[0] == 204
    assert call(agent, "POST", f"{WEB}/heartbeat", {})[0] == 204
    assert call(agent, "PATCH", WEB, {"grant": grant, "attributes": {"zone": "us"}})[0] == 204
    assert call(agent, "DELETE", f"{WEB}?grant={'0' * 16}")[0] == 204, "a registration with another grant stays"
    status, problem, headers = call(agent, "POST", f"{WEB}/heartbeat", {"grant": "0" * 16})
    assert (status, problem["kind"], problem["retriable"]) == (409, "replaced", False)
    assert headers["content-type"] == "application/problem+json"
    assert call(agent, "DELETE", WEB)[0] == 204
    assert call(agent, "POST", f"{WEB}/heartbeat", {"grant": grant})[1]["kind"] == "replaced"
    assert call(agent, "DELETE", WEB)[1]["kind"] == "not_found"
    assert call(agent, "GET", "/v1/services/web/leader")[0] == 404


def test_an_address_without_a_host_is_on_this_host(agents: Callable[..., Agent]) -> None:
    agent = agents(None, "--advertise", "static:192.0.2.7")
    granted = call(agent, "PUT", "/v1/services/web/instances/:8080", {})[1]
    assert granted["id"] == granted["address"] == "192.0.2.7:8080"
    assert call(agent, "GET", "/v1/status")[1]["address"] == "192.0.2.7"


def test_an_instance_without_heartbeats_expires(agents: Callable[..., Agent]) -> None:
    agent = agents()
    events = stream_events(agent, "/v1/services/web/events")
    call(agent, "PUT", WEB, {"ttl_ms": 1000})
    seen = []
    for _, name, _ in events:
        seen += [name] if name in ("up", "down") else []
        if name == "down":
            break
    assert seen == ["up", "down"]
    metrics = subprocess.run(
        ["curl", "-s", f"http://{agent.address}/metrics"], capture_output=True, text=True, check=True
    )
    assert "\ndiscoverd_expired_total 1\n" in metrics.stdout


def test_a_long_poll_waits_for_a_state_other_than_the_index(agents: Callable[..., Agent]) -> None:
    agent = agents()
    index = call(agent, "GET", "/v1/services/web")[1]["status"]["index"]
    assert call(agent, "GET", f"/v1/services/web?index={index}&wait=50ms")[1]["status"]["index"] == index
    later = threading.Timer(0.2, call, (agent, "PUT", WEB, {}))
    later.start()
    started = time.monotonic()
    web = call(agent, "GET", f"/v1/services/web?index={index}&wait=25s")[1]
    later.join()
    assert len(web["instances"]) == 1
    assert time.monotonic() - started < 20
    # The index of another process is unknown, so the response is immediate.
    assert call(agent, "GET", "/v1/services/web?index=beef.0.1&wait=25s")[0] == 200
    assert time.monotonic() - started < 24


def test_a_stream_begins_with_the_full_state_and_resumes_with_the_changes(agents: Callable[..., Agent]) -> None:
    agent = agents()
    call(agent, "PUT", WEB, {"ttl_ms": 60_000})
    events = stream_events(agent, "/v1/services/web/events")
    first = [next(events) for _ in range(5)]
    assert [name for _, name, _ in first] == ["reset", "up", "leader", "current", "status"]
    assert json.loads(first[1][2])["address"] == "127.0.0.1:8080"
    last = first[-1][0]
    assert last and not any(id for id, _, _ in first[:-1]), "only the last event of a message has an id"
    events.close()
    call(agent, "PUT", "/v1/services/web/instances/127.0.0.1:9", {"ttl_ms": 60_000})
    call(agent, "PATCH", WEB, {"attributes": {"v": "2"}})
    resumed = stream_events(agent, "/v1/services/web/events", Last_Event_ID=last)
    names = []
    for _, name, _ in resumed:
        names.append(name)
        if {"up", "update"} <= set(names):
            break
    assert "reset" not in names and names.count("up") == 1
    unknown = stream_events(agent, "/v1/services/web/events", Last_Event_ID="beef.0.7")
    assert next(unknown)[1] == "reset"


def test_a_stream_reports_that_the_agent_unregisters_before_it_ends(agents: Callable[..., Agent]) -> None:
    agent = agents()
    call(agent, "PUT", WEB, {"ttl_ms": 60_000})
    events = stream_events(agent, "/v1/services/web/events")
    while next(events)[1] != "status":
        pass
    assert agent.stop() == 0
    assert "down" in [name for _, name, _ in events]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "part"),
    [
        ("PUT", WEB, "{", 400, "invalid body"),
        ("PUT", WEB, [], 400, "must be a JSON object"),
        ("PUT", WEB, {"colour": "red"}, 400, "unknown field `colour`"),
        ("PUT", WEB, {"ttl_ms": 5}, 400, "ttl"),
        ("PUT", WEB, {"attributes": {"weight": "heavy"}}, 400, "weight"),
        ("PATCH", WEB, {"attributes": {"weight": "heavy"}}, 400, "weight"),
        ("PATCH", WEB, {"attributes": {}}, 404, "not registered"),
        ("PUT", WEB, {"address": "127.0.0.1:0"}, 400, "port"),
        ("PUT", "/v1/services/w%20b/instances/h:1", {}, 400, "service name"),
        ("PUT", "/v1/services/web/instances/%ff", {}, 400, "UTF-8"),
        ("PUT", "/v1/services/web/instances/mine", {"address": "h:1"}, 400, 'id "mine"'),
        ("PUT", WEB, "x" * 600_000, 413, "larger"),
        ("GET", "/v1/services/web?wait=soon", None, 400, "wait"),
        ("GET", "/v1/services/web?color=1", None, 400, "color"),
        ("GET", "/v2", None, 404, "openapi"),
        ("GET", WEB, None, 405, "method"),
    ],
)
def test_an_invalid_request_is_refused_with_its_cause(
    agents: Callable[..., Agent], method: str, path: str, body: Any, status: int, part: str
) -> None:
    found, problem, headers = call(agents(), method, path, body)
    assert (found, headers["content-type"]) == (status, "application/problem+json"), problem
    assert part in problem["detail"], problem


def test_requests_of_pages_of_other_origins_are_refused(agents: Callable[..., Agent]) -> None:
    agent = agents()
    assert call(agent, "GET", "/v1/services", Host="evil.example")[0] == 421
    for path in ("/v1/services", "/v1/registrations", "/v1/status", "/metrics"):
        assert call(agent, "GET", path, Origin="http://evil.example")[0] == 403
        # Requests for images have no Origin.
        assert call(agent, "GET", path, Sec_Fetch_Site="cross-site")[0] == 403
        assert call(agent, "HEAD", path, Origin=f"http://{agent.address}")[0] == 200
    assert call(agent, "PUT", WEB, {}, Origin="http://evil.example")[0] == 403
    assert call(agent, "PUT", WEB, "{}", Content_Type="text/plain")[0] == 415
    for method in ("GET", "HEAD", "OPTIONS"):
        status, _, headers = call(agent, method, WEB, Origin="http://evil.example")
        assert status >= 400
        assert not any(name.lower().startswith("access-control") for name in headers)
    assert call(agent, "GET", "/v1/services")[1] == {"services": []}


def test_the_token_is_required_over_tcp(agents: Callable[..., Agent], tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-tests\n")
    agent = agents(None, "--token-file", str(token))
    status, problem, _ = call(agent, "GET", "/v1/services")
    assert (status, problem["kind"]) == (401, "permission_denied")
    assert call(agent, "PUT", WEB, {}, Authorization="Bearer wrong")[0] == 401
    assert call(agent, "GET", "/v1/services", Authorization="Bearer a-token-of-the-tests")[0] == 200
    assert call(agent, "GET", "/v1/health")[0] == 200
    assert "a-token-of-the-tests" not in Path(agent.log).read_text()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_the_agent_refuses_to_listen_on_the_network_without_tls_and_token(address: str) -> None:
    command = [str(BUILT / "discoverd"), "run", "--socket", "none", "--bind", address]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert refused.returncode == 1
    assert "open to the network" in refused.stderr


def test_the_socket_is_accessible_to_its_owner_and_group_only(agents: Callable[..., Agent]) -> None:
    agent = agents()
    assert Path(agent.socket).stat().st_mode & 0o777 == 0o660


def test_slow_or_many_clients_do_not_block_others(agents: Callable[..., Agent]) -> None:
    agent = agents(None, "--connections", "20", "--connections-of-one", "15")
    host, port = agent.address.rsplit(":", 1)
    slow = [socket.create_connection((host, int(port))) for _ in range(30)]
    for connection in slow:
        connection.sendall(b"GET /v1/services HTTP/1.1\r\nHost: localhost\r\n")
    # The Unix socket has a connection limit of its own.
    with socket.socket(socket.AF_UNIX) as local:
        local.settimeout(TIMEOUT)
        local.connect(agent.socket)
        local.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert local.recv(100).startswith(b"HTTP/1.1 200")
    # The agent closes the slow connections.
    for connection in slow:
        connection.settimeout(TIMEOUT)
        try:
            while connection.recv(1000):
                pass
        except ConnectionResetError:
            pass
        connection.close()
    assert call(agent, "GET", "/v1/health")[0] == 200


def test_a_body_that_does_not_arrive_is_a_timeout(agents: Callable[..., Agent]) -> None:
    host, port = agents().address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        head = f"PUT {WEB} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Content-Length: 100\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("check", "status", "part"),
    [
        ({"http": "http://169.254.169.254/latest/meta-data"}, 403, "check_targets"),
        ({"tcp": "[fe80::1]:80"}, 403, "check_targets"),
        ({"tcp": "0.0.0.0:80"}, 403, "check_targets"),
        ({"exec": "true"}, 403, "allow_exec"),
        ({"http": "https://127.0.0.1/", "ca": "/etc/shadow"}, 403, "allow_exec"),
        ({"tcp": ":80", "interval": "10ms"}, 400, "check_interval"),
        ({"tcp": ":80", "start": "10ms"}, 400, "check_interval"),
    ],
)
def test_a_check_that_the_policy_forbids_is_refused(
    agents: Callable[..., Agent], check: dict[str, Any], status: int, part: str
) -> None:
    agent = agents()
    found, problem, _ = call(agent, "PUT", WEB, {"check": check})
    assert (found, part in problem["detail"]) == (status, True), problem
    assert call(agent, "GET", "/v1/registrations")[1]["registrations"] == []


def test_check_targets_and_the_number_of_checks_are_settings(agents: Callable[..., Agent]) -> None:
    agent = agents(None, "--check-targets", "10.0.0.0/8,169.254.0.0/16", "--checks", "1")
    check = {"check": {"tcp": "169.254.169.254:80", "start": "1h"}}
    assert call(agent, "PUT", WEB, check)[0] == 200
    status, problem, _ = call(agent, "PUT", "/v1/services/web/instances/127.0.0.1:2", check)
    assert (status, problem["kind"]) == (503, "resource") and "setting checks" in problem["detail"]
    assert call(agent, "DELETE", WEB)[0] == 204
    # The check of the unregistered instance ends and makes room.
    eventually(lambda: call(agent, "PUT", "/v1/services/web/instances/127.0.0.1:2", check)[0] == 200)
    # Registering again replaces the check. A check by reports does not count.
    assert call(agent, "PUT", "/v1/services/web/instances/127.0.0.1:2", check)[0] == 200
    assert call(agent, "PUT", WEB, {"check": {"ttl": "10s"}})[0] == 200
    assert call(agent, "PUT", WEB, check)[0] == 503


def test_a_remote_client_may_define_checks_of_its_own_address_only(tmp_path: Path) -> None:
    """Connects over a network address of this host, so that the agent sees a client that is not on the loopback."""
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    if not own:
        pytest.skip("this host has no address but the loopback")
    _, cert, key = certificate(tmp_path, "own", own[0])
    (tmp_path / "token").write_text(TOKEN)
    credentials = ["--token-file", str(tmp_path / "token"), "--tls-cert", str(cert), "--tls-key", str(key)]
    agent = Agent(str(tmp_path), None, "--bind", f"{own[0]}:0", *credentials)
    try:
        for target, expected in [(f"{own[0]}:1", "200"), ("127.0.0.1:1", "403"), ("192.0.2.1:1", "403"), (":1", "200")]:
            body = json.dumps({"check": {"tcp": target}, "address": f"{own[0]}:8080"})
            command = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--json", body]
            command += ["-H", f"Authorization: Bearer {TOKEN}"]
            url = f"https://{agent.address}/v1/services/web/instances/{own[0]}:8080"
            response = subprocess.run([*command, url], capture_output=True, text=True, timeout=TIMEOUT)
            assert response.stdout == expected, (target, Path(agent.log).read_text())
        # A remote host has a lower connection limit than the loopback.
        port = int(agent.address.rsplit(":", 1)[1])
        many = [socket.create_connection((own[0], port), TIMEOUT) for _ in range(129)]
        many[-1].settimeout(TIMEOUT)
        assert many[-1].recv(10) == b"", "the connection beyond the limit is closed"
        # The idle timeout is not the cause: it would have closed the first connection before the last.
        many[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            many[0].recv(10)
        for connection in many:
            connection.close()
    finally:
        agent.kill()


def test_a_request_head_that_is_too_large_is_refused(agents: Callable[..., Agent]) -> None:
    agent = agents()
    host, port = agent.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n")
        assert connection.recv(100).split(b" ")[1] in (b"431", b"400", b"414")


def test_a_slow_stream_reader_delays_no_one_and_gets_the_last_state(agents: Callable[..., Agent]) -> None:
    agent = agents()
    call(agent, "PUT", WEB, {"ttl_ms": 600_000})
    host, port = agent.address.rsplit(":", 1)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(TIMEOUT)
        slow.connect((host, int(port)))
        slow.sendall(b"GET /v1/services/web/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for n in range(200):
            # Much more than the socket buffers hold.
            assert call(agent, "PATCH", WEB, {"attributes": {"n": str(n), "x": "x" * 50_000}})[0] == 204
        assert call(agent, "GET", "/v1/services/web")[1]["instances"][0]["attributes"]["n"] == "199"
        read = b""
        while b'"n":"199"' not in read[-200_000:]:
            read += slow.recv(65536)
        assert read.count(b"event: update") < 150, "intermediate states are skipped"
