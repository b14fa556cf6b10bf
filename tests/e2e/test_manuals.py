"""The manuals document units, errors, threads and ownership of every call."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType

import libdiscover
import pytest
from languages import ROOT
from libdiscover import aio, scalingo

HEADER = (ROOT / "include/discover.h").read_text()
COMMENT = r"/\*\*\n((?: \*[^\n]*\n)*?) \*/\n"
FUNCTIONS = {
    name: (text, parameters)
    for text, name, parameters in re.findall(COMMENT + r"\w[\w *]*?\b(discover_\w+)\(([^;]*)\);", HEADER)
}
TYPES = {name: text for text, name in re.findall(COMMENT + r"typedef struct (\w+) \w+;", HEADER)}
# In TypeScript: a comment before a declaration.
COMMENTED = r"/\*\*((?:(?!\*/).)*)\*/\s+"
# Objects that are only borrowed.
NO_RELEASE = {"discover_event"}
# Python methods that raise nothing.
CANNOT_FAIL = {
    *(f"ServiceSet.{name}" for name in ("done", "leader", "offline", "online", "snapshot", "status")),
    *(f"Service.{name}" for name in ("all", "first", "from_set", "one", "shard")),
    "Host.from_instance",
    "Subscription.cancel",
    "Watch.cancel",
}
# Methods of `libdiscover.aio` that need no reference to the blocking half.
DOCUMENTED_IN_FULL = {"Subscription.cancel", "Watch.cancel"}


def test_every_function_of_the_header_was_found() -> None:
    symbols = (ROOT / "include/symbols.txt").read_text()
    assert FUNCTIONS.keys() == set(re.findall(r"^(discover_\w+) ", symbols, re.MULTILINE))
    assert len(TYPES) >= 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_c_documents_each_parameter(name: str) -> None:
    text, declared = FUNCTIONS[name]
    for parameter in [] if declared == "void" else declared.split(","):
        named = re.split(r"[ *]", parameter.strip())[-1]
        described = re.search(rf"^ \* {named}  +(.*)", text, re.MULTILINE)
        assert described, f"{named} is not described"
        # A pointer has an ownership tag; callbacks and their data are described in prose.
        if "*" in parameter:
            number = r"|\[out\]" if parameter.strip().startswith("uint64_t") else ""
            assert re.match(r"\[(in|out), (borrowed|owned|taken)(, optional)?\]" + number, described[1]), described[1]
        if named.endswith("_ms"):
            assert re.search("when to (give up|stop)|how long|milliseconds", described[1]), described[1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_c_documents_the_ownership_of_each_result(name: str) -> None:
    text, _ = FUNCTIONS[name]
    (returned,) = re.findall(rf"^(\w[^\n]*?){name}\(", HEADER, re.MULTILINE)
    if "*" in returned:
        assert re.search(r"^ \* Returns \[(owned|borrowed)", text, re.MULTILINE), text
        if "[owned]" in text:
            assert re.search(r"Release: discover_\w+\(\)", text), text


@pytest.mark.parametrize("name", TYPES)
def test_c_documents_the_threads_and_the_release_of_each_type(name: str) -> None:
    assert "Threads: " in TYPES[name]
    assert name in NO_RELEASE or re.search(r"Release: discover_\w+\(\)", TYPES[name])


def public_functions(module: ModuleType) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yields the public functions and methods of a module, native ones too."""
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        for member in dir(value) if inspect.isclass(value) and not issubclass(value, Exception) else []:
            method = getattr(value, member)
            if callable(method) and not member.startswith("_"):
                yield f"{name}.{member}", method


@pytest.mark.parametrize("module", [libdiscover, aio, scalingo], ids=lambda module: module.__name__)
def test_python_documents_the_threads_of_each_class(module: ModuleType) -> None:
    classes = [getattr(module, name) for name in module.__all__]
    for value in classes:
        if inspect.isclass(value) and not issubclass(value, Exception):
            assert "Threads: " in (value.__doc__ or ""), value


@pytest.mark.parametrize("module", [libdiscover, aio, scalingo], ids=lambda module: module.__name__)
def test_python_documents_parameters_and_errors(module: ModuleType) -> None:
    for name, function in public_functions(module):
        text = inspect.getdoc(function) or ""
        for parameter in inspect.signature(function).parameters:
            if parameter not in ("self", "named"):
                described = re.search(rf"^    {parameter}: (.*(?:\n     .*)*)", text, re.MULTILINE)
                assert described, f"{name}: {parameter} is not described"
                if parameter in ("timeout", "ttl"):
                    assert re.search(r"seconds|1 s", described[1]), f"{name}: {parameter} has no unit"
        if name not in CANNOT_FAIL:
            assert re.search(r"^Raises:\n    \w+: ", text, re.MULTILINE), name


def test_python_documents_its_units_and_its_errors() -> None:
    for word in ("seconds", "timedelta", "UTC", "`code`", "`retriable`", "Threads:"):
        assert word in (libdiscover.__doc__ or ""), word


def test_aio_refers_to_the_blocking_half() -> None:
    for name, function in public_functions(aio):
        noun, _, member = name.rpartition(".")
        inherited = noun and getattr(getattr(libdiscover, noun), member, None) is function
        # A function that only aio has refers to a similar one.
        only_in_aio = noun and not hasattr(getattr(libdiscover, noun), member)
        target = "libdiscover." if only_in_aio else f"libdiscover.{name}`"
        text = function.__doc__ or ""
        assert f"See `{target}" in text or inherited or name in DOCUMENTED_IN_FULL, name


def test_node_documents_its_units_and_its_errors() -> None:
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
