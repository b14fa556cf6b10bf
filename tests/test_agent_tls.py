"""The agent on an address that is open to the network: TLS both ways, and a token."""

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


def openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str, address: str = "127.0.0.1") -> tuple[Path, Path, Path]:
    """An authority, a certificate of it for an address, good for both ends, and its key."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(folder, f"req -x509 {key} -keyout {name}-ca.key -out {name}-ca.pem -subj /CN={name} -days 2")
    openssl(folder, f"req {key} -keyout {name}.key -out {name}.csr -subj /CN=node")
    (folder / "san").write_text(f"subjectAltName=IP:{address}\n")
    authority = f"-CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial"
    openssl(folder, f"x509 -req -in {name}.csr {authority} -out {name}.pem -days 2 -extfile san")
    return folder / f"{name}-ca.pem", folder / f"{name}.pem", folder / f"{name}.key"


def doctor(url: str) -> subprocess.CompletedProcess[str]:
    command = [str(BUILT / "discoverd"), "doctor", "--url", f"{url}&connect_timeout=2s"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_both_ends_prove_who_they_are(agents: Callable[..., Agent], tmp_path: Path) -> None:
    (ca, cert, key), foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(ca)]
    agent = agents(None, "--bind", "0.0.0.0:0", "--token-file", str(token), *tls)
    port = agent.address.rsplit(":", 1)[1]
    url = f"discoverd://127.0.0.1:{port}"
    mine = f"ca={ca}&cert={cert}&key={key}"
    well = doctor(f"{url}?{mine}&token_file={token}")
    assert well.returncode == 0 and "ok   lease" in well.stdout, well.stdout
    for refused, why in [
        (f"{url}?{mine}", "requires a token"),
        (f"{url}?{mine}&token=another-token-of-16", "refused the token"),
        (f"{url}?ca={ca}&token_file={token}", "client certificate"),
        (f"{url}?ca={ca}&cert={foreign[1]}&key={foreign[2]}&token_file={token}", "client certificate"),
        (f"{url}?ca={foreign[0]}&cert={cert}&key={key}&token_file={token}", "certificate"),
        (f"{url}?token_file={token}", "TLS"),
        (f"{url}?{mine}&token_file={token}&server_name=other.example", "certificate"),
    ]:
        ill = doctor(refused)
        assert ill.returncode == 1 and why in ill.stdout, (refused, ill.stdout)
        assert TOKEN not in ill.stdout + ill.stderr
    command = [str(BUILT / "discoverd"), "maintenance", "on", "--url"]
    held = subprocess.run([*command, f"{url}?{mine}&token_file={token}"], capture_output=True, text=True, timeout=60)
    assert held.stdout == "maintenance: 0 instances\n", held.stderr


def test_half_of_the_protection_is_none(tmp_path: Path) -> None:
    _, cert, key = certificate(tmp_path, "own")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    for given in (["--tls-cert", str(cert), "--tls-key", str(key)], ["--token-file", str(token)]):
        command = [str(BUILT / "discoverd"), "run", "--socket", "none", "--bind", "0.0.0.0:0", *given]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "open to the network" in refused.stderr


def served(port: str, ca: Path, sock: ssl.SSLSocket | None = None) -> ssl.SSLSocket:
    """A connection over TLS, and one request on it."""
    if sock is None:
        context = ssl.create_default_context(cafile=str(ca))
        sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 60), server_hostname="127.0.0.1")
    sock.sendall(b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    return sock


def serial(sock: ssl.SSLSocket) -> str:
    shown = sock.getpeercert()
    assert shown
    return str(shown["serialNumber"])


@pytest.mark.parametrize("by_signal", [True, False], ids=["SIGHUP", "by-itself"])
def test_a_certificate_and_a_token_that_change_hold_for_who_comes_then(
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

    def read_again(said: str) -> None:
        if by_signal:
            agent.process.send_signal(signal.SIGHUP)
        eventually(lambda: said in log())

    # Half a change, a file that is none, and a token that is too short: all stays as it was.
    (tmp_path / "next").mkdir()
    next_ca, next_cert, next_key = certificate(tmp_path / "next", "next")
    shutil.copy(next_cert, cert)
    old = "cannot reload the certificate" if by_signal else "invalid, using the previous ones"
    read_again(old)
    assert str(cert) in log()
    with served(port, ca) as before:
        first = serial(before)
        assert log().count("using the previous ones") == 1, "said once"
        shutil.copy(next_key, key)
        new = "certificate and token reloaded" if by_signal else "using the new ones"
        read_again(new)
        with served(port, next_ca) as after:
            assert serial(after) != first
        with pytest.raises(ssl.SSLError):
            served(port, ca)
        # Who was there goes on as it began, unless it was idle for too long.
        if by_signal:
            served(port, ca, before)
    url = f"discoverd://127.0.0.1:{port}?ca={next_ca}&token="
    token.write_text("another-token-of-the-tests")
    successes = log().count(new) + 1
    read_again(new)
    eventually(lambda: log().count(new) >= successes)
    assert "refused the token" in doctor(f"{url}{TOKEN}").stdout
    assert doctor(f"{url}another-token-of-the-tests").returncode == 0
    token.write_text("short")
    failures = log().count(old) + 1
    read_again(old)
    eventually(lambda: log().count(old) >= failures)
    assert doctor(f"{url}another-token-of-the-tests").returncode == 0


def test_clients_of_an_authority_that_is_not_theirs_any_more_are_refused(
    agents: Callable[..., Agent], tmp_path: Path
) -> None:
    (ca, cert, key), foreign = certificate(tmp_path, "own"), certificate(tmp_path, "foreign")
    token, clients = tmp_path / "token", tmp_path / "clients.pem"
    token.write_text(TOKEN)
    shutil.copy(ca, clients)
    tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(clients)]
    agent = agents(None, "--bind", "0.0.0.0:0", "--token-file", str(token), *tls)
    port = agent.address.rsplit(":", 1)[1]
    of = "discoverd://127.0.0.1:{}?ca={}&cert={}&key={}&token_file={}"
    own, other = (of.format(port, ca, c, k, token) for c, k in [(cert, key), foreign[1:]])
    assert (doctor(own).returncode, doctor(other).returncode) == (0, 1)
    shutil.copy(foreign[0], clients)
    agent.process.send_signal(signal.SIGHUP)
    eventually(lambda: "certificate and token reloaded" in Path(agent.log).read_text())
    assert (doctor(own).returncode, doctor(other).returncode) == (1, 0)
