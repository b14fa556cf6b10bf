"""The manuals say of each call what a caller must know: units, errors, threads, and who releases what."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import libdiscover
import pytest
from languages import ROOT
from libdiscover import aio

HEADER = (ROOT / "include/discover.h").read_text()
COMMENT = r"/\*\*\n((?: \*[^\n]*\n)*?) \*/\n"
FUNCTIONS = {
    name: (text, parameters)
    for text, name, parameters in re.findall(COMMENT + r"\w[\w *]*?\b(discover_\w+)\(([^;]*)\);", HEADER)
}
TYPES = {name: text for text, name in re.findall(COMMENT + r"typedef struct (\w+) \w+;", HEADER)}
# In TypeScript: a comment, and what it stands before.
COMMENTED = r"/\*\*((?:(?!\*/).)*)\*/\s+"
# What is only lent.
NO_RELEASE = {"discover_event"}


def test_all_of_the_header_was_read() -> None:
    symbols = (ROOT / "include/symbols.txt").read_text()
    assert FUNCTIONS.keys() == set(re.findall(r"^(discover_\w+) ", symbols, re.MULTILINE))
    assert len(TYPES) >= 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_c_says_what_each_parameter_is(name: str) -> None:
    text, declared = FUNCTIONS[name]
    for parameter in [] if declared == "void" else declared.split(","):
        named = re.split(r"[ *]", parameter.strip())[-1]
        said = re.search(rf"^ \* {named}  +(.*)", text, re.MULTILINE)
        assert said, f"{named} is not spoken of"
        # A pointer has its word on who owns it; callbacks and their data are told in words.
        if "*" in parameter:
            number = r"|\[out\]" if parameter.strip().startswith("uint64_t") else ""
            assert re.match(r"\[(in|out), (borrowed|owned|taken)(, optional)?\]" + number, said[1]), said[1]
        if named.endswith("_ms"):
            assert re.search("when to (give up|stop)|how long|milliseconds", said[1]), said[1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_c_says_who_owns_what_it_returns(name: str) -> None:
    text, _ = FUNCTIONS[name]
    (returned,) = re.findall(rf"^(\w[^\n]*?){name}\(", HEADER, re.MULTILINE)
    if "*" in returned:
        assert re.search(r"^ \* Returns \[(owned|borrowed)", text, re.MULTILINE), text
        if "[owned]" in text:
            assert re.search(r"Release: discover_\w+\(\)", text), text


@pytest.mark.parametrize("name", TYPES)
def test_c_says_of_each_type_its_threads_and_its_release(name: str) -> None:
    assert "Threads: " in TYPES[name]
    assert name in NO_RELEASE or re.search(r"Release: discover_\w+\(\)", TYPES[name])


def public_functions(module: Any) -> Iterator[tuple[str, Callable[..., object]]]:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        for member, of in vars(value).items() if inspect.isclass(value) else []:
            if inspect.isfunction(of) and not member.startswith("_"):
                yield f"{name}.{member}", of


@pytest.mark.parametrize("module", [libdiscover, aio])
def test_python_says_of_each_class_its_threads(module: Any) -> None:
    classes = [getattr(module, name) for name in module.__all__]
    for one in classes:
        if inspect.isclass(one) and not issubclass(one, Exception):
            assert "Threads: " in (one.__doc__ or ""), one


def test_python_says_its_units_and_its_errors() -> None:
    for word in ("seconds", "timedelta", "UTC", "`code`", "`retriable`", "Threads:"):
        assert word in (libdiscover.__doc__ or ""), word
    for name, function in public_functions(libdiscover):
        text = function.__doc__ or ""
        for parameter in inspect.signature(function).parameters:
            if parameter in ("timeout", "ttl"):
                assert f"`{parameter}`" in text, f"{name}: {parameter}"
        # What can fail says how.
        if name not in ("Watch.cancel", "ServiceSet.offline"):
            assert re.search(r"^ *Raises \w+", text, re.MULTILINE), name


def test_aio_says_it_itself_or_where_it_is_said() -> None:
    for name, function in public_functions(aio):
        text = function.__doc__ or ""
        # What only aio has refers to what it is like.
        noun, _, member = name.rpartition(".")
        own = noun and not hasattr(getattr(libdiscover, noun), member)
        said = "libdiscover." if own else f"libdiscover.{name}`"
        assert f"See `{said}" in text or f"see `{said}" in text or "cancel" in name


def test_node_says_its_units_and_its_errors() -> None:
    names = ("client", "lease", "set", "types", "index")
    sources = {name: (ROOT / f"bindings/node/ts/{name}.ts").read_text() for name in names}
    for word in ("milliseconds", "DiscoverError", "Threads", "event loop", "worker"):
        assert word in sources["index"], word
    times = re.findall(COMMENTED + r"(timeout|ttl)\??:", sources["types"], re.DOTALL)
    assert len(times) >= 4
    for text, name in times:
        assert "milliseconds" in text, f"{name}: {text}"
    for source in ("client", "lease", "set"):
        waits = re.findall(COMMENTED + r"(?:export )?async (?:function )?(\w+)", sources[source], re.DOTALL)
        assert waits
        for text, name in waits:
            assert "ERR_DISCOVER_" in text, name
