"""Every language has the same public names: the public names and the table in parity.toml agree."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

PARITY = Path(__file__).parents[1] / "parity"
sys.path.insert(0, str(PARITY))

import surface  # noqa: E402

TABLE = tomllib.loads((PARITY / "parity.toml").read_text())
NOUNS = TABLE["nouns"]
LANGUAGES = TABLE["languages"]
SECTIONS = {name: rows for name, rows in TABLE.items() if name not in ("languages", "nouns", "only")}


def cased(form: str, name: str) -> str:
    words = name.split("_")
    pascal = "".join(word.capitalize() for word in words)
    cases = {"snake": name, "UPPER": name.upper(), "Pascal": pascal, "camel": words[0] + pascal[len(words[0]) :]}
    for case, cased_name in cases.items():
        form = form.replace("{%s}" % case, cased_name)
    return form


def names(language: str, section: str) -> Iterator[str]:
    """Yields all names of a section in one language."""
    for row, cells in SECTIONS[section].items():
        yield from row_names(language, section, row, cells.get(language, row))


def row_names(language: str, section: str, row: str, cell: Any) -> list[str]:
    """Returns the names of one row in one language."""
    if isinstance(cell, dict):
        assert cell.keys() == {"none"} and cell["none"], f"{section}, {row}: {language} has no reason"
        return []
    cells = [cell] if isinstance(cell, str) else cell
    return [name for each in cells for name in qualified(language, section, each)]


def qualified(language: str, section: str, name: str) -> list[str]:
    if name.startswith("="):
        return [name[1:]]
    noun, _, verb = section.partition(".")
    place = NOUNS[noun][language]
    if isinstance(place, dict):
        return []
    form = place if "{" in place else LANGUAGES[language].replace("{class}", place)
    if not verb:
        return [cased(form, name)]
    # An option of a verb. If the verb has several names, each of them has the option.
    verb = verb.removesuffix("()")
    cell = SECTIONS[noun][verb].get(language, verb)
    return [f"{owner}({cased('{snake}', name)})" for owner in row_names(language, noun, verb, cell)]


def expected(language: str) -> set[str]:
    all_names = {name for section in SECTIONS for name in names(language, section)}
    classes = [noun[language] for noun in NOUNS.values() if isinstance(noun[language], str)]
    return all_names | {name for name in classes if "{" not in name}


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    return {
        "c": surface.c(),
        "cpp": surface.cpp(tmp_path_factory.mktemp("doxygen")),
        "python": surface.python() | surface.python_values(),
        "aio": surface.python_aio(),
        "node": surface.node(),
        "rust": surface.rust(),
    }


def unexplained(language: str, public: set[str]) -> list[str]:
    """Returns the public names that are neither in the table nor in the section of the language."""
    own = TABLE["only"].get(language, {})
    unknown = public - expected(language)
    return sorted(name for name in unknown if not any(fnmatchcase(name, pattern) for pattern in own))


def missing(language: str, public: set[str]) -> list[str]:
    return sorted(expected(language) - public)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_public_name_is_in_the_table(language: str, surfaces: dict[str, set[str]]) -> None:
    assert unexplained(language, surfaces[language]) == []
    unknown = surfaces[language] - expected(language)
    own = TABLE["only"].get(language, {})
    stale = [pattern for pattern in own if not any(fnmatchcase(name, pattern) for name in unknown)]
    assert not stale, f"parity.toml explains names that do not exist: {stale}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_name_of_the_table_is_public(language: str, surfaces: dict[str, set[str]]) -> None:
    assert missing(language, surfaces[language]) == []


@pytest.mark.parametrize(
    ("language", "new", "old"),
    [
        ("c", "discover_client_ping", "discover_set_wait(timeout_ms)"),
        ("cpp", "client::ping", "lease::update"),
        ("python", "Client.register(weight)", "Client.close(timeout)"),
        ("aio", "ServiceSet.changes", "Watch.cancel"),
        ("node", "Client.onState", "ServiceSet.wait(signal)"),
        ("rust", "Status::confirmed", "Event::Stale"),
    ],
)
def test_a_difference_on_either_side_is_found(
    language: str, new: str, old: str, surfaces: dict[str, set[str]]
) -> None:
    public = surfaces[language]
    assert unexplained(language, public | {new}) == [new]
    assert missing(language, public - {old}) == [old]


def test_every_row_has_known_languages_and_every_section_a_noun() -> None:
    for section, rows in SECTIONS.items():
        assert section.partition(".")[0] in NOUNS
        for row, cells in rows.items():
            assert cells.keys() <= LANGUAGES.keys(), f"{section}, {row}"
    for noun, places in NOUNS.items():
        assert places.keys() == LANGUAGES.keys(), noun
