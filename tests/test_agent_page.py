"""The agent's page, as a person sees it in a browser without a screen."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import BUILT, ROOT
from servers import Agent

PAGE = ROOT / "tests/page"
PATIENCE = 150


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if "chromium" in os.environ.get("DISCOVER_REQUIRE_SERVERS", ""):
            pytest.fail("chromium is required and not installed")
        pytest.skip("chromium is not installed")
    if not (PAGE / "node_modules/playwright-core").exists():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=PAGE, check=True)
    return found


def test_the_page_shows_what_is_there_and_what_happens(
    agents: Callable[..., Agent], chromium: str, tmp_path: Path
) -> None:
    agent = agents()
    screenshot = BUILT.parent / "agent-page.png"
    command = ["node", "page.mjs", f"http://{agent.address}/", f"discoverd://{agent.address}"]
    command += [str(BUILT / "discoverd"), chromium, str(screenshot), str(agent.process.pid)]
    seen = look(command, tmp_path)
    assert [line[:3] for line in seen.splitlines()] == ["ok "] * 9, seen
    assert screenshot.stat().st_size > 10_000


def test_the_page_asks_for_the_token(agents: Callable[..., Agent], chromium: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-tests")
    agent = agents(None, "--token-file", str(token))
    look(["node", "token.mjs", f"http://{agent.address}/", token.read_text(), chromium], tmp_path)


def look(command: list[str], home: Path) -> str:
    # Chromium wants a home that is its own.
    environment = {**os.environ, "HOME": str(home)}
    seen = subprocess.run(
        command, cwd=PAGE, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert seen.returncode == 0, seen.stdout + seen.stderr
    return seen.stdout
