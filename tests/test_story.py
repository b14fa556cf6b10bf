"""G23: the same story yields the same events in every language, on every backend."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import LANGUAGES, ROOT, command

STORY = ROOT / "tests/story/story.txt"


def expected(scheme: str) -> list[str]:
    """What is to be heard, read off the story itself."""
    trace = []
    for line in STORY.read_text().splitlines():
        step = line.strip()
        if step.startswith("+ "):
            if scheme == "memory":
                continue
            step = step[2:]
        if step.startswith("hear "):
            trace.append(step.removeprefix("hear "))
        elif step == "silence":
            trace.append(step)
    return trace


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["memory", "local", "etcd", "etcd2", "agent", "agent_etcd"])
def test_story(scheme: str, language: str, place: Callable[[str], str], scratch: Path) -> None:
    told = subprocess.run(
        [*command(language, "tests/story/story", scratch), place(scheme)],
        env={**os.environ, "STORY": str(STORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == expected(scheme)
