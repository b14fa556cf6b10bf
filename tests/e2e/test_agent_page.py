"""The web page of the agent, in a headless browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import BUILT
from servers import Agent

PAGE = Path(__file__).parent / "page"
TIMEOUT = 150


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


def test_the_page_shows_the_instances_and_their_changes(
    agents: Callable[..., Agent], chromium: str, tmp_path: Path
) -> None:
    agent = agents()
    screenshot = BUILT.parent / "agent-page.png"
    command = ["node", "page.mjs", f"http://{agent.address}/", f"discoverd://{agent.address}"]
    command += [str(BUILT / "discoverd"), chromium, str(screenshot), str(agent.process.pid)]
    output = run_page_test(command, tmp_path)
    assert [line[:3] for line in output.splitlines()] == ["ok "] * 11, output
    assert screenshot.stat().st_size > 10_000


def test_the_page_requires_the_token(agents: Callable[..., Agent], chromium: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-tests")
    agent = agents(None, "--token-file", str(token))
    run_page_test(["node", "token.mjs", f"http://{agent.address}/", token.read_text(), chromium], tmp_path)


def run_page_test(command: list[str], home: Path) -> str:
    # Chromium needs a home directory that it may write to.
    environment = {**os.environ, "HOME": str(home)}
    result = subprocess.run(
        command, cwd=PAGE, env=environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
