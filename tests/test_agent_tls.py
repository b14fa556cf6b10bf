"""The agent on an address that is open to the network: TLS both ways, and a token."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from languages import BUILT
from servers import Agent

TOKEN = "a-token-of-the-tests"


def openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """An authority, a certificate of it for 127.0.0.1, good for both ends, and its key."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(folder, f"req -x509 {key} -keyout {name}-ca.key -out {name}-ca.pem -subj /CN={name} -days 2")
    openssl(folder, f"req {key} -keyout {name}.key -out {name}.csr -subj /CN=node")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
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
        (f"{url}?{mine}", "a token is needed"),
        (f"{url}?{mine}&token=another-token-of-16", "not the one"),
        (f"{url}?ca={ca}&token_file={token}", "cannot reach"),
        (f"{url}?ca={ca}&cert={foreign[1]}&key={foreign[2]}&token_file={token}", "cannot reach"),
        (f"{url}?ca={foreign[0]}&cert={cert}&key={key}&token_file={token}", "certificate"),
        (f"{url}?token_file={token}", "cannot reach"),
        (f"{url}?{mine}&token_file={token}&server_name=other.example", "certificate"),
    ]:
        ill = doctor(refused)
        assert ill.returncode == 1 and why in ill.stdout, (refused, ill.stdout)
        assert TOKEN not in ill.stdout + ill.stderr


def test_half_of_the_protection_is_none(tmp_path: Path) -> None:
    _, cert, key = certificate(tmp_path, "own")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    for given in (["--tls-cert", str(cert), "--tls-key", str(key)], ["--token-file", str(token)]):
        command = [str(BUILT / "discoverd"), "run", "--socket", "none", "--bind", "0.0.0.0:0", *given]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1 and "open to the network" in refused.stderr
