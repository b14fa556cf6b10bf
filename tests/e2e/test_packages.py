"""The packages install from this tree with pip and npm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from languages import ROOT


def test_pip_install_in_a_fresh_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = str(tmp_path / "env/bin/python")
    # A debug build, so that the build of the tests is reused.
    environment = {**os.environ, "MATURIN_PEP517_ARGS": "--profile dev"}
    install = [python, "-m", "pip", "install", "--quiet", str(ROOT / "bindings/python")]
    subprocess.run(install, env=environment, check=True)
    program = "import libdiscover; print(libdiscover.connect('memory://x').services('web').online())"
    done = subprocess.run(
        [python, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "()\n", done.stderr


def test_npm_install_in_a_fresh_folder(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true}')
    install = ["npm", "install", "--no-audit", "--no-fund", str(ROOT / "bindings/node")]
    environment = {**os.environ, "LIBDISCOVER_BUILD_PROFILE": "dev"}
    subprocess.run(install, cwd=tmp_path, env=environment, check=True, capture_output=True)
    program = (
        "const { connect } = require('libdiscover');"
        "connect('memory://x').then(async (client) => {"
        "  console.log((await client.services('web').wait(0, { timeout: 9000 })).length);"
        "  await client.close();"
        "});"
    )
    done = subprocess.run(
        ["node", "-e", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0\n", done.stderr
