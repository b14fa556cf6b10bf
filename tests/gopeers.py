"""Programs of other systems, built from tests/peers with the modules that those systems publish."""

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

PATIENCE = 30


def build(folder: str, into: Path) -> Path:
    """The program of tests/peers/FOLDER; a test that cannot have it is skipped, and says why."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        if "go" in os.environ.get("DISCOVER_REQUIRE_SERVERS", "").split():
            pytest.fail("go is required and not installed")
        pytest.skip("go is not installed: no program of another system is met")
    binary = into / folder
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."],
        cwd=ROOT / "tests/peers" / folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    # As Go says that it was refused, or found nobody to ask.
    if built.returncode != 0 and any(s in built.stderr for s in (": reading https://", 'Get "https://')):
        pytest.skip(f"the modules of tests/peers/{folder} cannot be had: {built.stderr}")
    assert built.returncode == 0, built.stderr
    return binary


class Peer:
    """A program of another system, and what it sees."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.lines.get(timeout=PATIENCE) == "registered"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def awaits(self, found: Any) -> Any:
        """Until it sees all of that; gives all that it sees then."""
        return self.until(f"sees {found}", lambda seen: holds(found, seen))

    def awaits_without(self, key: str) -> None:
        self.until(f"sees {key} no more", lambda seen: key not in seen)

    def until(self, what: str, condition: Callable[[Any], bool]) -> Any:
        deadline, seen = time.monotonic() + PATIENCE, "nothing new"
        while (left := deadline - time.monotonic()) > 0:
            try:
                seen = json.loads(self.lines.get(timeout=left))
            except queue.Empty:
                break
            if condition(seen):
                return seen
        raise AssertionError(f"it never {what}; at last it saw {seen}")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def holds(wanted: Any, seen: Any) -> bool:
    """Whether all that is wanted is there, whatever else is."""
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return all(key in seen and holds(value, seen[key]) for key, value in wanted.items())
    return bool(wanted == seen)
