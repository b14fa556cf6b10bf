"""G23: the same script yields the same events in every language, on every backend."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import LANGUAGES, ROOT, command

STORIES = ROOT / "tests/story"
# The last entry is two layouts at once, of which one cannot store attributes.
LAYOUTS = ("containerpilot", "embassy", "go-micro", "grpc", "kratos", "scalingo", "registrator,native")


def expected(story: str, scheme: str) -> list[str]:
    """Returns the expected output, which is part of the script."""
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


def run_story(story: str, language: str, url: str, scratch: Path) -> list[str]:
    result = subprocess.run(
        [*command(language, "tests/story/story", scratch), url],
        env={**os.environ, "STORY": str(STORIES / story)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "scheme", ["memory", "local", "etcd", "grpc-proxy", "gateway", "etcd2", "agent", "agent_etcd"]
)
def test_story(scheme: str, language: str, place: Callable[[str], str], scratch: Path) -> None:
    assert run_story("story.txt", language, place(scheme), scratch) == expected("story.txt", scheme)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "registrator"])
@pytest.mark.parametrize("scheme", ["memory", "etcd"])
def test_story_in_each_layout(
    scheme: str, layout: str, language: str, place: Callable[[str], str], scratch: Path
) -> None:
    run_in_layout(scheme, layout, language, place(scheme), scratch)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("layout", ["containerpilot", "scalingo"])
def test_story_with_layouts_of_etcd_v2(
    layout: str, language: str, place: Callable[[str], str], scratch: Path
) -> None:
    run_in_layout("etcd2", layout, language, place("etcd2"), scratch)


def run_in_layout(scheme: str, layout: str, language: str, url: str, scratch: Path) -> None:
    story = "bare.txt" if layout == "registrator" else "story.txt"
    url += f"{'&' if '?' in url else '?'}layout={layout}"
    assert run_story(story, language, url, scratch) == expected(story, scheme)
