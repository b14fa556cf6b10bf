"""Programs of other systems, built from tests/peers with the Go modules that these systems publish."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from languages import ROOT

TIMEOUT = 30


def build(folder: str, into: Path) -> Path:
    """Builds the program of tests/peers/FOLDER. If Go or the modules are not available, the test is skipped."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        if "go" in os.environ.get("DISCOVER_REQUIRE_SERVERS", "").split():
            pytest.fail("go is required and not installed")
        pytest.skip("go is not installed: programs of other systems are NOT tested")
    binary = into / folder
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."],
        cwd=ROOT / "tests/peers" / folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    # Go failed to download a module.
    if built.returncode != 0 and any(s in built.stderr for s in (": reading https://", 'Get "https://')):
        pytest.skip(f"the modules of tests/peers/{folder} are not available: {built.stderr}")
    assert built.returncode == 0, built.stderr
    return binary


class Peer:
    """A running program of another system, which prints its view of the service as JSON on each change."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.lines.get(timeout=TIMEOUT) == "registered"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def wait_for(self, expected: Any) -> Any:
        """Waits until its view contains `expected`, and returns the view."""
        return self.wait_until(f"view contains {expected}", lambda view: contains(expected, view))

    def wait_without(self, key: str) -> None:
        """Waits until its view does not contain the key."""
        self.wait_until(f"view does not contain {key}", lambda view: key not in view)

    def wait_until(self, description: str, condition: Callable[[Any], bool]) -> Any:
        """Waits until `condition` is true for its view, and returns the view."""
        deadline, view = time.monotonic() + TIMEOUT, "no new view"
        while (left := deadline - time.monotonic()) > 0:
            try:
                view = json.loads(self.lines.get(timeout=left))
            except queue.Empty:
                break
            if condition(view):
                return view
        raise AssertionError(f"timeout: {description}; the last view is {view}")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def contains(expected: Any, view: Any) -> bool:
    """Returns true if the view has all keys and values of `expected`, at all levels."""
    if isinstance(expected, dict) and isinstance(view, dict):
        return all(key in view and contains(value, view[key]) for key, value in expected.items())
    return bool(expected == view)
