"""`libdiscover` and `libdiscover.aio` have the same names, and all public names have docstrings."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Tuple

import pytest

import libdiscover
from libdiscover import aio, scalingo

PACKAGE = Path(__file__).parents[1]
STUB = PACKAGE / "python/libdiscover/_native.pyi"

CLASSES = ["Client", "Lease", "ServiceSet", "Subscription", "Watch"]
COROUTINES = {
    "connect",
    "Client.register",
    "Client.close",
    "Lease.heartbeat",
    "Lease.update",
    "Lease.unregister",
    "ServiceSet.wait",
}
ONLY_IN_AIO = {"watch_connection"}
"""Without asyncio, `on_connection` is used instead."""
SYNC_NAMES = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
SPECIAL = set(SYNC_NAMES.values()) | {"__len__", "__bool__"}


def members(owner: Any) -> Dict[str, Any]:
    """Returns the public members of a class; special methods have the names of the synchronous half."""
    names = {SYNC_NAMES.get(name, name): name for name in dir(owner)}
    return {
        name: inspect.getattr_static(owner, own)
        for name, own in names.items()
        if not name.startswith("_") or name in SPECIAL
    }


def parameters(member: Any) -> List[Any]:
    """Returns names, kinds, defaults and types; the type of a property; nothing for a native property."""
    if isinstance(member, property):
        return [member.fget and member.fget.__annotations__]
    if inspect.isgetsetdescriptor(member):
        return []
    signature = inspect.signature(member)
    return [(each.name, each.kind, each.default, each.annotation) for each in signature.parameters.values()]


def without_types(parameters: List[Any]) -> List[Any]:
    """Returns names, kinds and defaults; `self` of a native method has a kind of its own."""
    return [each[:3] for each in parameters if each[0] != "self"]


def stub_types(name: str, member: str) -> List[Tuple[str, str]]:
    """Returns the parameters of a native method and their types, from the stub."""
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == member:
                    declared = [*method.args.args, *method.args.kwonlyargs]
                    return [(each.arg, ast.unparse(each.annotation)) for each in declared if each.annotation]
    raise AssertionError(f"{name}.{member} is not in the stub")


def test_both_have_the_same_names() -> None:
    assert set(aio.__all__) == {*CLASSES, "connect"}
    assert set(aio.__all__) <= set(libdiscover.__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_the_same_members_and_signatures(name: str) -> None:
    sync, awaited = members(getattr(libdiscover, name)), members(getattr(aio, name))
    assert sync.keys() == awaited.keys() - ONLY_IN_AIO
    for member, value in sync.items():
        if not (inspect.ismethoddescriptor(value) or inspect.isgetsetdescriptor(value)):
            assert parameters(value) == parameters(awaited[member]), member
        elif member not in SPECIAL:
            # A native method has no types at runtime; they are in the stub.
            assert without_types(parameters(value)) == without_types(parameters(awaited[member])), member
            if inspect.isfunction(awaited[member]):
                types = [(each[0], each[3]) for each in parameters(awaited[member]) if each[0] != "self"]
                assert types == stub_types(name, member), member


def test_connect_has_the_same_signature() -> None:
    assert parameters(libdiscover.connect) == parameters(aio.connect)


def test_the_calls_that_wait_are_coroutines_and_no_others() -> None:
    functions = {"connect": aio.connect}
    for name in CLASSES:
        public = members(getattr(aio, name)).items()
        functions.update({f"{name}.{member}": value for member, value in public if member not in SPECIAL})
    coroutines = {name for name, value in functions.items() if inspect.iscoroutinefunction(value)}
    assert coroutines == COROUTINES


def docstrings(module: ModuleType) -> Iterator[Tuple[str, str]]:
    """Yields every public name of a module, also those of members, with its docstring."""
    yield module.__name__, module.__doc__ or ""
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, str):
            continue
        yield name, value.__doc__ or ""
        if inspect.isclass(value) and not issubclass(value, Exception):
            for member, of in members(value).items():
                # A field of a dataclass has its docstring in the source only.
                if member not in SPECIAL and value is not libdiscover.Metrics:
                    yield f"{name}.{member}", of.__doc__ or ""


@pytest.mark.parametrize("module", [libdiscover, aio, scalingo], ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module: ModuleType) -> None:
    for name, text in docstrings(module):
        first_sentence = inspect.cleandoc(text).partition("\n\n")[0].partition(". ")[0]
        assert len(first_sentence.split()) >= 2, f"{name}: {text!r}"
        assert not first_sentence.startswith("See "), f"{name}: {text!r}"


def test_the_docstrings_of_the_stub_are_those_of_the_native_module() -> None:
    location = PACKAGE / "stub_docs.py"
    specification = importlib.util.spec_from_file_location("stub_docs", location)
    assert specification is not None and specification.loader is not None
    stub_docs = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(stub_docs)
    assert STUB.read_text() == stub_docs.with_docs(STUB.read_text()), f"run python {location}"
    for node, _ in stub_docs.definitions(ast.parse(STUB.read_text())):
        assert ast.get_docstring(node), node.name
