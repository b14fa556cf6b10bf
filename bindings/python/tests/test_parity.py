"""The two halves offer the same: one awaits what the other waits for."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List

import pytest

import libdiscover
from libdiscover import aio

CLASSES = ["Client", "Lease", "ServiceSet", "Subscription", "Watch"]
AWAITED = {
    "connect",
    "Client.register",
    "Client.close",
    "Lease.heartbeat",
    "Lease.update",
    "Lease.unregister",
    "ServiceSet.wait",
}
ONLY_AWAITED = {"watch_connection"}
"""Who does not await has the callback."""
ITERATES = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
PROTOCOL = set(ITERATES.values()) | {"__len__", "__bool__"}


def members(owner: Any) -> Dict[str, Any]:
    """The public members of a class, its special methods by the name of the sync half."""
    names = {ITERATES.get(name, name): name for name in dir(owner)}
    return {
        name: inspect.getattr_static(owner, own)
        for name, own in names.items()
        if not name.startswith("_") or name in PROTOCOL
    }


def parameters(member: Any) -> List[Any]:
    """Names, kinds, defaults and types; a property has none, and a native one not even a type."""
    if isinstance(member, property):
        return [member.fget and member.fget.__annotations__]
    if inspect.isgetsetdescriptor(member):
        return []
    signature = inspect.signature(member)
    return [(each.name, each.kind, each.default, each.annotation) for each in signature.parameters.values()]


def test_both_have_the_same_names() -> None:
    assert set(aio.__all__) == {*CLASSES, "connect"}
    assert set(aio.__all__) <= set(libdiscover.__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_the_same_members_and_signatures(name: str) -> None:
    sync, awaited = members(getattr(libdiscover, name)), members(getattr(aio, name))
    assert sync.keys() == awaited.keys() - ONLY_AWAITED
    if name == "Subscription":  # The sync one is native, which has no annotations to compare.
        return
    for member in sync:
        assert parameters(sync[member]) == parameters(awaited[member]), member


def test_connect_has_the_same_signature() -> None:
    assert parameters(libdiscover.connect) == parameters(aio.connect)


def test_what_waits_is_awaited_and_nothing_else() -> None:
    functions = {"connect": aio.connect}
    for name in CLASSES:
        public = members(getattr(aio, name)).items()
        functions.update({f"{name}.{member}": value for member, value in public if member not in PROTOCOL})
    coroutines = {name for name, value in functions.items() if inspect.iscoroutinefunction(value)}
    assert coroutines == AWAITED


def test_everything_public_says_what_it_does() -> None:
    for module in (libdiscover, aio):
        assert module.__doc__
        for name in module.__all__:
            value = getattr(module, name)
            assert isinstance(value, str) or value.__doc__, name
            if inspect.isclass(value) and value.__module__.startswith("libdiscover"):
                documented = members(value).items() if not issubclass(value, Exception) else []
                missing = [member for member, of in documented if member not in PROTOCOL and not of.__doc__]
                assert not missing, f"{name}: {missing}"
