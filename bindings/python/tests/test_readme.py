"""The code blocks of the README run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SECONDS

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_block_of_the_readme_runs(block: str, local: str) -> None:
    environment = {**os.environ, "DISCOVER_URL": local}
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", block]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_readme_has_its_blocks() -> None:
    assert len(BLOCKS) == 3
