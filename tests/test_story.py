"""G23: the same story yields the same events in every language, on every backend."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import LANGUAGES, ROOT, command

STORIES = ROOT / "tests/story"
# Two at once as well, of which one has no room for attributes.
LAYOUTS = ("containerpilot", "embassy", "go-micro", "grpc", "kratos", "scalingo", "registrator,native")


def expected(story: str, scheme: str) -> list[str]:
    """What is to be heard, read off the story itself."""
    trace = []
    for line in (STORIES / story).read_text().splitlines():
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


def tell(story: str, language: str, url: str, scratch: Path) -> list[str]:
    told = subprocess.run(
        [*command(language, "tests/story/story", scratch), url],
        env={**os.environ, "STORY": str(STORIES / story)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.splitlines()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["memory", "local", "etcd", "etcd2", "agent", "agent_etcd"])
def test_story(scheme: str, language: str, place: Callable[[str], str], scratch: Path) -> None:
    assert tell("story.txt", language, place(scheme), scratch) == expected("story.txt", scheme)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "registrator"])
@pytest.mark.parametrize("scheme", ["memory", "etcd"])
def test_story_in_each_layout(
    scheme: str, layout: str, language: str, place: Callable[[str], str], scratch: Path
) -> None:
    in_layout(scheme, layout, language, place(scheme), scratch)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("layout", ["containerpilot", "scalingo"])
def test_story_where_those_layouts_come_from(
    layout: str, language: str, place: Callable[[str], str], scratch: Path
) -> None:
    in_layout("etcd2", layout, language, place("etcd2"), scratch)


def in_layout(scheme: str, layout: str, language: str, url: str, scratch: Path) -> None:
    story = "bare.txt" if layout == "registrator" else "story.txt"
    url += f"{'&' if '?' in url else '?'}layout={layout}"
    assert tell(story, language, url, scratch) == expected(story, scheme)
