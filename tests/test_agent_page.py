"""The agent's page, in a headless browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from languages import BUILT, PROGRAMS
from servers import Agent
from test_agent_api import WEB, ask
from test_agent_jobs import eventually


@pytest.fixture
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if "chromium" in os.environ.get("DISCOVER_REQUIRE_SERVERS", ""):
        pytest.fail("chromium is required and not installed")
    pytest.skip("chromium is not installed")


def test_the_page_shows_what_comes_and_goes(agents: Callable[..., Agent], browser: str) -> None:
    agent = agents()
    hostile = "<img src=x onerror=alert(1)>"
    ask(agent, "PUT", WEB, {"attributes": {"zone": "eu", "x": hostile}, "ttl_ms": 600_000})
    screenshot = BUILT.parent / "agent-page.png"
    where = f"http://{agent.address}"
    command = ["node", str(PROGRAMS / "page.mjs"), where + "/", browser, str(screenshot)]
    page = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert page.stdin and page.stdout

    def turn(line: str) -> Any:
        assert page.stdin and page.stdout
        page.stdin.write(f"{line}\n")
        page.stdin.flush()
        return json.loads(page.stdout.readline())

    assert page.stdout.readline()
    shown = eventually(lambda: (now := turn("look")) and "127.0.0.1:8080 (leader)" in now["text"] and now)
    assert hostile in shown["text"] and shown["injected"] == 0, "as text, not as HTML"
    assert shown["agent"].startswith("connected") and shown["focused"] == "filter"
    second = "/v1/services/web/instances/127.0.0.1:9"
    ask(agent, "PUT", second, {"attributes": {"health": "draining"}, "ttl_ms": 600_000})
    eventually(lambda: "draining" in turn("look")["text"])
    ask(agent, "DELETE", second)
    gone = eventually(lambda: (now := turn("look")) and "down web 127.0.0.1:9" in now["changes"] and now)
    assert "up web 127.0.0.1:9" in gone["changes"]
    eventually(lambda: "127.0.0.1:9" not in turn("look")["text"])
    assert "127.0.0.1:8080" not in turn("nothing like it")["text"]
    assert "127.0.0.1:8080" in turn("ZONE=EU")["text"]
    agent.kill()
    eventually(lambda: "stale" in turn("look")["text"])
    agent.start()
    last = turn("look")
    assert (last["asked"], last["errors"]) == ([where], []), "it asks this agent alone"
    page.stdin.close()
    assert page.wait(60) == 0
    page.stdout.close()
    assert screenshot.stat().st_size > 5_000
    assert Path(str(screenshot).replace(".png", "-dark.png")).exists()
