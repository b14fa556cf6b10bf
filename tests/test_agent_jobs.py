"""What a configuration file has the agent register and watch, for programs that know nothing of us."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from languages import BUILT
from servers import Agent
from test_agent_api import ask, told

PATIENCE = 30

MEMBERS = """
[[register]]
service = "web"
address = "127.0.0.1:1"
tags = ["a"]
attributes = { v = "1" }

[[register]]
service = "web"
address = ":2"
"""


def eventually(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, "never"
        time.sleep(0.02)  # tidy: sleep, polling a condition with a deadline
    return found


def ids(agent: Agent) -> list[str]:
    return sorted(i["id"] for i in ask(agent, "GET", "/v1/services/web")[1]["instances"])


def test_a_file_registers_and_another_changes_only_what_differs(
    agents: Callable[..., Agent], tmp_path: Path
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(MEMBERS)
    agent = agents(None, "--config", str(file))
    eventually(lambda: ids(agent) == ["127.0.0.1:1", "127.0.0.1:2"])
    (first, _) = sorted(ask(agent, "GET", "/v1/services/web")[1]["instances"], key=lambda i: str(i["id"]))
    assert (first["tags"], first["attributes"]) == (["a"], {"v": "1"})
    events = told(agent, "/v1/services/web/events")
    while next(events)[1] != "status":
        pass
    file.write_text(MEMBERS.replace(":2", ":3"))
    agent.process.send_signal(signal.SIGHUP)
    eventually(lambda: ids(agent) == ["127.0.0.1:1", "127.0.0.1:3"])
    seen = []
    while {"up", "down"} - set(seen):
        seen.append(next(events)[1])
    assert "update" not in seen and seen.count("up") == seen.count("down") == 1
    file.write_text("nonsense")
    agent.process.send_signal(signal.SIGHUP)
    eventually(lambda: "all stays as it was" in Path(agent.log).read_text())
    assert ids(agent) == ["127.0.0.1:1", "127.0.0.1:3"]
    assert agent.stop() == 0
    assert "down" in [name for _, name, _ in events], "deregistered first"


def test_a_command_is_told_what_changed(agents: Callable[..., Agent], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = f'cat >> {seen}; echo " $DISCOVERD_SERVICE $DISCOVERD_UP $DISCOVERD_DOWN $DISCOVERD_ONLINE" >> {seen}'
    file = tmp_path / "agent.toml"
    file.write_text(f"[[watch]]\nservice = 'web'\non_change = ['sh', '-c', '''{script}''']\n")
    agent = agents(None, "--config", str(file))
    web = "/v1/services/web/instances/127.0.0.1:8080"
    ask(agent, "PUT", web, {"ttl_ms": 60_000})
    eventually(lambda: seen.exists() and seen.read_text().count("\n") == 1)
    ask(agent, "DELETE", web)
    lines = eventually(lambda: (read := seen.read_text().splitlines()) and len(read) == 2 and read)
    up, down = (json.loads(line[: line.rindex("}") + 1]) for line in lines)
    assert [i["address"] for i in up["up"]] == ["127.0.0.1:8080"]
    assert [i["address"] for i in down["down"]] == ["127.0.0.1:8080"]
    assert lines[0].endswith(" web 1 0 1") and lines[1].endswith(" web 0 1 0")


def test_a_command_that_takes_too_long_is_killed_and_the_next_change_is_told(
    agents: Callable[..., Agent], tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    watch = "[[watch]]\nservice = 'web'\ntimeout_ms = 200\n"
    file = tmp_path / "agent.toml"
    file.write_text(f"{watch}on_change = ['sh', '-c', 'echo x >> {seen}; sleep 1000']\n")
    agent = agents(None, "--config", str(file))
    for port in (1, 2):
        ask(agent, "PUT", f"/v1/services/web/instances/127.0.0.1:{port}", {"ttl_ms": 60_000})
        eventually(lambda: seen.exists() and seen.read_text() == "x\n" * port)
    eventually(lambda: Path(agent.log).read_text().count("it was killed after 200ms") == 2)


def test_a_member_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    for text, part in [
        ("[[register]]\nservice = 'w b'\naddress = ':1'\n", "service name"),
        ("[[register]]\nservice = 'web'\naddress = ':1'\ncheck = {}\n", "one of tcp, http and exec"),
        ("[[watch]]\nservice = 'web'\n", "on_change"),
    ]:
        file.write_text(text)
        command = [str(BUILT / "discoverd"), "run", "--bind", "127.0.0.1:0", "--socket", "none"]
        run = subprocess.run([*command, "--config", str(file)], capture_output=True, text=True, timeout=PATIENCE)
        assert run.returncode == 1 and part in run.stderr, run.stderr
