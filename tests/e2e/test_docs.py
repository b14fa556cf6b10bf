"""Every test, file and link that a document cites exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from languages import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tests").glob("*/README.md"), ROOT / "bench/README.md"])
# File names in the documents are relative to one of these folders.
FOLDERS = ["", "core/tests", "core/src", "ffi/tests/c", "ffi/tests", "tests/e2e", "bindings/python/tests", "bindings/node/test"]
SOURCE = r"[\w/.]+\.(?:rs|py|c|cc|mjs|sh)"


def names(documents: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in documents]


def find(name: str) -> Path | None:
    candidates = (ROOT / folder / name for folder in FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def citations(text: str) -> Iterator[tuple[str, str]]:
    """Yields file and test of `file.rs: test`, and of further tests of the same file: `file.rs: test`, `test`."""
    for line in text.splitlines():
        file = ""
        for quoted in re.findall(r"`([^`]+)`", line):
            match = re.fullmatch(rf"({SOURCE}): (\w+)", quoted)
            if match:
                file = match[1]
                yield file, match[2]
            elif re.fullmatch(r"[a-z0-9]+(?:_[a-z0-9]+){3,}", quoted) and file.endswith(".rs"):
                yield file, quoted
            elif re.fullmatch(SOURCE, quoted):
                file = ""


@pytest.mark.parametrize("document", names(DOCUMENTS))
def test_cited_tests_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for file, test in citations(text):
        path = find(file)
        assert path is not None, f"{document}: there is no file {file}"
        assert re.search(rf"\b{test}\b", path.read_text()), f"{document}: {file} has no test {test}"


@pytest.mark.parametrize("document", ["docs/guarantees.md", "docs/layouts.md", "docs/architecture.md", "SECURITY.md"])
def test_cited_files_exist(document: str) -> None:
    for quoted in re.findall(rf"`({SOURCE})(?:: \w+)?`", (ROOT / document).read_text()):
        folder_of_architecture = [path for path in (ROOT / "core/src").rglob("*.rs") if str(path).endswith("/" + quoted)]
        agent = [path for path in (ROOT / "agent").rglob("*.rs") if str(path).endswith("/" + quoted)]
        assert find(quoted) or folder_of_architecture or agent, f"{document}: there is no file {quoted}"


@pytest.mark.parametrize("document", names(DOCUMENTS))
def test_links_lead_somewhere(document: str) -> None:
    base = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / document).read_text()):
        if not target.startswith("http"):
            assert (base / target).exists(), f"{document}: {target}"
