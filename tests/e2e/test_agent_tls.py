"""The agent on a network address: mutual TLS, and the token."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import BUILT
from servers import Agent, eventually

TOKEN = "a-token-of-the-tests"


def openssl(directory: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)


def certificate(directory: Path, name: str, address: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """Creates an authority and a certificate for clients and servers. Returns authority, certificate and key."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(directory, f"req -x509 {key} -keyout {name}-ca.key -out {name}-ca.pem -subj /CN={name} -days 2")
    openssl(directory, f"req {key} -keyout {name}.key -out {name}.csr -subj /CN=node")
    (directory / "san").write_text(f"subjectAltName=IP:{address}\n")
    authority = f"-CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial"
    openssl(directory, f"x509 -req -in {name}.csr {authority} -out {name}.pem -days 2 -extfile san")
    return directory / f"{name}-ca.pem", directory / f"{name}.pem", directory / f"{name}.key"


def doctor(url: str) -> subprocess.CompletedProcess[str]:
    command = [str(BUILT / "discoverd"), "doctor", "--url", f"{url}&connect_timeout=2s"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_agent_and_client_authenticate_each_other(agents: Callable[..., Agent], tmp_path: Path) -> None:
    (ca, cert, key), foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(ca)]
    agent = agents(None, "--bind", "0.0.0.0:0", "--token-file", str(token), *tls)
    port = agent.address.rsplit(":", 1)[1]
    url = f"discoverd://127.0.0.1:{port}"
    mine = f"ca={ca}&cert={cert}&key={key}"
    accepted = doctor(f"{url}?{mine}&token_file={token}")
    assert accepted.returncode == 0 and "ok   lease" in accepted.stdout, accepted.stdout
    for refused, reason in [
        (f"{url}?{mine}", "requires a token"),
        (f"{url}?{mine}&token=another-token-of-16", "refused the token"),
        (f"{url}?ca={ca}&token_file={token}", "client certificate"),
        (f"{url}?ca={ca}&cert={foreign[1]}&key={foreign[2]}&token_file={token}", "client certificate"),
        (f"{url}?ca={foreign[0]}&cert={cert}&key={key}&token_file={token}", "certificate"),
        (f"{url}?token_file={token}", "TLS"),
        (f"{url}?{mine}&token_file={token}&server_name=other.example", "certificate"),
    ]:
        failed = doctor(refused)
        assert failed.returncode == 1 and reason in failed.stdout, (refused, failed.stdout)
        assert TOKEN not in failed.stdout + failed.stderr
    command = [str(BUILT / "discoverd"), "maintenance", "on", "--all", "--url"]
    command.append(f"{url}?{mine}&token_file={token}")
    switched = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert switched.stdout == "maintenance: 0 instances\n", switched.stderr


def test_tls_without_a_token_or_a_token_without_tls_is_refused(tmp_path: Path) -> None:
    _, cert, key = certificate(tmp_path, "own")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    for given in (["--tls-cert", str(cert), "--tls-key", str(key)], ["--token-file", str(token)]):
        command = [str(BUILT / "discoverd"), "run", "--socket", "none", "--bind", "0.0.0.0:0", *given]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "open to the network" in refused.stderr


def connect(port: str, ca: Path, sock: ssl.SSLSocket | None = None) -> ssl.SSLSocket:
    """Sends a request over TLS and returns the connection, which is new unless `sock` is given."""
    if sock is None:
        context = ssl.create_default_context(cafile=str(ca))
        sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 60), server_hostname="127.0.0.1")
    sock.sendall(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    return sock


def serial(sock: ssl.SSLSocket) -> str:
    peer = sock.getpeercert()
    assert peer
    return str(peer["serialNumber"])


@pytest.mark.parametrize("by_signal", [True, False], ids=["SIGHUP", "automatic"])
def test_new_connections_use_a_changed_certificate_and_token(
    agents: Callable[..., Agent], tmp_path: Path, by_signal: bool
) -> None:
    ca, cert, key = certificate(tmp_path, "own")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    tls = ["--tls-cert", str(cert), "--tls-key", str(key)]
    agent = agents(None, "--bind", "0.0.0.0:0", "--token-file", str(token), *tls)
    port = agent.address.rsplit(":", 1)[1]

    def log() -> str:
        return Path(agent.log).read_text()

    def reload(message: str) -> None:
        if by_signal:
            agent.process.send_signal(signal.SIGHUP)
        eventually(lambda: message in log())

    # A certificate without its key, and later a token that is too short: the previous ones stay in use.
    (tmp_path / "next").mkdir()
    next_ca, next_cert, next_key = certificate(tmp_path / "next", "next")
    shutil.copy(next_cert, cert)
    failure = "cannot reload the certificate" if by_signal else "invalid, using the previous ones"
    reload(failure)
    assert str(cert) in log()
    with connect(port, ca) as before:
        first = serial(before)
        assert log().count("using the previous ones") == 1, "reported once"
        shutil.copy(next_key, key)
        success = "certificate and token reloaded" if by_signal else "using the new ones"
        reload(success)
        with connect(port, next_ca) as after:
            assert serial(after) != first
        with pytest.raises(ssl.SSLError):
            connect(port, ca)
        # An existing connection keeps its certificate. The server may have closed it as idle.
        if by_signal:
            connect(port, ca, before)
    url = f"discoverd://127.0.0.1:{port}?ca={next_ca}&token="
    token.write_text("another-token-of-the-tests")
    successes = log().count(success) + 1
    reload(success)
    eventually(lambda: log().count(success) >= successes)
    assert "refused the token" in doctor(f"{url}{TOKEN}").stdout
    assert doctor(f"{url}another-token-of-the-tests").returncode == 0
    token.write_text("short")
    failures = log().count(failure) + 1
    reload(failure)
    eventually(lambda: log().count(failure) >= failures)
    assert doctor(f"{url}another-token-of-the-tests").returncode == 0


def test_clients_of_a_removed_authority_are_refused(
    agents: Callable[..., Agent], tmp_path: Path
) -> None:
    (ca, cert, key), foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    token, clients = tmp_path / "token", tmp_path / "clients.pem"
    token.write_text(TOKEN)
    shutil.copy(ca, clients)
    tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(clients)]
    agent = agents(None, "--bind", "0.0.0.0:0", "--token-file", str(token), *tls)
    port = agent.address.rsplit(":", 1)[1]
    template = "discoverd://127.0.0.1:{}?ca={}&cert={}&key={}&token_file={}"
    own, other = (template.format(port, ca, c, k, token) for c, k in [(cert, key), foreign[1:]])
    assert (doctor(own).returncode, doctor(other).returncode) == (0, 1)
    shutil.copy(foreign[0], clients)
    agent.process.send_signal(signal.SIGHUP)
    eventually(lambda: "certificate and token reloaded" in Path(agent.log).read_text())
    assert (doctor(own).returncode, doctor(other).returncode) == (1, 0)
